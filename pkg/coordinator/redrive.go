package coordinator

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// A redrive runs a letter as a batch of one row of a stream that has the letter's id, from the function in which it died. A
// redrive that is cut off and begins again sends the same batch, so its effects are once. A letter goes when it has ended;
// one that dies again stays in its place, or the letters of what became of it take that.

const (
	// redriveRows and redriveBytes bound the letters that one redrive has under way.
	redriveRows  = 1024
	redriveBytes = 8 << 20
	// redriveTells is how often progress is told.
	redriveTells = 200 * time.Millisecond
)

// RedriveDead runs letters again.
func (a *admin) RedriveDead(in *pb.RedriveDeadRequest, out pb.Admin_RedriveDeadServer) error {
	t := &redriveTally{send: out.Send, reasons: map[deadReason]uint64{}}
	return wire.Status(a.redriveDead(out.Context(), in.GetFilter(), in.GetDryRun(), t))
}

// redriveDead redrives the letters that the filter selects, and tells t what becomes of them.
func (a *admin) redriveDead(ctx context.Context, filter *pb.DeadFilter, dry bool, t *redriveTally) error {
	store, err := a.letters()
	if err != nil {
		return err
	}
	s, err := a.selection(ctx, store, filter)
	if err != nil {
		return err
	}
	last := make([]string, len(s.flows)) // letters that come later, such as those of rows that die again, are not redriven
	for i, flow := range s.flows {
		if last[i], err = store.Last(ctx, flow); err != nil {
			return err
		}
		if err := s.each(ctx, store, flow, func(letters []*deadletter.Letter) error {
			t.selected += uint64(len(letters))
			if dry {
				for _, l := range letters {
					if _, err := a.batchOf(l); err != nil {
						t.count(l.Flow, l.Function, batch.Failed, batch.CodeOf(err), message(err))
					}
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	if dry || t.selected == 0 {
		return t.tell(true)
	}
	cost := callCost(redriveRows, redriveBytes)
	if !a.budget.reserve(cost) {
		return errOverloaded()
	}
	defer a.budget.release(cost, false)
	a.budget.call(1)
	defer a.budget.call(-1)
	for i, flow := range s.flows {
		p := s.pages(store, flow)
		if p.last = last[i]; p.last == "" {
			continue
		}
		if err := a.redriveFlow(ctx, p, t); err != nil {
			return err
		}
	}
	return t.tell(true)
}

// redriveFlow redrives the selected letters of one flow, as long as that is nobody else's.
func (a *admin) redriveFlow(ctx context.Context, p *pages, t *redriveTally) error {
	who := a.id + "/" + strconv.FormatUint(a.redrives.Add(1), 10) // another call here is somebody else
	return p.store.WithLock(ctx, p.flow, who, func(ctx context.Context) error {
		r := &redrive{admin: a, pages: p, tally: t, endings: newQueue[ending](), underWay: map[*submission]*redrivenLetter{}, keys: map[uint64]*keyQueue{}}
		defer r.cancel()
		return r.run(ctx)
	})
}

// redrive is one flow's redrive. Its goroutine owns all of it.
type redrive struct {
	admin   *admin
	pages   *pages
	tally   *redriveTally
	endings *queue[ending]

	next     []*deadletter.Letter // read, and not begun
	over     bool                 // there are no more to read
	underWay map[*submission]*redrivenLetter
	keys     map[uint64]*keyQueue
	rows     int // under way, or waiting for their key
	bytes    int
}

// trial is a letter that is under way.
type redrivenLetter struct {
	letter   *deadletter.Letter
	outcome  batch.Outcome // 0: none yet
	code     batch.Code
	reason   string
	function string // the function
	dead     []batch.DeadRow
	notKept  batch.NotKept
	results  []*pb.Columns // what the flow passed on, in pieces; nil where nobody asked for it
}

// keyQueue is the letters of one shard key: one is under way, the others wait for it.
type keyQueue struct {
	waiting []*deadletter.Letter
	stuck   bool // one could not be run: those behind it must not overtake it
}

// run redrives until each letter was run, ctx is done, or the coordinator drains.
func (r *redrive) run(ctx context.Context) error {
	tell := time.NewTicker(redriveTells)
	defer tell.Stop()
	draining := r.admin.draining
	var items []ending
	for {
		if err := r.begin(ctx); err != nil {
			return err
		}
		if len(r.underWay) == 0 && r.over && len(r.next) == 0 {
			if draining == nil {
				return errDraining()
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return batch.Errorf(batch.CodeCancelled, "the redrive was cut off: what it left, the next one runs: %w", context.Cause(ctx))
		case <-r.admin.loop.done:
			return errStopped()
		case <-draining:
			draining, r.over, r.next = nil, true, nil
			for _, q := range r.keys {
				q.waiting = nil
			}
		case <-tell.C:
			if err := r.tally.tell(false); err != nil {
				return err
			}
		case <-r.endings.ready:
			items = r.endings.take(items)
			if err := r.settle(ctx, items); err != nil {
				return err
			}
		}
	}
}

// cancel tells the scheduler that nobody waits for what is under way any more.
func (r *redrive) cancel() {
	for sub := range r.underWay {
		r.admin.loop.post(context.Background(), scheduler.Cancelled{Batch: &sub.Batch})
		sub.letGoResults()
	}
}

// begin sends letters as long as there is room.
func (r *redrive) begin(ctx context.Context) error {
	for r.rows < redriveRows && r.bytes < redriveBytes {
		if len(r.next) == 0 {
			if r.over {
				return nil
			}
			if err := r.read(ctx); err != nil {
				return err
			}
			continue
		}
		l := r.next[0]
		r.next = r.next[1:]
		r.rows++
		r.bytes += len(l.Row)
		if err := r.queue(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// read reads a page of letters, and notes that their redrives begin.
func (r *redrive) read(ctx context.Context) error {
	letters, more, err := r.pages.next(ctx)
	if err != nil || !more {
		r.over = true
		return err
	}
	letters = slices.DeleteFunc(letters, func(l *deadletter.Letter) bool {
		_, err := r.admin.batchOf(l)
		if err != nil {
			r.tally.count(l.Flow, l.Function, batch.Failed, batch.CodeOf(err), message(err))
		}
		return err != nil
	})
	if len(letters) > 0 {
		r.next, err = r.pages.store.Begin(ctx, r.pages.flow, letters)
	}
	return err
}

// queue sends a letter, or puts it behind those of its key. Without a shard key there is no order.
func (r *redrive) queue(ctx context.Context, l *deadletter.Letter) error {
	sub, err := r.admin.batchOf(l)
	if err != nil {
		r.tally.count(l.Flow, l.Function, batch.Failed, batch.CodeOf(err), message(err))
		r.done(l)
		return nil
	}
	if len(sub.Keys) > 0 {
		q := r.keys[sub.Keys[0]]
		switch {
		case q == nil:
			r.keys[sub.Keys[0]] = &keyQueue{}
		case q.stuck:
			r.leaveBehind(l)
			return nil
		default:
			q.waiting = append(q.waiting, l)
			return nil
		}
	}
	return r.send(ctx, l, sub)
}

func (r *redrive) send(ctx context.Context, l *deadletter.Letter, sub *submission) error {
	sub.endings = r.endings
	r.wantResults(sub)
	r.underWay[sub] = &redrivenLetter{letter: l}
	if !r.admin.loop.post(ctx, scheduler.Submitted{Batch: &sub.Batch}) {
		return errStopped()
	}
	return nil
}

func (r *redrive) done(l *deadletter.Letter) {
	r.rows--
	r.bytes -= len(l.Row)
}

// leaveBehind leaves a letter whose key has one before it that could not be run.
func (r *redrive) leaveBehind(l *deadletter.Letter) {
	r.tally.count(l.Flow, l.Function, batch.Failed, batch.CodeUnavailable, "a letter of the same shard key before it could not be run: redrive again")
	r.done(l)
}

// settle takes in how letters ended.
func (r *redrive) settle(ctx context.Context, endings []ending) error {
	var ended []*submission
	var settled []deadletter.Settlement
	for i := range endings {
		e := &endings[i]
		t := r.underWay[e.submission]
		if t == nil {
			continue
		}
		t.take(e)
		if e.last {
			ended = append(ended, e.submission)
			t.leaveWithout(e.submission)
			if s, ok := t.settlement(e.submission); ok {
				if err := r.tellResults(t); err != nil { // while the letter is there: cut off, it runs again
					return err
				}
				settled = append(settled, s)
			}
		}
	}
	if err := r.pages.store.Settle(ctx, r.pages.flow, settled); err != nil {
		return err
	}
	for _, sub := range ended {
		t := r.underWay[sub]
		delete(r.underWay, sub)
		sub.letGoResults()
		r.tally.count(sub.Flow, cmp.Or(t.function, t.letter.Function), t.outcome, t.code, t.reason)
		r.admin.keeper.redriven.WithLabelValues(sub.Flow, t.outcome.String()).Inc()
		r.done(t.letter)
		if err := r.release(ctx, sub, t.outcome == batch.Failed); err != nil {
			return err
		}
	}
	return nil
}

// release lets the next letter of a key go, unless the one before it has not come to an end.
func (r *redrive) release(ctx context.Context, sub *submission, failed bool) error {
	if len(sub.Keys) == 0 {
		return nil
	}
	key := sub.Keys[0]
	q := r.keys[key]
	if failed {
		q.stuck = true
		for _, l := range q.waiting {
			r.leaveBehind(l)
		}
		q.waiting = nil
		return nil
	}
	if len(q.waiting) == 0 {
		delete(r.keys, key)
		return nil
	}
	l := q.waiting[0]
	q.waiting = q.waiting[1:]
	next, err := r.admin.batchOf(l)
	if err != nil { // the flow has changed since
		r.tally.count(l.Flow, l.Function, batch.Failed, batch.CodeOf(err), message(err))
		r.done(l)
		return r.release(ctx, sub, false)
	}
	return r.send(ctx, l, next)
}

// take takes in what an ending says of the letter's row.
func (t *redrivenLetter) take(e *ending) {
	switch {
	case e.part != nil && e.counts(0):
		r := e.result
		for _, o := range r.GetNotDone() {
			t.outcome, t.code, t.reason, t.function = batch.Outcome(o.GetOutcome()), batch.Code(o.GetCode()), o.GetReason(), o.GetFunction()
			t.notKept = batch.NotKept(o.GetNotKept())
		}
		t.dead, _ = wire.ToDeadRows(r.GetDead(), 1) // link has checked them
		t.gather(e)
	case len(e.rows) > 0:
		t.outcome, t.code, t.reason = e.outcome, e.code, failure(e.code, e.submission.Flow)
	}
	if e.last {
		t.outcome = cmp.Or(t.outcome, batch.Done)
	}
}

// settlement says what takes the letter's place; false: what became of it is not known.
func (t *redrivenLetter) settlement(sub *submission) (deadletter.Settlement, bool) {
	l := t.letter
	s := deadletter.Settlement{ID: l.ID}
	switch t.outcome {
	case batch.Failed:
		return s, false
	case batch.Dead:
	default:
		return s, true
	}
	for _, d := range t.dead {
		if d.Function == l.Function && d.Use == l.Use && d.Path == 0 && d.Visit == 0 {
			continue // it is where it was
		}
		origin := batch.RowID{Batch: sub.id}
		child := sub.letter(0, d)
		child.ID = deadletter.NewID(l.Flow, origin, d.Path, d.Visit, d.Function, d.Use)
		child.Origin, child.Redrives = l.Origin, l.Redrives+1
		s.Stay = append(s.Stay, child)
	}
	if len(s.Stay) == 0 || len(s.Stay) < len(t.dead) || t.notKept != 0 {
		again := *l
		again.Code, again.Reason, again.Revision, again.Redrives = t.code, t.reason, sub.Revision, l.Redrives+1
		for _, d := range t.dead {
			again.Attempts = d.Attempts
		}
		s.Stay = []*deadletter.Letter{&again}
	}
	return s, true
}

// batchOf is the batch that a redrive of a letter is, on the revision that is active now. The error says why there is none.
func (a *admin) batchOf(l *deadletter.Letter) (*submission, error) {
	r, err := a.board.Load().Active(l.Flow)
	if err != nil {
		return nil, err
	}
	if l.Function != "" && !r.Has(l.Function, l.Use) {
		return nil, batch.Errorf(batch.CodeUnknownFunction, "function %s, in which the row died, is not in revision %d of flow %s any more: "+
			"put it back to redrive the letter, or drop the letter", l.Function, r.Number, l.Flow)
	}
	if l.Function == "" && len(l.Row) > a.limits.RowBytes {
		return nil, batch.Errorf(batch.CodeRowTooLarge, "the row has %d bytes, over the limit of %d bytes: edit it, or drop the letter", len(l.Row), a.limits.RowBytes)
	}
	if len(l.Row) > a.limits.BatchBytes {
		return nil, batch.Errorf(batch.CodeRowTooLarge, "the row had grown to %d bytes, over this coordinator's limit of %d bytes: "+
			"raise --max-batch-bytes, edit the letter, or drop it", len(l.Row), a.limits.BatchBytes)
	}
	now := time.Now()
	sub := &submission{
		id: batch.ID{Stream: l.ID, Sequence: l.Sequence}, floor: l.Sequence, born: now, revision: r, letters: a.keeper, keepsDead: true, redrive: true,
		start: l.Function, startUse: l.Use,
		columns: batch.Columns{Data: l.Row, Ends: []uint32{uint32(len(l.Row))}, Encoding: l.Encoding},
	}
	if !l.Begun.IsZero() && l.Begun.Before(now) {
		sub.born = l.Begun
	}
	sub.Batch = scheduler.Batch{Flow: l.Flow, Revision: r.Number, Digest: r.Digest, Ends: sub.columns.Ends, Owner: sub}
	if err := sub.key(l); err != nil {
		return nil, err
	}
	return sub, nil
}

// key gives the row the shard key that it had, or the one that stands in it where it is as it was submitted, or where the flow
// has another now.
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

// message is an error without its code.
func message(err error) string {
	return wire.FromError(err).GetMessage()
}
