package coordinator

import (
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

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
