package coordinator

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

var settleFlows = flag.Int("settle.flows", 300, "flows that share the function in TestSharedFunctionSettles")

// TestSharedFunctionSettles changes a function that many flows share, and counts what it takes until all run on it: etcd is
// written to for many flows at a time. What changes for one flow costs nothing for the others. It prints how long it takes:
// make settle does it with 2,400.
func TestSharedFunctionSettles(t *testing.T) {
	r := newRig(t)
	_, s := r.join("w")
	drained := make(chan struct{})
	t.Cleanup(func() { s.worker.kill(); <-drained })
	go func() { // until the session ends
		defer close(drained)
		for {
			select {
			case <-s.definitions:
			case <-s.forgets:
			case <-s.over:
				return
			}
		}
	}()
	flow := func(i int, more ...string) definition.Document {
		return flowDocument(fmt.Sprintf("flow-%04d", i), "id", "echo", more...)
	}
	n := *settleFlows
	for from := 0; from < n; from += 100 {
		var docs []definition.Document
		for i := from; i < min(n, from+100); i++ {
			docs = append(docs, flow(i))
		}
		r.put(docs...)
	}
	settle := func(what string) {
		began, first := time.Now(), r.put(funcDocument("echo")) // the newest document of all flows
		r.awaitSnapshot("all flows run on the function as it was put", func(c *flowstate.Snapshot) bool {
			for _, e := range c.Flows {
				if e.Active == nil || e.Active.Number != first {
					return false
				}
			}
			return len(c.Flows) == n
		})
		took := time.Since(began)
		writes := r.put(flow(n, "status: 0")) - first // each transaction is a revision of etcd's
		t.Logf("%s: %d flows settled in %s, and etcd was written to %d times", what, n, took.Round(time.Millisecond), writes)
		// Twice for each flow, many flows at a time, and for what there is beside: keys of members, the function's own status.
		if most := int64(n/4 + 60); writes > most {
			t.Errorf("%s: %d flows settled with %d transactions, more than %d", what, n, writes, most)
		}
		r.awaitSnapshot("the flow that is off is known", func(c *flowstate.Snapshot) bool { return len(c.Flows) == n+1 })
		if _, err := r.store.PutDocuments(t.Context(), nil, nil, []cluster.Key{{Kind: definition.KindFlow, Name: fmt.Sprintf("flow-%04d", n)}}); err != nil {
			t.Fatal(err)
		}
		r.awaitSnapshot("the flow is deleted", func(c *flowstate.Snapshot) bool { return len(c.Flows) == n })
	}
	settle("new")
	settle("changed")

	before := r.c.board.Load()
	revision := r.put(flow(0, "copies: 3"))
	r.awaitActive("flow-0000", revision)
	changed := 0
	for name, e := range r.c.board.Load().Flows {
		if e != before.Flows[name] {
			changed++
		}
	}
	if changed != 1 {
		t.Errorf("one flow was changed, and %d of the catalog are others", changed)
	}
}
