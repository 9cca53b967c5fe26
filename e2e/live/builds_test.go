package live

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// withThird are the documents of a version whose flow needs a function that only the new build has.
func withThird(version int) []definition.Document {
	docs := append(documents(version), testgrid.Document(definition.KindFunc, "Third", "fmode: Verify\n"))
	docs[0].YAML = append(docs[0].YAML, "  - fname: Third\n"...)
	return docs
}

// TestRollingOutAFunction puts a flow that needs a function that no worker has, and then replaces the workers one by one, under load.
// The old revision runs until a worker of the new build joins; then the new revision starts by itself. No row fails, and no old
// worker gets a row of the new revision.
func TestRollingOutAFunction(t *testing.T) {
	var newest atomic.Int64 // the newest revision that an old worker ran
	oldBuild := func(r *kis.Registry) {
		r.Func("First", kis.Calculate(func(ctx context.Context, in row) (row, error) {
			for seen := newest.Load(); kis.From(ctx).Revision > seen && !newest.CompareAndSwap(seen, kis.From(ctx).Revision); seen = newest.Load() {
			}
			return first(ctx, in)
		}))
		r.Func("Second", kis.Calculate(second))
	}
	var thirds atomic.Int64
	newBuild := func(r *kis.Registry) {
		register(r)
		r.Func("Third", kis.Verify(func(context.Context, row) error { thirds.Add(1); return nil }))
	}
	r := start(t, devcluster.Config{Coordinators: 2, Register: oldBuild})
	var old []*devcluster.Node
	for i := range 3 {
		n, err := r.StartWorker(devcluster.WorkerConfig{Name: fmt.Sprintf("worker-%d", i), Build: "old"})
		if err != nil {
			t.Fatal(err)
		}
		old = append(old, n)
	}
	if err := r.Await(t.Context(), len(old)); err != nil {
		t.Fatal(err)
	}
	before := r.definitions.Put(documents(1)...)
	r.awaitState("Live", cluster.StateActive, before)
	l := r.startLoad("Live", 4, 50)
	l.awaitRevision(before)

	wanted := r.definitions.Put(withThird(2)...)
	s := r.awaitState("Live", cluster.StatePending, wanted)
	if s.Active != before || !strings.Contains(strings.Join(s.Reasons, "\n"), "function Third is missing on 3 live workers") {
		t.Errorf("without the function the status is %+v, want %d to stay active", s, before)
	}
	for i, n := range old {
		if _, err := r.StartWorker(devcluster.WorkerConfig{Name: fmt.Sprintf("worker-%d-new", i), Build: "new", Register: newBuild}); err != nil {
			t.Fatal(err)
		}
		r.until("the new worker is there, beside those of the old build", func() error {
			for _, k := range r.Coordinators() {
				if up := metric(t, k, "kisgrid_coordinator_sessions", ""); int(up) != len(old)+1 {
					return fmt.Errorf("a coordinator has %v sessions, want %d", up, len(old)+1)
				}
			}
			return nil
		})
		r.awaitState("Live", cluster.StateActive, wanted)
		l.awaitRevision(wanted)
		if err := n.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	last := r.definitions.Put(withThird(3)...)
	if s := r.awaitState("Live", cluster.StateActive, last); s.Of != 3 {
		t.Errorf("after the replacement the status is %+v, want 3 capable workers", s)
	}
	l.awaitRevision(last)
	l.end()
	if newest.Load() != before {
		t.Errorf("an old worker ran revision %d, want %d at the most", newest.Load(), before)
	}
	if thirds.Load() == 0 {
		t.Error("nothing ran the new function")
	}
}

// TestRowTypesOfBuilds runs two builds side by side, one of which can't run the flow because of its row types. The flow runs on the
// other, and the status gives the reason.
func TestRowTypesOfBuilds(t *testing.T) {
	type thin struct {
		ID int `json:"id"`
	}
	type wide struct {
		ID     int `json:"id"`
		Points int `json:"points"`
	}
	var oldRan, newRan atomic.Int64
	use := func(ran *atomic.Int64) kis.Func {
		return kis.Calculate(func(_ context.Context, w wide) (wide, error) { ran.Add(1); return w, nil })
	}
	r := start(t, devcluster.Config{})
	for _, w := range []devcluster.WorkerConfig{
		{Name: "old", Build: "old", Register: func(r *kis.Registry) {
			r.Func("Make", kis.Calculate(func(_ context.Context, in thin) (thin, error) { return in, nil }))
			r.Func("Use", use(&oldRan))
		}},
		{Name: "new", Build: "new", Register: func(r *kis.Registry) {
			r.Func("Make", kis.Calculate(func(_ context.Context, in thin) (wide, error) { return wide{in.ID, 5}, nil }))
			r.Func("Use", use(&newRan))
		}},
	} {
		if _, err := r.StartWorker(w); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Await(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	revision := r.definitions.Put(
		testgrid.Document(definition.KindFlow, "Typed", "status: 1\nshard_key: id\nflows: [{fname: Make}, {fname: Use}]\n"),
		testgrid.Document(definition.KindFunc, "Make", "fmode: Calculate\n"), testgrid.Document(definition.KindFunc, "Use", "fmode: Calculate\n"))
	s := r.awaitState("Typed", cluster.StateActive, revision)
	if s.Applied != 1 || s.Of != 1 || len(s.Workers) != 1 || !strings.HasPrefix(s.Workers[0].ID, "old-") || s.Workers[0].State != "unfit" ||
		!strings.Contains(strings.Join(s.Workers[0].Reasons, "\n"), "points") {
		t.Errorf("the status is %+v, want it active on one worker, and the old one unfit for its row types", s)
	}
	c := r.dial()
	var rows []thin
	for i := range 1000 {
		rows = append(rows, thin{i})
	}
	for end := time.Now().Add(patience); ; {
		result, err := c.Submit(t.Context(), "Typed", client.Rows(rows...))
		if err == nil && len(result.NotDone) == 0 && result.Revision == revision {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the rows ended as %+v, %v", result, err)
		}
	}
	if oldRan.Load() != 0 || newRan.Load() != 1000 {
		t.Errorf("the old build ran %d rows and the new one %d, want 0 and 1000", oldRan.Load(), newRan.Load())
	}
}

// TestDeclaredFunctions runs a flow of functions that no worker has registered: their documents declare everything.
func TestDeclaredFunctions(t *testing.T) {
	r := start(t, devcluster.Config{Workers: 1})
	revision := r.definitions.Put(
		testgrid.Document(definition.KindFlow, "Told", "status: 1\nshard_key: id\nflows: [{fname: First}, {fname: Store}]\n"), function("First", 1),
		testgrid.Document(definition.KindFunc, "Store", "fmode: Save\noption:\n  cname: Store\n  save: {key: \"{id}\", set: {id: id}}\n"),
		testgrid.Document(definition.KindConn, "Store", "type: memory\n"))
	r.awaitState("Told", cluster.StateActive, revision)
}
