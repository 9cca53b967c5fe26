package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/coordinator"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// holds registers the function Check, which holds rows with an id of 1000 or more until gate is closed, and tells began of each.
func holds(began chan<- int, gate <-chan struct{}) func(*kis.Registry) {
	return func(r *kis.Registry) {
		r.Func("Check", kis.Verify(func(ctx context.Context, m mark) error {
			if m.ID < 1000 {
				return nil
			}
			began <- m.ID
			select {
			case <-gate:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}))
	}
}

// lines are rows with the ids from first on.
func lines(first, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"id\": %d}\n", first+i)
	}
	return b.String()
}

// TestPause pauses a flow while a row of it is under way: that row ends, new batches are refused, and it lasts through an apply and the
// restart of every coordinator.
func TestPause(t *testing.T) {
	began, gate := make(chan int, 1), make(chan struct{})
	g := flowtest.Cluster(t, 1, flowtest.Register(holds(began, gate)))
	docs := marks([]string{"Check"})
	runs(t, g, docs, []string{"apply", "-f", "-"}, "active")
	under := begin(t, g, lines(1000, 1), "submit", "Marks", "-f", "-")
	<-began

	fails(t, g, "", []string{"pause", "Mraks"}, `UNKNOWN_FLOW: there is no flow "Mraks"; there are Marks`)
	runs(t, g, "", []string{"pause", "Marks", "--reason", "a repair"}, "flow Marks paused\n")
	refused := func() {
		t.Helper()
		until(t, "the coordinator knows that the flow is paused", func() bool {
			return strings.Contains(runs(t, g, "", []string{"get", "flows"}), "paused")
		})
		fails(t, g, lines(1, 3), []string{"submit", "Marks", "-f", "-"}, "FLOW_DISABLED", "flow Marks is paused by anybody since ", "(a repair)", "kisgrid resume Marks")
	}
	refused()
	runs(t, g, "", []string{"pause", "Marks", "--reason", "another"}, "flow Marks paused already\n")
	runs(t, g, "", []string{"pause", "Marks", "-o", "json"}, `{"kind":"flow","name":"Marks","state":"paused","changed":false}`)
	runs(t, g, marks([]string{"Check"}, "copies: 2"), []string{"apply", "-f", "-"}, "active")
	refused()
	runs(t, g, "", []string{"get", "flow", "Marks"}, "paused", "it is paused by anybody since ", ": a repair")
	runs(t, g, "", []string{"explain", "Marks", "1000"}, "revision")

	close(gate)
	if out, err := under.end(t); err != nil {
		t.Errorf("the row that was under way ended with %v:\n%s", err, out)
	}
	n := g.Coordinator(0)
	n.Kill()
	n.Restart()
	g.Await(1)
	refused()

	runs(t, g, "", []string{"resume", "Marks"}, "flow Marks resumed\n")
	runs(t, g, "", []string{"resume", "Marks"}, "flow Marks resumed: it was not paused\n")
	until(t, "the coordinator knows that the flow is resumed", func() bool {
		return !strings.Contains(runs(t, g, "", []string{"get", "flows"}), "paused")
	})
	runs(t, g, lines(1, 3), []string{"submit", "Marks", "-f", "-"}, "3 done")

	// A plain key in etcd does the same, and a name that a deleted flow left behind can be removed.
	if _, err := etcdOf(t, g).Put(t.Context(), "/kisgrid/control/flow/Marks", "by hand"); err != nil {
		t.Fatal(err)
	}
	until(t, "the key is followed", func() bool {
		return strings.Contains(runs(t, g, "", []string{"get", "flow", "Marks"}), "it is paused: by hand")
	})
	runs(t, g, "", []string{"delete", "flow", "Marks"}, "deleted")
	until(t, "the flow is gone", func() bool { return !strings.Contains(runs(t, g, "", []string{"get", "flows"}), "Marks") })
	runs(t, g, "", []string{"resume", "Marks"}, "flow Marks resumed\n")
}

