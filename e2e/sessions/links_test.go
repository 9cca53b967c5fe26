package sessions

import (
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/flowtest"
)

// TestCutLink cuts one coordinator off from one living worker. After a lease without a message from the worker, the coordinator sends
// its rows elsewhere. The other coordinator, and its session with that worker, must not notice.
func TestCutLink(t *testing.T) {
	t.Parallel()
	const lease = 5 * time.Second
	g := grid(t, 3, nil, flowtest.Coordinators(2), flowtest.Lease(lease))
	w := g.Worker(0)
	a := startLoad(t, only(t, g.Coordinator(0)), span(0, 64), 20*time.Millisecond)
	b := startLoad(t, only(t, g.Coordinator(1)), span(1000, 64), 20*time.Millisecond)
	a.moves(20)
	b.moves(20)
	id, ended := w.ID(), w.Metric("kisgrid_worker_sessions_ended_total")
	heal := w.Cut(g.Coordinator(0))
	began := time.Now()
	before := a.answered()
	until(t, "rows of the worker that is cut off go on elsewhere", func() bool { return a.answered() > before+10 && time.Since(began) > lease })
	a.moves(20)
	heal()
	g.Await(3)
	a.moves(20)
	longestA, _ := a.end()
	longestB, _ := b.end()
	t.Logf("lease %s: the longest answer at the coordinator that was cut off took %s, at the other %s", lease, longestA, longestB)
	if longestA < lease/2 {
		t.Errorf("nothing waited: the cut did not cut")
	}
	if longestA > lease+3*time.Second+2*longestB { // on a slow machine the other coordinator is slow too
		t.Errorf("rows waited for %s, and the lease is %s", longestA, lease)
	}
	if w.ID() != id {
		t.Error("the worker was taken for dead")
	}
	if more := w.Metric("kisgrid_worker_sessions_ended_total") - ended; more > 2 {
		t.Errorf("%g sessions ended, and one was cut", more)
	}
}

// TestTwoOfThreeKilled kills two of three workers at once. Refused connections prove that they are dead, so nobody waits for their
// lease, which is long here.
func TestTwoOfThreeKilled(t *testing.T) {
	t.Parallel()
	const lease = 30 * time.Second
	g := grid(t, 3, nil, flowtest.Coordinators(2), flowtest.Lease(lease))
	a := startLoad(t, only(t, g.Coordinator(0)), span(0, 64), 20*time.Millisecond)
	b := startLoad(t, only(t, g.Coordinator(1)), span(1000, 64), 20*time.Millisecond)
	a.moves(20)
	b.moves(20)
	g.Worker(0).Kill()
	g.Worker(1).Kill()
	a.moves(20)
	b.moves(20)
	longestA, _ := a.end()
	longestB, _ := b.end()
	t.Logf("lease %s: the longest answers took %s and %s", lease, longestA, longestB)
	if longest := max(longestA, longestB); longest > lease/2 {
		t.Errorf("rows waited for %s: the dead were waited for", longest)
	}
}

// TestCoordinatorCutOff cuts one coordinator off from all workers. It ends the streams of its clients, which go to the other one.
// When it reaches workers again it takes batches again.
func TestCoordinatorCutOff(t *testing.T) {
	t.Parallel()
	const lease = 2 * time.Second
	g := grid(t, 3, nil, flowtest.Coordinators(2), flowtest.Lease(lease))
	loads := make([]*load, 4) // both coordinators get some of them
	for i := range loads {
		loads[i] = startLoad(t, g.Client(), span(1000*i, 16), 20*time.Millisecond)
		loads[i].moves(10)
	}
	cut := g.Coordinator(0)
	if cut.Metric("kisgrid_rows_in_total") == 0 {
		cut = g.Coordinator(1)
	}
	heal := cut.Cut(g.Worker(0), g.Worker(1), g.Worker(2))
	until(t, "the coordinator has no rows", func() bool {
		return cut.Metric("kisgrid_coordinator_sessions") == 0 && cut.Metric("kisgrid_rows_in_flight") == 0
	})
	in := cut.Metric("kisgrid_rows_in_total")
	for _, l := range loads {
		l.moves(20)
	}
	if now := cut.Metric("kisgrid_rows_in_total"); now != in {
		t.Errorf("the coordinator that is cut off took %g rows", now-in)
	}
	heal()
	g.Await(3)
	for _, l := range loads {
		longest, _ := l.end()
		t.Logf("lease %s: the longest answer took %s", lease, longest)
	}
	last := startLoad(t, only(t, cut), span(9000, 16), 20*time.Millisecond)
	last.moves(5)
	last.end()
}

// TestStaleKey starts a worker under the name of a killed one, whose key is still in etcd. The old key must be deleted, and the new
// worker's key must stay.
func TestStaleKey(t *testing.T) {
	t.Parallel()
	g := grid(t, 2, nil, flowtest.Coordinators(2), flowtest.Lease(30*time.Second))
	l := startLoad(t, g.Client(), span(0, 64), 20*time.Millisecond)
	l.moves(10)
	w := g.Worker(0)
	for range 3 {
		w.Kill()
		until(t, "it is known to be dead", func() bool {
			return g.Coordinator(0).Metric("kisgrid_coordinator_sessions") == 1 && g.Coordinator(1).Metric("kisgrid_coordinator_sessions") == 1
		})
		w = g.AddWorker(flowtest.WorkerConfig{Name: w.Name()})
		id := w.ID()
		l.moves(20)
		if w.ID() != id || w.Metric("kisgrid_worker_registrations_total") != 1 {
			t.Fatalf("the successor %s is %s now", id, w.ID())
		}
	}
	longest, _ := l.end()
	t.Logf("the longest answer took %s", longest)
}
