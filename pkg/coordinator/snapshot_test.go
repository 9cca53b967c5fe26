package coordinator

import (
	"fmt"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func TestActive(t *testing.T) {
	t.Parallel()
	c := testCatalog()
	c.Flows["disabled"] = &flowstate.Flow{Active: &flowstate.Revision{Number: 4}}
	c.Flows["rejected"] = &flowstate.Flow{Status: cluster.FlowStatus{State: cluster.StateRejected, Reasons: []string{"line 3 is wrong"}}}
	c.Flows["pending"] = &flowstate.Flow{Status: cluster.FlowStatus{State: cluster.StatePending, Reasons: []string{"function f is missing"}}}
	c.Flows["new"] = &flowstate.Flow{}
	for _, want := range []struct {
		flow  string
		finds int64
		code  batch.Code
		says  string
	}{
		{"S", 5, 0, ""},
		{"disabled", 0, batch.CodeFlowDisabled, "status: 1"},
		{"rejected", 0, batch.CodeFlowUncompilable, "line 3"},
		{"pending", 0, batch.CodeNoCapableWorker, "function f"},
		{"new", 0, batch.CodeNoCapableWorker, "acknowledgement"},
		{"no", 0, batch.CodeUnknownFlow, "there are S, W, disabled, new, pending, rejected"},
	} {
		r, err := c.Active(want.flow)
		if want.code != 0 {
			wantCode(t, err, want.code, want.says)
			continue
		}
		if err != nil || r.Number != want.finds {
			t.Errorf("flow %s: got %v (%v)", want.flow, r, err)
		}
	}
	for i := range 20 {
		c.Flows[fmt.Sprintf("many-%02d", i)] = &flowstate.Flow{}
	}
	_, err := c.Active("no")
	wantCode(t, err, batch.CodeUnknownFlow, "many-06 and 16 more")
}

func TestKeepRevisions(t *testing.T) {
	t.Parallel()
	e := &flowstate.Flow{Active: &flowstate.Revision{Number: 1}}
	numbers := func() (all []int64) {
		for _, r := range e.Revisions {
			all = append(all, r.Number)
		}
		return all
	}
	for n := range int64(20) {
		e.Keep(&flowstate.Revision{Number: n + 1})
	}
	if got := numbers(); len(got) != flowstate.MaxRevisions || got[0] != 1 || got[1] != 12 || got[len(got)-1] != 20 {
		t.Errorf("kept %v, want the active one and those that came last", got)
	}
	e.Keep(&flowstate.Revision{Number: 5})
	if got := numbers(); len(got) != flowstate.MaxRevisions || got[0] != 1 || got[len(got)-1] != 5 {
		t.Errorf("kept %v, want 5, which was asked for", got)
	}
	again := &flowstate.Revision{Number: 5, Digest: batch.Digest{1}}
	e.Keep(again)
	if got := numbers(); len(got) != flowstate.MaxRevisions || e.Revisions.Find(batch.Revision{Number: 5}) != again || e.Revisions.Find(batch.Revision{Number: 5, Digest: batch.Digest{2}}) != nil {
		t.Errorf("kept %v, want the last one with the number 5 only", got)
	}
}

// TestRecall resends a batch to a coordinator that has never run its revision: it comes from the history, while it is there.
func TestRecall(t *testing.T) {
	t.Parallel()
	first := newRig(t)
	w, _ := first.join("w")
	old := first.sharded()
	first.activate(flowDocument("S", "other", "echo"))
	second := first.peer()
	s := w.session().welcome(false, 0)
	second.awaitActive("S", old+1)
	call := second.call(t.Context(), "S", &pb.Submission{Sequence: 1, Revision: old, Rows: rows(1)})
	p := s.part()
	if p.GetRevision() != old {
		t.Errorf("the part runs on revision %d, want %d", p.GetRevision(), old)
	}
	s.done(p)
	if a := second.answered(call); a.GetRevision() != old || len(a.GetNotDone()) != 0 {
		t.Errorf("answered %v", a)
	}
	u := within(t, "an answer", second.call(t.Context(), "S", &pb.Submission{Sequence: 1, Revision: old - 1, Rows: rows(1)}))
	wantCode(t, u.err, batch.CodeRevisionGone, "new batch")
}
