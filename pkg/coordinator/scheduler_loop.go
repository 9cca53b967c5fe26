package coordinator

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

// tick is the interval at which the scheduler is given a scheduler.Tick, after which it looks for deadlines that have passed.
const tick = 20 * time.Millisecond

// schedulerLoop is the goroutine that owns the scheduler (package scheduler): it alone hands events to the scheduler and carries out the
// actions that the scheduler returns. Carrying out an action never blocks: it puts things into queues.
type schedulerLoop struct {
	events chan loopItem
	done   chan struct{} // closed when run has returned

	// Only the goroutine run uses these.
	scheduler *scheduler.Scheduler
	peers     map[string]*workerPeer // the workers with a session, or whose session may be resumed, by id
}

// loopItem is an event for the scheduler, or, if do is set, a function to run in the loop's goroutine.
type loopItem struct {
	event scheduler.Event
	do    func(*schedulerLoop)
}

// newSchedulerLoop makes a loop with a new scheduler. It starts no goroutine; the caller starts run.
func newSchedulerLoop(c scheduler.Config) *schedulerLoop {
	return &schedulerLoop{
		events: make(chan loopItem, 256), done: make(chan struct{}),
		scheduler: scheduler.New(c), peers: map[string]*workerPeer{},
	}
}

// post queues an event for the scheduler, and returns true. It blocks while the loop's queue is full. If ctx is done or the loop has ended
// before there is room, it drops the event and returns false.
func (l *schedulerLoop) post(ctx context.Context, e scheduler.Event) bool {
	return l.put(ctx, loopItem{event: e})
}

// put queues an event or a function for the loop, and returns true. It blocks while the loop's queue is full. If ctx is done or the loop
// has ended before there is room, it drops the item and returns false.
func (l *schedulerLoop) put(ctx context.Context, o loopItem) bool {
	select {
	case l.events <- o:
		return true
	case <-ctx.Done():
	case <-l.done:
	}
	return false
}

// do runs f in the loop's goroutine, waits until f has returned, and returns true. If it returns false, because ctx is done or the loop has
// ended before, f may still run later.
func (l *schedulerLoop) do(ctx context.Context, f func(*schedulerLoop)) bool {
	ran := make(chan struct{})
	if !l.put(ctx, loopItem{do: func(l *schedulerLoop) { f(l); close(ran) }}) {
		return false
	}
	select {
	case <-ran:
		return true
	case <-ctx.Done():
	case <-l.done:
	}
	return false
}

// run hands events to the scheduler, and runs functions, one after the other, until ctx is done.
func (l *schedulerLoop) run(ctx context.Context) {
	defer close(l.done)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	always := make(chan struct{})
	close(always)
	for {
		var behind chan struct{}
		if l.scheduler.Behind() { // work of earlier events is left; it is done a slice at a time, between other events
			behind = always
		}
		select {
		case <-ctx.Done():
			return
		case <-behind:
			l.step(scheduler.Continue{})
		case <-ticker.C:
			l.step(scheduler.Tick{})
		case o := <-l.events:
			if o.do != nil {
				o.do(l)
			} else {
				l.step(o.event)
			}
		}
	}
}

// step hands an event to the scheduler and carries out the actions that the scheduler returns.
func (l *schedulerLoop) step(e scheduler.Event) {
	for _, a := range l.scheduler.Step(e, time.Now()) {
		l.carryOut(a)
	}
	if e, ok := e.(scheduler.Answered); ok {
		if r := e.Result.(*result); !r.claimed { //nolint:forcetypeassert // every Answered has a result
			r.taken() // no batch wants the result: its batch is over, or its rows were answered by another worker
		}
	}
}

// carryOut carries out an action of the scheduler. It puts parts and releases into the queues of workers, and outcomes into the queues from
// which clients are answered; it does not block.
func (l *schedulerLoop) carryOut(a scheduler.Action) {
	switch a := a.(type) {
	case scheduler.Send:
		if k := l.peers[a.Worker]; k != nil {
			submissionOf(a.Part.Batch).retain() // the answers retain the rows' memory, too, as the batch is not over
			k.instructions.put(instruction{part: a.Part})
		}
	case scheduler.Release:
		if k := l.peers[a.Worker]; k != nil {
			k.instructions.put(instruction{release: &a})
		}
	case scheduler.Answer:
		r := a.Result.(*result) //nolint:forcetypeassert // every Answered has a result
		r.claimed = true
		submissionOf(a.Part.Batch).put(ending{part: a.Part, result: r, only: a.Only, last: a.Last})
	case scheduler.Fail:
		submissionOf(a.Batch).put(ending{rows: a.Rows, outcome: a.Outcome, code: a.Code, last: a.Last})
	case scheduler.Searched:
		close(a.Search.Owner.(chan struct{})) //nolint:forcetypeassert // every search comes from Find
	case scheduler.Finish:
		submissionOf(a.Batch).put(ending{last: true})
	}
}

// Ledgers returns the counts of rows by flow; nil when ctx is done or the loop has ended.
func (l *schedulerLoop) Ledgers(ctx context.Context) map[string]scheduler.Ledger {
	all := map[string]scheduler.Ledger{}
	if !l.do(ctx, func(l *schedulerLoop) {
		l.scheduler.Ledgers(func(flow string, counts scheduler.Ledger) { all[flow] = counts })
	}) {
		return nil // all may still be written to
	}
	return all
}

// failure returns the text in which clients read why a row ended, for rows that the scheduler itself ended with the code.
func failure(code batch.Code, flow string) string {
	switch code {
	case batch.CodeDeadline:
		return "the batch's deadline passed before the row had an outcome, and the row may have taken effect: submit the same batch again"
	case batch.CodeNoCapableWorker:
		return "no worker is ready for flow " + flow + ": start one that has its functions (kisgrid get flow " + flow + " says which), then submit the same batch again"
	case batch.CodePoison:
		return "three workers died while they ran the row, and the last one ran nothing else: look at the last lines of their logs, and whether the system killed them for their memory (OOMKilled)"
	}
	return code.String()
}

// Done returns a channel that is closed when the loop has ended.
func (l *schedulerLoop) Done() <-chan struct{} { return l.done }

// Inspect calls f with the scheduler in the loop's goroutine, waits until f has returned, and returns true. If it returns false, because
// ctx is done or the loop has ended before, f may still run later.
func (l *schedulerLoop) Inspect(ctx context.Context, f func(*scheduler.Scheduler)) bool {
	return l.do(ctx, func(l *schedulerLoop) { f(l.scheduler) })
}

// Find makes the scheduler search for the rows of a shard key, and blocks until s has the result. It returns an error, and s must not be
// used, if ctx is done or the loop has ended before. It sets s.Owner.
func (l *schedulerLoop) Find(ctx context.Context, s *scheduler.Search) error {
	found := make(chan struct{})
	s.Owner = found
	if !l.post(ctx, scheduler.Asked{Search: s}) {
		return refuse.Stopped()
	}
	select {
	case <-found:
		return nil
	case <-ctx.Done():
		return batch.Errorf(batch.CodeCancelled, "look for rows of flow %s: the caller gave up: %w", s.Flow, context.Cause(ctx))
	case <-l.done:
		return refuse.Stopped()
	}
}

// BatchID returns the id that the client gave a batch of the scheduler.
func (*schedulerLoop) BatchID(b *scheduler.Batch) batch.ID { return submissionOf(b).id }
