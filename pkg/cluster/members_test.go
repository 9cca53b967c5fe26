package cluster_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

var workerA = cluster.Worker{
	ID: "a-1", Name: "a", Address: "127.0.0.1:7701", Lanes: 2, Build: "v1",
	Functions: []cluster.Function{{Name: "F", Mode: "Calculate", In: "<int>", Out: "int"}},
	Started:   time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
}

// leaseTime is a lease whose end a test waits for. It is longer than a renewal takes on a busy machine.
const leaseTime = 3 * time.Second

func followWorkers(t *testing.T, s *cluster.Store) *following[map[string]cluster.Worker] {
	t.Helper()
	return startFollowing(t, s.FollowWorkers)
}

func has(ids ...string) func(map[string]cluster.Worker) bool {
	return func(workers map[string]cluster.Worker) bool {
		for _, id := range ids {
			if _, there := workers[id]; !there {
				return false
			}
		}
		return len(workers) == len(ids)
	}
}

// register registers until the test ends. The default TTL is longer than any outage of etcd in the tests.
func register(t *testing.T, s *cluster.Store, id string, ttl time.Duration) *cluster.Registration[cluster.Worker] {
	t.Helper()
	w := workerA
	w.ID = id
	r, err := s.RegisterWorker(t.Context(), w, ttl)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(context.Background()) }) // etcd may be away
	return r
}

