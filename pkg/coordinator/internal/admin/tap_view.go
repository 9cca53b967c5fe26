package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// tapView sends the caller of Tap what the workers tell. It implements TapViewer. The goroutine of the call owns it.
type tapView struct {
	ctx            context.Context   // ends when nothing more is to be sent
	events         chan *pb.TapEvent // the events on their way to the caller
	ended          chan error        // has the error of the call when it has ended
	flow, function string
	board          *flowstate.Board
	may            func() error // says why the caller may not see rows any more
	limit          uint64
	revision       batch.Revision    // the active revision that the caller knows of
	notes          map[string]string // the last note about each worker
	shown          uint64
	bytes          int
	last           TapCount
	toldAt         time.Time // when the caller was told the counts
}

// send sends one event to the caller. It blocks while many events wait for the caller, until v.ctx is done. The error says why the event was not
// sent.
func (v *tapView) send(e *pb.TapEvent) error {
	select {
	case v.events <- e:
		return nil
	case err := <-v.ended:
		v.ended <- err // for the next one who asks
		return err
	case <-v.ctx.Done():
		return context.Cause(v.ctx)
	}
}

// Rows implements TapViewer.
func (v *tapView) Rows(rows []*pb.TappedRow) error {
	for _, row := range rows {
		if err := v.send(&pb.TapEvent{Kind: &pb.TapEvent_Row{Row: row}}); err != nil {
			return err
		}
		v.shown++
		v.bytes += len(row.GetBefore().GetText()) + len(row.GetReason())
		for _, after := range row.GetAfter() {
			v.bytes += len(after.GetText())
		}
		switch {
		case v.shown >= v.limit:
			return v.over("limit", fmt.Sprintf("%d rows are shown, as many as were asked for", v.shown))
		case v.bytes >= tapBytes:
			return v.over("bytes", fmt.Sprintf("the rows that are shown have %d bytes together, which is the limit of one tap", v.bytes))
		}
	}
	return nil
}

// Note implements TapViewer. It tells the caller a note that is new.
func (v *tapView) Note(worker, text string) error {
	before := v.notes[worker]
	if text == before {
		return nil
	}
	if v.notes[worker] = text; text == "" {
		text = "it shows rows again"
	}
	return v.note(worker, text)
}

// note sends a note.
func (v *tapView) note(worker, text string) error {
	return v.send(&pb.TapEvent{Kind: &pb.TapEvent_Note{Note: &pb.TapNote{Worker: worker, Text: text}}})
}

// Counts implements TapViewer. It tells the caller the counts from time to time, and ends the tap if the flow ends.
func (v *tapView) Counts(c TapCount) error {
	v.last = c
	if err := v.watchFlow(); err != nil {
		return err
	}
	if time.Since(v.toldAt) < tapCountsPause {
		return nil
	}
	if err := v.may(); err != nil {
		return err
	}
	return v.tellCounts()
}

// watchFlow tells the caller that the flow runs on another revision, and ends the tap if it does not run any more.
func (v *tapView) watchFlow() error {
	r, err := v.board.Load().Runs(v.flow, nil)
	if err != nil {
		return v.over("flow", err.Error())
	}
	if r.ID() == v.revision {
		return nil
	}
	v.revision = r.ID()
	text := fmt.Sprintf("flow %s runs on revision %d now, and the tap goes on with it", v.flow, r.Number)
	if err := hasFunction(r, v.flow, v.function); err != nil {
		text = fmt.Sprintf("flow %s runs on revision %d now, which has no function %s: only rows of earlier revisions are shown", v.flow, r.Number, v.function)
	}
	return v.note("", text)
}

// tellCounts tells the caller the counts.
func (v *tapView) tellCounts() error {
	v.toldAt = time.Now()
	c := v.last
	counts := &pb.TapCounts{
		Passed: c.Passed, Shown: v.shown, Unmatched: c.Unmatched, Failed: c.Failed, Failure: c.Failure, Workers: uint32(c.Workers),
	}
	if c.Passed > v.shown+c.Unmatched {
		counts.LeftOut = c.Passed - v.shown - c.Unmatched
	}
	return v.send(&pb.TapEvent{Kind: &pb.TapEvent_Counts{Counts: counts}})
}

// over tells the caller the last counts, and why the tap ends. It returns errTapOver, or the error of the call.
func (v *tapView) over(why, text string) error {
	if err := v.tellCounts(); err != nil {
		return err
	}
	if err := v.send(&pb.TapEvent{Kind: &pb.TapEvent_End{End: &pb.TapEnd{Why: why, Text: text}}}); err != nil {
		return err
	}
	return errTapOver
}