// TestCordon cordons one of two workers while it has a row: it gets no more, is drained when the row has ended, and gets rows again.
func TestCordon(t *testing.T) {
	began, gate := make(chan int, 1), make(chan struct{})
	g := flowtest.Cluster(t, 2, flowtest.Coordinators(2), flowtest.Register(holds(began, gate)))
	runs(t, g, marks([]string{"Check"}), []string{"apply", "-f", "-"}, "taken by 2 of 2")
	held := begin(t, g, lines(1000, 1), "submit", "Marks", "-f", "-")
	<-began
	owner, other := g.Owner("Marks", "1000"), g.Worker(0)
	if owner == other {
		other = g.Worker(1)
	}
	ran := func(n *flowtest.Node) float64 { return n.Metric("kisgrid_function_rows_total", "flow", "Marks") }

	fails(t, g, "", []string{"cordon", "nobody"}, "NOT_FOUND: there is no worker \"nobody\": kisgrid get workers")
	runs(t, g, "", []string{"cordon", owner.ID(), "--reason", "its disk"}, "worker "+owner.Name()+" cordoned\n")
	runs(t, g, "", []string{"cordon", owner.Name()}, "cordoned already\n")
	fails(t, g, "", []string{"drain", owner.Name(), "--timeout", "2s"}, "1 rows left, sent by coordinator-", "2s is over (--timeout)", "it stays cordoned")
	view := func() (v coordinator.WorkerView) {
		t.Helper()
		var got struct{ Status coordinator.WorkerView }
		out := runs(t, g, "", []string{"get", "worker", owner.ID(), "-o", "json"})
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		return got.Status
	}
	if c := view().Cordoned; c == nil || c.Reason != "its disk" || c.Drained || len(c.NotTold) > 0 || len(c.Rows) != 2 {
		t.Errorf("the worker's view: %+v", c)
	}

	// New rows go to the other one, except those of the slot that is held.
	before := ran(owner)
	runs(t, g, lines(1, 200), []string{"submit", "Marks", "-f", "-"}, "200 done")
	if now := ran(owner); now != before {
		t.Errorf("the worker that is cordoned ran %v rows more", now-before)
	}
	if ran(other) < 200 {
		t.Errorf("the other worker ran %v rows", ran(other))
	}
	drained := begin(t, g, "", "drain", owner.Name(), "-o", "json")
	close(gate)
	if out, err := held.end(t); err != nil {
		t.Errorf("the row that was under way ended with %v:\n%s", err, out)
	}
	out, err := drained.end(t)
	if err != nil {
		t.Errorf("drain ended with %v", err)
	}
	prints(t, out, `{"kind":"worker","name":"`+owner.Name()+`","state":"drained","changed":false}`)
	runs(t, g, "", []string{"get", "workers"}, "cordoned, drained")

	// It lasts through a restart under the name.
	owner.Kill()
	owner = owner.Restart()
	g.Await(2)
	runs(t, g, lines(1, 200), []string{"submit", "Marks", "-f", "-"}, "200 done")
	if now := ran(owner); now != 0 {
		t.Errorf("after its restart the worker ran %v rows", now)
	}
	// Without any other worker, the flow is unserved, and the reason says what to do.
	other.Drain()
	until(t, "get says why nobody runs the flow", func() bool {
		return strings.Contains(runs(t, g, "", []string{"get", "flow", "Marks"}), "is cordoned: kisgrid uncordon")
	})
	waits := begin(t, g, lines(1, 20), "submit", "Marks", "-f", "-")
	runs(t, g, "", []string{"uncordon", owner.Name()}, "worker "+owner.Name()+" uncordoned\n")
	if out, err := waits.end(t); err != nil {
		t.Errorf("rows that waited for a worker ended with %v:\n%s", err, out)
	}
	runs(t, g, "", []string{"uncordon", owner.Name()}, "uncordoned: it was not cordoned\n")
}