func testWorker(t *testing.T, s *server) {
	store, other := s.open(t, cluster.Config{}), s.open(t, cluster.Config{})
	follower := followWorkers(t, other)
	if first := <-follower.states; first == nil || len(first) != 0 {
		t.Errorf("shown at first, of nobody: %v", first)
	}
	r := register(t, store, workerA.ID, 0)
	got := follower.await(t, "the worker", has(workerA.ID))
	want := workerA
	if want.Created = got[workerA.ID].Created; want.Created == 0 {
		t.Error("when it was created is not known")
	}
	if diff := cmp.Diff(want, got[workerA.ID]); diff != "" {
		t.Errorf("followed (-want +got):\n%s", diff)
	}
	_, err := other.RegisterWorker(t.Context(), workerA, 0)
	wantCode(t, err, batch.CodeConflict, "workers/a-1", "make another id")

	w := workerA
	w.Draining = true
	if err := r.Update(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	follower.await(t, "draining", func(workers map[string]cluster.Worker) bool { return workers[w.ID].Draining })
	if err := r.Err(); err != nil {
		t.Errorf("lost: %v", err)
	}

	if err := other.RemoveWorker(t.Context(), w.ID); err != nil {
		t.Fatal(err)
	}
	awaitClosed(t, "Lost after RemoveWorker", r.Lost())
	wantCode(t, r.Err(), batch.CodeNotFound, "workers/a-1", "somebody removed it", "new id")
	wantCode(t, r.Update(t.Context(), w), batch.CodeNotFound, "workers/a-1")
	follower.await(t, "nobody", has())
	if err := other.RemoveWorker(t.Context(), w.ID); err != nil {
		t.Errorf("removed twice: %v", err)
	}

	r2 := register(t, store, "a-2", 0)
	follower.await(t, "the next id", has("a-2"))
	for range 2 {
		if err := r2.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	follower.await(t, "nobody", has())
	if err := r2.Err(); err != nil {
		t.Errorf("Close is taken for a loss: %v", err)
	}
	for _, id := range []string{"", "a/b"} {
		_, err := store.RegisterWorker(t.Context(), cluster.Worker{ID: id}, 0)
		wantCode(t, err, batch.CodeInternal, "name")
		wantCode(t, store.RemoveWorker(t.Context(), id), batch.CodeInternal, "name")
	}
}

func testCoordinators(t *testing.T, s *server) {
	store := s.open(t, cluster.Config{})
	want := cluster.Coordinator{ID: "c-1", Address: "127.0.0.1:7700", HTTP: "127.0.0.1:7702", Build: "v1", Started: workerA.Started}
	r, err := store.RegisterCoordinator(t.Context(), want, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	follower := startFollowing(t, store.FollowCoordinators)
	got := follower.await(t, "the coordinator", func(all map[string]cluster.Coordinator) bool { return len(all) == 1 })
	if diff := cmp.Diff(map[string]cluster.Coordinator{"c-1": want}, got); diff != "" {
		t.Errorf("followed (-want +got):\n%s", diff)
	}
	want.Leader = true
	if err := r.Update(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	follower.await(t, "a leader", func(all map[string]cluster.Coordinator) bool { return all["c-1"].Leader })
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	follower.await(t, "nobody", func(all map[string]cluster.Coordinator) bool { return len(all) == 0 })
}

func testUnreadableWorker(t *testing.T, s *server) {
	log := newJournal()
	store, raw := s.open(t, cluster.Config{Logger: log}), s.raw(t)
	follower := followWorkers(t, store)
	put(t, raw, prefix(t)+"workers/bad", `{"id": 5`)
	put(t, raw, prefix(t)+"workers/other", `{"id": "renamed", "address": "x", "unknown": {"newer": "build"}}`)
	got := follower.await(t, "the readable one", has("other"))
	if got["other"].ID != "other" || got["other"].Address != "x" {
		t.Errorf("its key does not decide its id: %v", got)
	}
	put(t, raw, prefix(t)+"workers/nowhere", `{"id": "nowhere"}`)
	put(t, raw, prefix(t)+"workers/bad", `{"id": "bad", "address": "y"}`)
	follower.await(t, "the corrected one", has("other", "bad"))
	if n := log.count("skipping"); n != 2 || log.count("it has no address") != 1 {
		t.Errorf("%d reports, want 2:\n%s", n, log.text)
	}
}

func testLeaseRevoked(t *testing.T, s *server) {
	store, raw := s.open(t, cluster.Config{}), s.raw(t)
	r := register(t, store, "a-1", 0)
	got, err := raw.Get(t.Context(), prefix(t)+"workers/a-1")
	if err != nil || len(got.Kvs) != 1 {
		t.Fatal(got, err)
	}
	if _, err := raw.Revoke(t.Context(), clientv3.LeaseID(got.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	awaitClosed(t, "Lost after the lease", r.Lost())
	wantCode(t, r.Err(), batch.CodeNotFound)
	if err := r.Close(t.Context()); err != nil {
		t.Errorf("closing after that: %v", err)
	}
}

// A worker that is cut off finds out by itself, and the others find out by its lease.
func testPartition(t *testing.T, s *server) {
	p := s.line(t)
	cutOff, rest := s.open(t, cluster.Config{Endpoints: []string{p.address}, Network: p.network}), s.open(t, cluster.Config{})
	follower := followWorkers(t, rest)
	r := register(t, cutOff, "a-1", leaseTime)
	follower.await(t, "the worker", has("a-1"))
	p.cut()
	awaitClosed(t, "Lost in a partition", r.Lost())
	wantCode(t, r.Err(), batch.CodeUnavailable, "not renewed", "new id")
	follower.await(t, "its lease running out", has())
	wantCode(t, r.Update(t.Context(), workerA), batch.CodeUnavailable, "not renewed")
	_, _, err := cutOff.Documents(t.Context())
	wantCode(t, err, batch.CodeUnavailable, p.address, "check that it runs")
	p.mend()
	if err := cutOff.Wait(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.Update(t.Context(), workerA), batch.CodeUnavailable, "not renewed")
	_, err = r.Resume(t.Context())
	wantCode(t, err, batch.CodeNotFound, "new id")
	register(t, cutOff, "a-2", 0)
	follower.await(t, "the worker's next id", has("a-2"))
}

func testOutage(t *testing.T, s *server) {
	store := s.open(t, cluster.Config{})
	follower := followWorkers(t, store)
	r := register(t, store, "a-1", leaseTime)
	patient := register(t, s.open(t, cluster.Config{Timeout: time.Hour}), "a-2", leaseTime)
	follower.await(t, "the workers", has("a-1", "a-2"))
	s.stop(t)
	awaitClosed(t, "Lost in an outage", r.Lost())
	wantCode(t, r.Err(), batch.CodeUnavailable)
	_, err := r.Resume(t.Context())
	wantCode(t, err, batch.CodeUnavailable, s.address)
	// A Resume fails with its first try, however long it may take: it does not keep a processor busy with tries.
	awaitClosed(t, "Lost in an outage", patient.Lost())
	_, err = patient.Resume(t.Context())
	wantCode(t, err, batch.CodeUnavailable, s.address)
	_, err = store.RegisterWorker(t.Context(), workerA, 0)
	wantCode(t, err, batch.CodeUnavailable, s.address)
	s.start(t)
	if err := store.Wait(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	// A member that starts again gives leases their whole time anew.
	again, err := r.Resume(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Update(t.Context(), workerA); err != nil {
		t.Error(err)
	}
	follower.await(t, "the same id", has("a-1"))
	s.stop(t)
	awaitClosed(t, "Lost in another outage", again.Lost())
	if err := again.Close(t.Context()); batch.CodeOf(err) != batch.CodeUnavailable {
		t.Errorf("closing without etcd: %v", err)
	}
}

// A Registration and several Follows live through a restart, and tell of it once.
func testRestart(t *testing.T, s *server) {
	log := newJournal()
	store, raw := s.open(t, cluster.Config{Logger: log}), s.raw(t)
	r := register(t, store, "a-1", time.Minute)
	workers, files := followWorkers(t, store), followDocuments(t, store)
	workers.await(t, "the worker", has("a-1"))
	put(t, raw, prefix(t)+"config/flow/A", "1")
	files.await(t, "A", func(d documents) bool { return len(d.all) == 1 })
	s.stop(t)
	log.await(t, 1, "out of reach")
	s.start(t)
	revision := put(t, raw, prefix(t)+"config/flow/B", "1")
	got := files.await(t, "B", func(d documents) bool { return d.revision >= revision && len(d.all) == 2 })
	if want := []string{"flow/A", "flow/B"}; !slices.Equal(got.names(), want) {
		t.Errorf("after a restart: %v", got.names())
	}
	w := workerA
	w.Draining = true
	if err := r.Update(t.Context(), w); err != nil {
		t.Errorf("update after a restart: %v", err)
	}
	workers.await(t, "the update", func(all map[string]cluster.Worker) bool { return all["a-1"].Draining })
	if err := r.Err(); err != nil {
		t.Errorf("lost: %v", err)
	}
	log.await(t, 1, "in reach again")
	if away, back := log.count("out of reach"), log.count("in reach again"); away != 1 || back != 1 {
		t.Errorf("told %d times that etcd is away, %d times that it is back:\n%s", away, back, log.text)
	}
}
