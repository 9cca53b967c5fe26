package coordinator

import (
	"cmp"
	"context"
	"time"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/admin"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

// letterRunner runs the rows of dead letters again, as batches of one row. Any goroutine may use it.
type letterRunner struct {
	loop    *schedulerLoop
	board   *flowstate.Board
	letters *letterKeeper
	budget  *budget
	limits  batch.Limits
}

// Prepare makes the batch that runs a letter's row again, on the flow's active revision, as an Attempt; nothing runs yet. The error says
// why the letter can't be run.
func (r *letterRunner) Prepare(l *deadletter.Letter) (*admin.Attempt, error) {
	sub, err := r.batchOf(l)
	if err != nil {
		return nil, err
	}
	a := &admin.Attempt{Letter: l, Batch: sub.id, Revision: sub.Revision, Owner: sub}
	if len(sub.Keys) > 0 {
		a.Keyed, a.Key = true, sub.Keys[0]
	}
	return a, nil
}

// batchOf makes the submission that runs a letter's row again, on the flow's active revision. The batch's stream is the letter's id, and
// its sequence is the letter's, so a redrive that begins again sends the same batch, and connectors save its effects once. The error says
// why the letter can't be run.
func (r *letterRunner) batchOf(l *deadletter.Letter) (*submission, error) {
	active, err := r.board.Load().Active(l.Flow, nil)
	if err != nil {
		return nil, err
	}
	if l.Function != "" && !active.Has(l.Function, l.Use) {
		return nil, batch.Errorf(batch.CodeUnknownFunction, "function %s, in which the row died, is not in revision %d of flow %s any more: "+
			"put it back to redrive the letter, or drop the letter", l.Function, active.Number, l.Flow)
	}
	if l.Function == "" && len(l.Row) > r.limits.RowBytes {
		return nil, batch.Errorf(batch.CodeRowTooLarge, "the row has %d bytes, over the limit of %d bytes: edit it, or drop the letter", len(l.Row), r.limits.RowBytes)
	}
	if len(l.Row) > r.limits.BatchBytes {
		return nil, batch.Errorf(batch.CodeRowTooLarge, "the row had grown to %d bytes, over this coordinator's limit of %d bytes: "+
			"raise --max-batch-bytes, edit the letter, or drop it", len(l.Row), r.limits.BatchBytes)
	}
	now := time.Now()
	sub := &submission{
		id: batch.ID{Stream: l.ID, Sequence: l.Sequence}, floor: l.Sequence, born: now, revision: active, letters: r.letters, keepsDead: true, redrive: true,
		start: l.Function, startUse: l.Use,
		columns: batch.Columns{Data: l.Row, Ends: []uint32{uint32(len(l.Row))}, Encoding: l.Encoding},
	}
	if !l.Begun.IsZero() && l.Begun.Before(now) {
		sub.born = l.Begun
	}
	sub.Batch = scheduler.Batch{Flow: l.Flow, Revision: active.Number, Digest: active.Digest, Ends: sub.columns.Ends, Owner: sub}
	if err := sub.key(l); err != nil {
		return nil, err
	}
	return sub, nil
}

// key gives a letter's row the hash of its shard key, if the flow has one. A row that died inside the flow keeps the key that its letter
// has. A row that is still as the client submitted it, or whose flow has another key field by now, is read for its key.
func (s *submission) key(l *deadletter.Letter) error {
	field := s.revision.ShardKey
	if field == "" {
		return nil
	}
	if l.Function != "" && l.ShardKey == field {
		s.columns.Keys = []uint64{l.Key}
	} else if err := s.fillKeys(field); err != nil {
		return err
	}
	if len(s.Ended) > 0 {
		o := s.Ended[0]
		return batch.Errorf(o.Code, "%s: edit the row, or drop the letter", o.Reason)
	}
	s.Keys = s.columns.Keys
	return nil
}

// Begin returns an empty set of attempts for one redrive. If results is true, the attempts keep the rows that the flow passes on.
func (r *letterRunner) Begin(results bool) admin.Attempts {
	return &letterRuns{letterRunner: r, results: results, endings: newQueue[ending](), underWay: map[*submission]*admin.Attempt{}}
}

// letterRuns are the attempts of one redrive that are under way. The redrive's goroutine owns them.
type letterRuns struct {
	*letterRunner
	results  bool // the caller wants the rows that the flow passes on
	endings  *queue[ending]
	taken    []ending // a slice without content, which the next call of Ended uses again
	underWay map[*submission]*admin.Attempt
}

// Ready returns a channel that holds a token while Ended may have attempts to return.
func (r *letterRuns) Ready() <-chan struct{} { return r.endings.ready }

// Start hands the batch of an attempt to the scheduler. It blocks while the scheduler's queue is full, and fails if ctx is done or the
// scheduler has ended before.
func (r *letterRuns) Start(ctx context.Context, a *admin.Attempt) error {
	sub := a.Owner.(*submission) //nolint:forcetypeassert // every attempt is Prepare's
	sub.endings = r.endings
	if r.results {
		r.wantResults(sub)
	}
	r.underWay[sub] = a
	if !r.loop.post(ctx, scheduler.Submitted{Batch: &sub.Batch}) {
		return refuse.Stopped()
	}
	return nil
}

// wantResults asks for the output of a letter's batch: the rows that the flow passes on. Output counts as held for the client until the
// letter has ended. When the coordinator's budget of answers is used up, the output is dropped, and the letter stays.
func (r *letterRuns) wantResults(sub *submission) {
	sub.output = true
	sub.fitAnswersTo((&transport.Config{}).MessageBytes(), r.limits) // the command line accepts the default
	sub.answers = &heldAnswers{budget: r.budget, allowance: callCost(1, len(sub.columns.Data)), dropOutput: func() bool {
		sub.dropOutput()
		return true
	}}
}

// Ended returns the attempts whose rows have ended since the last call, with the outcomes filled in. It does not block.
func (r *letterRuns) Ended() (ended []*admin.Attempt) {
	r.taken = r.endings.take(r.taken)
	for i := range r.taken {
		e := &r.taken[i]
		a := r.underWay[e.submission]
		if a == nil {
			continue
		}
		noteEnding(a, e)
		if e.last {
			failWithoutResults(a, e.submission)
			ended = append(ended, a)
		}
	}
	return ended
}

// noteEnding adds to an attempt what one ending says about how its row has ended.
func noteEnding(a *admin.Attempt, e *ending) {
	switch {
	case e.part != nil && e.counts(0):
		r := e.result
		for _, o := range r.GetNotDone() {
			a.Outcome, a.Code, a.Reason, a.Function = batch.Outcome(o.GetOutcome()), batch.Code(o.GetCode()), o.GetReason(), o.GetFunction()
			a.NotKept = batch.NotKept(o.GetNotKept())
		}
		a.Dead = nil
		dead, _ := wire.ToDeadRows(r.GetDead(), 1) // receiveResult has checked them
		for _, d := range dead {
			a.Dead = append(a.Dead, admin.DiedAgain{DeadRow: d, Letter: e.submission.letter(0, d)})
		}
		gatherResults(a, e)
	case len(e.rows) > 0:
		a.Outcome, a.Code, a.Reason = e.outcome, e.code, failure(e.code, e.submission.Flow)
	}
	if e.last {
		a.Outcome = cmp.Or(a.Outcome, batch.Done)
	}
}

// gatherResults adds to the attempt's Results the rows that an ending says the flow has passed on, in pieces that fit into messages.
func gatherResults(a *admin.Attempt, e *ending) {
	sub := e.submission
	sub.stripDropped(e.result)
	o := e.result.GetOutput()
	if !sub.output || len(o.GetOrigins()) == 0 {
		return
	}
	all := batch.Output{Rows: wire.ToColumns(o.GetRows()), Origins: o.GetOrigins()}
	for piece := range wire.SplitOutput(all, sub.pieceBytes()) {
		a.Results = append(a.Results, wire.FromColumns(piece.Rows))
	}
}

// failWithoutResults turns the outcome of an attempt into Failed if the caller wants output and some of it is missing, although the row has
// ended. So the letter stays, and can be run again for the output.
func failWithoutResults(a *admin.Attempt, sub *submission) {
	if sub.outputDropped.Load() && len(a.Results) > 0 { // the budget needs the room
		a.Results = nil
		sub.noteOmitted(refuse.Shed())
	}
	if why := sub.omitted.Load(); why != nil && a.Outcome != batch.Failed {
		a.Outcome, a.Code, a.Results = batch.Failed, why.Code, nil
		a.Reason = "the row has ended, but its output could not be sent, so that the letter stays: redrive it again with fewer letters at once, or without results; nothing is saved twice"
	}
}

// Finish drops an attempt that Ended has returned: it frees the results and counts, in a metric, how the attempt ended.
func (r *letterRuns) Finish(a *admin.Attempt) {
	sub := a.Owner.(*submission) //nolint:forcetypeassert // every attempt is Prepare's
	delete(r.underWay, sub)
	sub.freeResults()
	r.letters.redriven.WithLabelValues(sub.Flow, a.Outcome.String()).Inc()
}

// Close cancels the attempts that are still under way: the scheduler is told that nobody waits for their rows any more.
func (r *letterRuns) Close() {
	for sub := range r.underWay {
		r.loop.post(context.Background(), scheduler.Cancelled{Batch: &sub.Batch})
		sub.freeResults()
	}
}

// freeResults gives the bytes of the batch's output back to the budget.
func (s *submission) freeResults() {
	if s.answers != nil {
		s.answers.close()
	}
}
