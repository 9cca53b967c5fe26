package live

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// TestActivationUnderLoad changes a flow's documents again and again while clients of two coordinators submit rows. Every batch must
// run on one revision whose documents belong together, and no row may fail.
func TestActivationUnderLoad(t *testing.T) {
	r := start(t, devcluster.Config{Coordinators: 2, Workers: 3})
	r.awaitState("Live", cluster.StateActive, r.definitions.Put(documents(1)...))
	l := r.startLoad("Live", 4, 50)
	const versions = 20
	for version := 2; version <= versions; version++ {
		revision := r.definitions.Put(documents(version)...)
		if s := r.awaitState("Live", cluster.StateActive, revision); s.Active != revision || s.Applied != 3 || s.Of != 3 {
			t.Errorf("version %d is active as %+v, want revision %d, taken by 3 of 3 workers", version, s, revision)
		}
		if got := l.awaitRevision(revision); got != fmt.Sprint(version) {
			t.Errorf("revision %d runs version %s, want %d", revision, got, version)
		}
	}
	l.end()
	if len(l.versions) < versions-1 {
		t.Errorf("%d of %d versions were seen to run", len(l.versions), versions)
	}
	t.Logf("%d batches with %d rows ran on %d revisions", l.batches, l.rows, len(l.versions))
	if history, err := r.definitions.Store.History(t.Context(), "Live"); err != nil || len(history) < cluster.HistoryKeep {
		t.Errorf("the history has %d revisions (%v), want %d at least", len(history), err, cluster.HistoryKeep)
	}
}

// TestOldRevision submits a batch that names an earlier revision, as a producer does that sends a batch again. The batch runs on that
// revision as long as the history has it, and is refused with REVISION_GONE after that.
func TestOldRevision(t *testing.T) {
	r := start(t, devcluster.Config{Workers: 1})
	old := r.definitions.Put(documents(1)...)
	r.awaitState("Live", cluster.StateActive, old)
	c := r.dial()
	last := old
	for version := 2; version <= cluster.HistoryKeep+2; version++ {
		last = r.definitions.Put(documents(version)...)
		r.awaitState("Live", cluster.StateActive, last)
	}
	sentAgain := client.Rows(row{ID: 1})
	sentAgain.Pin(old)
	result, err := c.Submit(t.Context(), "Live", sentAgain)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := client.Output[row](result); err != nil || result.Revision != old || len(out) != 1 || out[0].First != "1" {
		t.Errorf("sent again, the batch ran on revision %d as %+v (%v), want revision %d", result.Revision, out, err, old)
	}
	if err := r.forget("Live", old); err != nil {
		t.Fatal(err)
	}
	if _, err := r.StartCoordinator(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	// A coordinator that never ran the revision finds it neither in its memory nor in the history.
	fresh := r.Coordinators()[1]
	if err := r.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	other, err := client.Dial(fresh.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r.awaitRunning(other, last)
	late := client.Rows(row{ID: 1})
	late.Pin(old)
	if _, err := other.Submit(t.Context(), "Live", late); batch.CodeOf(err) != batch.CodeRevisionGone {
		t.Errorf("a batch of a revision that is gone gives %v, want REVISION_GONE", err)
	}
}

// forget deletes a revision from the history, as the leader does after some time.
func (r *rig) forget(flow string, revision int64) error {
	_, err := r.definitions.Etcd.Delete(r.t.Context(), fmt.Sprintf("/kisgrid/history/flow/%s/%d", flow, revision))
	return err
}

// awaitRunning waits until new batches of the client run on the revision.
func (r *rig) awaitRunning(c *client.Client, revision int64) {
	r.t.Helper()
	for end := time.Now().Add(patience); ; {
		result, err := c.Submit(r.t.Context(), "Live", client.Rows(row{ID: -1}))
		if err == nil && result.Revision == revision {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("revision %d does not run: %+v, %v", revision, result, err)
		}
	}
}

// TestFiftyWorkers measures how long a change takes until each of fifty workers runs it.
func TestFiftyWorkers(t *testing.T) {
	const workers, changes = 50, 10
	r := start(t, devcluster.Config{Coordinators: 2, Workers: workers, Lease: 30 * time.Second})
	r.awaitState("Live", cluster.StateActive, r.definitions.Put(documents(1)...))
	c := r.dial()
	r.awaitRunning(c, r.awaitState("Live", cluster.StateActive, 1).Active)
	var took []time.Duration
	for version := 2; version < 2+changes; version++ {
		began := time.Now()
		revision := r.definitions.Put(documents(version)...)
		s := r.awaitState("Live", cluster.StateActive, revision)
		for _, n := range r.Coordinators() {
			r.awaitRevisionAt(n.Address(), revision)
		}
		took = append(took, time.Since(began))
		if s.Applied != workers || s.Of != workers {
			t.Errorf("%d of %d workers took revision %d, want %d", s.Applied, s.Of, revision, workers)
		}
	}
	slices.Sort(took)
	t.Logf("a change is live on %d workers and at 2 coordinators after %v (median), %v (worst of %d)",
		workers, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), len(took))
}

// awaitRevisionAt waits until a coordinator runs new batches on the revision.
func (r *rig) awaitRevisionAt(address string, revision int64) {
	r.t.Helper()
	c, err := client.Dial(address)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	r.awaitRunning(c, revision)
}

// TestDeletedFlowsLeaveNothing defines flows, runs them and deletes them, again and again under other names. Workers must forget the
// flows with their lanes. A flow that is defined again must run again.
func TestDeletedFlowsLeaveNothing(t *testing.T) {
	r := start(t, devcluster.Config{Coordinators: 2, Lease: time.Second})
	var workers []*devcluster.Node
	for i := range 2 {
		w, err := r.StartWorker(devcluster.WorkerConfig{Name: fmt.Sprintf("worker-%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		workers = append(workers, w)
	}
	if err := r.Await(t.Context(), len(workers)); err != nil {
		t.Fatal(err)
	}
	c := r.dial()
	r.awaitState("Live", cluster.StateActive, r.definitions.Put(documents(1)...))
	flow := func(i int) string { return fmt.Sprintf("Flow%d", i) }
	run := func(i int) {
		revision := r.definitions.Put(testgrid.Document(definition.KindFlow, flow(i), "status: 1\nshard_key: id\nflows: [{fname: First}, {fname: Second}]\n"))
		r.awaitState(flow(i), cluster.StateActive, revision)
		for range 4 { // calls go to both coordinators in turn
			if result, err := c.Submit(t.Context(), flow(i), numbered(0, 100)); err != nil || len(result.NotDone) > 0 {
				t.Fatalf("flow %s: %+v, %v", flow(i), result, err)
			}
		}
		r.definitions.Delete("flow/" + flow(i))
	}
	plans := func() (all float64) {
		for _, n := range workers {
			all += metric(t, n, "kisgrid_worker_plans", "")
		}
		return all
	}
	forgotten := func() {
		t.Helper()
		r.until("workers forget the flows", func() error {
			if n := plans(); n != 2 { // the plan of Live, on each of two workers
				return fmt.Errorf("they have %v plans, want 2", n)
			}
			return nil
		})
	}
	run(0)
	forgotten()
	before := runtime.NumGoroutine()
	for i := range 10 {
		run(i)
	}
	forgotten()
	run(0)
	forgotten()
	r.until("their lanes end", func() error {
		if now := runtime.NumGoroutine(); now > before+10 {
			return fmt.Errorf("%d goroutines, of %d before", now, before)
		}
		return nil
	})
}
