package worker_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

func inSession(all map[string]cluster.Worker) bool {
	for _, w := range all {
		if w.Session == cluster.SessionLiving {
			return true
		}
	}
	return false
}

// TestNameIsTheAddress starts two workers that nobody gave a name: each has its own.
func TestNameIsTheAddress(t *testing.T) {
	etcd := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{})
	for range 2 {
		start(t, etcd.Address(), func(c *worker.Config) { c.Name = "" })
	}
	members := follow(t, etcd.Address())
	members.await("two workers", func(all map[string]cluster.Worker) bool {
		names := map[string]bool{}
		for id, w := range all {
			if w.Name != w.Address || !strings.HasPrefix(id, w.Address+"-") {
				t.Errorf("worker %s at %s has the name %q", id, w.Address, w.Name)
			}
			names[w.Name] = true
		}
		return len(names) == 2
	})
}

// TestNameOfALivingWorker refuses a worker whose name is that of one with a session, and leaves that one alone.
func TestNameOfALivingWorker(t *testing.T) {
	etcd := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{})
	first := start(t, etcd.Address(), nil)
	members := follow(t, etcd.Address())
	record := members.awaitWorker()
	s := dial(t, record)
	members.await("the record says so", inSession)
	second := start(t, etcd.Address(), nil)
	select {
	case err := <-second.ran:
		if batch.CodeOf(err) != batch.CodeConflict || !strings.Contains(err.Error(), record.ID) || !strings.Contains(err.Error(), "--name") {
			t.Errorf("refused with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("it is not refused")
	}
	s.double(1, 5)
	if first.ID() != record.ID {
		t.Errorf("the first one is %s now", first.ID())
	}
}

// TestNameOfAWorkerWithoutSession takes the place of a worker that no coordinator has a session with; that one does not take it
// back.
func TestNameOfAWorkerWithoutSession(t *testing.T) {
	etcd := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{})
	first := start(t, etcd.Address(), nil)
	members := follow(t, etcd.Address())
	before := members.awaitWorker()
	second := start(t, etcd.Address(), nil)
	members.await("the second one takes the place of the first", func(all map[string]cluster.Worker) bool {
		return len(all) == 1 && second.ID() != "" && all[second.ID()].ID != ""
	})
	if err := <-first.ran; batch.CodeOf(err) != batch.CodeConflict {
		t.Errorf("the first one ended with %v", err)
	}
	if second.ID() == before.ID {
		t.Error("there was no second one")
	}
	dial(t, follow(t, etcd.Address()).awaitWorker()).double(1, 3)
}

// TestNameOfADeadWorker starts a worker again whose process was killed: it waits until the death is seen, or the lease over, also
// where that is longer than its own.
func TestNameOfADeadWorker(t *testing.T) {
	etcd := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{})
	members := follow(t, etcd.Address())
	for name, ttl := range map[string]time.Duration{"seen": 2 * time.Second, "unseen": 2 * time.Second, "longer": 6 * time.Second} {
		seen := name == "seen"
		ctx, kill := context.WithCancel(t.Context())
		dead := cluster.Worker{ID: name + "-1", Name: name, Address: "127.0.0.1:1", Session: cluster.SessionLiving}
		store, err := cluster.Open(cluster.Config{Endpoints: []string{etcd.Address()}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.RegisterWorker(ctx, dead, ttl); err != nil {
			t.Fatal(err)
		}
		if err := store.Close(); err != nil { // its lease is renewed no more
			t.Fatal(err)
		}
		kill()
		began := time.Now()
		again := start(t, etcd.Address(), func(c *worker.Config) {
			c.Name = name
			if seen {
				c.Lease = time.Minute // it would wait so long
			}
		})
		if seen {
			if err := members.store.RemoveWorker(t.Context(), dead.ID); err != nil { // as a coordinator does
				t.Fatal(err)
			}
		}
		members.await("it registers", func(all map[string]cluster.Worker) bool {
			_, still := all[dead.ID]
			return again.ID() != "" && all[again.ID()].ID != "" && !still
		})
		if took := time.Since(began); seen && took > 30*time.Second {
			t.Errorf("it waited for %s although the death was seen", took)
		}
	}
}

// TestNamesOfEarlierBuilds registers beside a worker whose record does not say whether it has sessions, and beside one that
// drains: neither an upgrade nor a restart waits for them.
func TestNamesOfEarlierBuilds(t *testing.T) {
	etcd := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{})
	members := follow(t, etcd.Address())
	for name, other := range map[string]cluster.Worker{
		"earlier":  {},
		"draining": {Draining: true, Session: cluster.SessionLiving},
	} {
		other.ID, other.Name, other.Address = name+"-1", name, "127.0.0.1:1"
		r, err := members.store.RegisterWorker(t.Context(), other, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		w := start(t, etcd.Address(), func(c *worker.Config) { c.Name, c.Lease = name, time.Minute })
		members.await("both are registered", func(all map[string]cluster.Worker) bool {
			return w.ID() != "" && all[w.ID()].ID != "" && all[other.ID].ID != ""
		})
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestRecordTellsOfSessions follows what a worker's record says of its sessions.
func TestRecordTellsOfSessions(t *testing.T) {
	etcd := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{})
	start(t, etcd.Address(), nil)
	members := follow(t, etcd.Address())
	if w := members.awaitWorker(); w.Session != cluster.SessionNone {
		t.Errorf("at first it says %q", w.Session)
	}
	s := dial(t, follow(t, etcd.Address()).awaitWorker())
	members.await("a session", inSession)
	if err := s.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	members.await("none, after a lease", func(all map[string]cluster.Worker) bool { return !inSession(all) })
}

// warnings is a log in which tests look for lines.
type warnings struct {
	mu    sync.Mutex
	lines []string // guarded by mu
	came  chan struct{}
}

func (w *warnings) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, string(p))
	select {
	case w.came <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (w *warnings) await(t *testing.T, says string) {
	t.Helper()
	late := time.After(patience)
	for {
		w.mu.Lock()
		all := strings.Join(w.lines, "")
		w.mu.Unlock()
		if strings.Contains(all, says) {
			return
		}
		select {
		case <-w.came:
		case <-late:
			t.Fatalf("the log does not say %q:\n%s", says, all)
		}
	}
}

// TestAddressThatMeansAnyMachine warns where a coordinator is elsewhere, and not before.
func TestAddressThatMeansAnyMachine(t *testing.T) {
	etcd := testgrid.EmbeddedEtcd(t, devcluster.EtcdConfig{})
	log := &warnings{came: make(chan struct{}, 1)}
	members := follow(t, etcd.Address())
	register := func(id, address string) {
		r, err := members.store.RegisterCoordinator(t.Context(), cluster.Coordinator{ID: id, Address: address}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close(context.Background()) })
	}
	register("here", "127.0.0.1:7700")
	start(t, etcd.Address(), func(c *worker.Config) { c.Logger = hclog.New(&hclog.LoggerOptions{Output: log}) })
	members.awaitWorker()
	register("there", "192.0.2.1:7700") // a documentation address: nobody's
	log.await(t, "--advertise")
	log.mu.Lock()
	defer log.mu.Unlock()
	for _, line := range log.lines {
		if strings.Contains(line, "--advertise") && (!strings.Contains(line, "192.0.2.1:7700") || strings.Contains(line, "127.0.0.1:7700")) {
			t.Errorf("it says %s", line)
		}
	}
}
