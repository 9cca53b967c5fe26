package flowtest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// TestFaultsHitTheirNodeAlone checks that faults of a node that has ended do not reach the node that has its name now.
func TestFaultsHitTheirNodeAlone(t *testing.T) { inBothTimes(t, faultsHitTheirNodeAlone) }

func faultsHitTheirNodeAlone(t *testing.T) {
	g, _ := grid(t, 1)
	c := g.Client()
	first := g.Worker(0)
	first.Drain()
	second := g.AddWorker(flowtest.WorkerConfig{Name: first.Name()})
	sessions, id := second.Metric("kisgrid_worker_sessions"), second.ID()
	first.Kill()
	backs := []func(){first.Cut(), first.Pause(), first.Slow(time.Hour), first.Cut(g.Coordinator(0)), first.Slow(time.Hour, flowtest.Etcd)}
	run(t, c, "Meet", row{ID: 1})
	for _, back := range backs {
		back()
	}
	first.Kill()
	run(t, c, "Meet", row{ID: 2})
	if ran(second) != 2 || second.ID() != id || second.Metric("kisgrid_worker_sessions") != sessions {
		t.Errorf("the worker of the same name ran %g rows of 2, and was disturbed", ran(second))
	}
	second.Kill()
	third := g.AddWorker(flowtest.WorkerConfig{Name: first.Name()})
	second.Kill()
	second.Cut()
	run(t, c, "Meet", row{ID: 3})
	if ran(third) != 1 {
		t.Errorf("the third worker of the name ran %g rows", ran(third))
	}
}

// TestFaultsCoverWhoComesLater checks that a node which is cut off from all is also cut off from nodes that are started later.
func TestFaultsCoverWhoComesLater(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fault func(n *flowtest.Node) func()
	}{
		{"cut", func(n *flowtest.Node) func() { return n.Cut() }},
		{"pause", func(n *flowtest.Node) func() { return n.Pause() }},
		{"slow", func(n *flowtest.Node) func() { return n.Slow(time.Hour) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g, _ := grid(t, 1)
			w := g.Worker(0)
			back := test.fault(w)
			later := g.AddCoordinator()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			lonely, err := client.Dial(later.Address())
			if err != nil {
				t.Fatal(err)
			}
			defer lonely.Close()
			if r, err := lonely.Submit(ctx, "Meet", client.Rows(row{ID: 1})); err == nil && len(r.NotDone) == 0 {
				t.Errorf("a row ran through a fault: %+v", r)
			}
			if ran(w) != 0 {
				t.Errorf("the worker ran %g rows", ran(w))
			}
			back()
			back()
			g.Await(1)
			if r, err := lonely.Submit(t.Context(), "Meet", client.Rows(row{ID: 1})); err != nil || len(r.NotDone) > 0 {
				t.Errorf("after the fault: %+v, %v", r, err)
			}
		})
	}
}

func TestRestart(t *testing.T) { inBothTimes(t, restart) }

func restart(t *testing.T) {
	g, _ := grid(t, 1)
	c := g.Client()
	own := func(r *kis.Registry) {
		r.Func("Meet", kis.Calculate(func(_ context.Context, in row) (row, error) { return row{in.ID, "own"}, nil }))
		r.Func("Keep", kis.Save(func(context.Context, kis.Writer, row) error { return nil }))
	}
	g.AddWorker(flowtest.WorkerConfig{Name: "mine", Register: own, Build: "2"})
	g.Worker(0).Kill()
	for _, how := range []struct {
		name string
		end  func(n *flowtest.Node)
	}{
		{"killed", func(n *flowtest.Node) { n.Kill() }},
		{"drained", func(n *flowtest.Node) { n.Drain() }},
		{"living", func(*flowtest.Node) {}},
		{"paused", func(n *flowtest.Node) { n.Pause() }},
	} {
		n := g.Worker(1)
		how.end(n)
		again := n.Restart()
		if again.Name() != "mine" || again.Address() != "" || again == n || len(g.Workers()) != 2 || g.Worker(1) != again {
			t.Errorf("a worker that was %s is %s again, of %d workers", how.name, again.Name(), len(g.Workers()))
		}
		out, err := client.Output[row](run(t, c, "Meet", row{ID: 1}))
		if err != nil || len(out) != 1 || out[0].Mark != "own" {
			t.Errorf("restarted when %s, its functions gave %+v, %v", how.name, out, err)
		}
		n.Kill() // this node has ended: nothing happens
	}
	k := g.Coordinator(0)
	again := k.Restart()
	if again.Address() != k.Address() || len(g.Coordinators()) != 1 {
		t.Errorf("the coordinator is at %s again, not at %s", again.Address(), k.Address())
	}
	g.Await(1)
	run(t, c, "Meet", row{ID: 1})
}

func TestMistakesWithFaultsEndTheTest(t *testing.T) {
	t.Parallel()
	f := &fatal{T: t}
	g := flowtest.Cluster(f, 1)
	w := g.Worker(0)
	var none *flowtest.Node
	for _, test := range []struct {
		want string
		does func()
	}{
		{"party 1 is nil", func() { w.Cut(nil) }},
		{"party 2 is nil", func() { w.Slow(time.Second, flowtest.Etcd, none) }},
		{"from itself", func() { w.Cut(w) }},
		{"delay", func() { w.Slow(-time.Second) }},
		{"delay", func() { w.Slow(1<<63 - 1) }},
		{"no worker 1", func() { g.Worker(1) }},
		{"no coordinator -1", func() { g.Coordinator(-1) }},
		{"option 1 is nil", func() { flowtest.Cluster(f, 1, nil) }},
		{"-1 workers", func() { flowtest.Cluster(f, -1) }},
	} {
		func() {
			defer func() {
				if r := recover(); r != f || !strings.Contains(f.said, test.want) {
					t.Errorf("got %v, %q; want %q", r, f.said, test.want)
				}
			}()
			test.does()
		}()
	}
}

// ending is a test whose context ends before the test does.
type ending struct {
	*fatal
	ctx context.Context
}

func (e *ending) Context() context.Context { return e.ctx }

// TestCallsOfTheKitEndWithTheTest checks that each call which waits for a cluster ends, with a message, when the test's context ends.
func TestCallsOfTheKitEndWithTheTest(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f := &ending{&fatal{T: t}, ctx}
	g := flowtest.Cluster(f, 1)
	if err := g.Apply(meetOff); err != nil {
		t.Fatal(err)
	}
	g.Worker(0).Pause() // from now on no flow becomes active
	cancel()
	for name, call := range map[string]func(){
		"AddWorker":      func() { g.AddWorker(flowtest.WorkerConfig{}) },
		"AddCoordinator": func() { g.AddCoordinator() },
		"Await":          func() { g.Await(100) },
		"Owner":          func() { g.Owner("Meet", "1") },
		"Restart":        func() { g.Worker(0).Restart() },
		"Apply":          func() { panic(g.Apply(meetOff)) },
		"Put":            func() { panic(g.Put(definition.Split("d", []byte(meetOff))...)) },
	} {
		ended := make(chan any, 1)
		go func() {
			defer func() { ended <- recover() }()
			call()
		}()
		select {
		case r := <-ended:
			if r == nil {
				t.Errorf("%s ended without a word", name)
			}
		case <-time.After(20 * time.Second): // far less than patience of this package
			t.Errorf("%s does not end with the test's context", name)
		}
	}
}

const meetOff = "kistype: flow\nflow_name: Meet\nstatus: 0\nflows: [{fname: Meet}]\n---\nkistype: func\nfname: Meet\nfmode: Calculate\n"
