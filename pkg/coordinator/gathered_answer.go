package coordinator

import (
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// gatheredAnswer gathers the answers of one batch into a single answer, which must fit into one message. Outcomes have priority over
// output. When outcomes take half of the message, further ones go without their reasons. When the output does not fit beside the outcomes,
// all of it is left out, and the answer says so. One goroutine owns it.
type gatheredAnswer struct {
	whole            *pb.Answer
	limit            int
	outcomes, output int   // bytes gathered so far; output is above limit once output was left out
	withoutReasons   bool  // further outcomes go without their reasons
	countedBytes     int64 // bytes of the gathered answer that are counted as held for the client (heldAnswers)
}

// count brings up to date how many bytes u counts as held for the client, after an answer was added. u has counted the answer with the
// bytes that it had when it came (came); count takes these out, and has the bytes that the gathered answer takes now counted instead.
func (g *gatheredAnswer) count(u *heldAnswers, came int64) {
	held := int64(g.outcomes)
	if g.whole.GetOutput() != nil {
		held += int64(g.output)
	}
	u.take(came + max(0, g.countedBytes-held))
	u.hold(max(0, held-g.countedBytes), false)
	g.countedBytes = held
}

// dropOutput drops the gathered output, and the reasons of outcomes that are added later, because the coordinator's budget has no room for
// them. why is told to the client if there was output.
func (g *gatheredAnswer) dropOutput(why *batch.Error) {
	g.withoutReasons = true
	if g.output > 0 {
		g.omitOutput(wire.FromError(why))
	}
}

// omitOutput drops the gathered output, and output that is added later. The answer tells the client why; if omitOutput is called again, the
// first reason stays.
func (g *gatheredAnswer) omitOutput(why *pb.Error) {
	g.whole.Output = nil
	g.output = g.limit + 1 // so that further output does not fit either
	if g.whole.GetOutputOmitted() == nil {
		g.whole.OutputOmitted = why
	}
}

// add adds one answer of the batch to the gathered one. The caller must not use a afterwards, because the gathered answer shares its
// memory.
func (g *gatheredAnswer) add(a *pb.Answer) {
	for _, o := range a.GetNotDone() {
		if g.withoutReasons || g.outcomes > g.limit/2 {
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
		g.omitOutput(wire.FromError(batch.Errorf(batch.CodeBatchTooLarge, "the output of the flow does not fit into one answer of %d bytes: "+
			"each row has its outcome and need not run again; for output of this size submit on a stream, or fewer rows at once", g.limit)))
	}
	if why := a.GetOutputOmitted(); why != nil {
		g.omitOutput(why)
	}
}

// appendOutput appends the rows of more to those of o, and returns the result. Either may be nil. Neither may be used afterwards.
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
