package coordinator

import (
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// gathering is the answers of one batch as one, which must fit into a message. Outcomes come first: when they take half of
// it, further ones go without their reasons; when the output does not fit beside them, it is left out, and that is said.
type gatheredAnswer struct {
	whole            *pb.Answer
	limit            int
	outcomes, output int   // bytes so far
	bare             bool  // further outcomes go without their reasons
	counted          int64 // bytes that count as untaken
}

// count counts as untaken what is gathered, in place of the bytes that it came in.
func (g *gatheredAnswer) count(u *heldAnswers, came int64) {
	held := int64(g.outcomes)
	if g.whole.GetOutput() != nil {
		held += int64(g.output)
	}
	u.take(came + max(0, g.counted-held))
	u.hold(max(0, held-g.counted), false)
	g.counted = held
}

// shed lets go of the output, and of further outcomes' reasons, because the coordinator has no memory for them.
func (g *gatheredAnswer) shed(why *batch.Error) {
	g.bare = true
	if g.output > 0 {
		g.leaveOut(wire.FromError(why))
	}
}

// leaveOut leaves out the output, for good. The first reason counts.
func (g *gatheredAnswer) leaveOut(why *pb.Error) {
	g.whole.Output = nil
	g.output = g.limit + 1 // nor does more of it fit
	if g.whole.GetOutputOmitted() == nil {
		g.whole.OutputOmitted = why
	}
}

func (g *gatheredAnswer) add(a *pb.Answer) {
	for _, o := range a.GetNotDone() {
		if g.bare || g.outcomes > g.limit/2 {
			o.Reason = ""
		}
		g.outcomes += 24 + len(o.GetFunction()) + len(o.GetReason())
	}
	w := g.whole
	w.NotDone = append(w.NotDone, a.GetNotDone()...)
	g.output += len(a.GetOutput().GetRows().GetData()) + 8*len(a.GetOutput().GetOrigins())
	switch {
	case g.outcomes+g.output <= g.limit:
		w.Output = appendOutput(w.GetOutput(), a.GetOutput())
	case g.output > 0:
		g.leaveOut(wire.FromError(batch.Errorf(batch.CodeBatchTooLarge, "what the flow passed on does not fit into one answer of %d bytes: "+
			"each row has its outcome and need not run again; for output of this size submit on a stream, or fewer rows at once", g.limit)))
	}
	if why := a.GetOutputOmitted(); why != nil {
		g.leaveOut(why)
	}
}

// appendOutput puts more behind an output. Neither may be used afterwards.
func appendOutput(o, more *pb.Output) *pb.Output {
	switch {
	case len(more.GetOrigins()) == 0:
		return o
	case o == nil:
		return more
	}
	base := uint32(len(o.GetRows().GetData()))
	o.Rows.Data = append(o.Rows.Data, more.GetRows().GetData()...)
	for _, end := range more.GetRows().GetEnds() {
		o.Rows.Ends = append(o.Rows.Ends, base+end)
	}
	o.Origins = append(o.Origins, more.GetOrigins()...)
	return o
}
