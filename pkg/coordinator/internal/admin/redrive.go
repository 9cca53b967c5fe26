package admin

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

const (
	// redriveRows and redriveBytes are the most letters, and the most bytes of their rows, that one redrive has under way.
	redriveRows  = 1024
	redriveBytes = 8 << 20
	// redriveTells is the interval at which a redrive sends its progress, if that has changed.
	redriveTells = 200 * time.Millisecond
)

// RedriveDead runs the dead letters again that the caller's filter selects, and sends progress. It blocks until each of them has run or was
// left.
func (a *admin) RedriveDead(in *pb.RedriveDeadRequest, out pb.Admin_RedriveDeadServer) error {
	t := &redriveTally{send: out.Send, reasons: map[deadReason]uint64{}}
	return wire.Status(a.redriveDead(out.Context(), in, t))
}

// redriveRequest is the request of a call that redrives letters, with or without their output.
type redriveRequest interface {
	GetFilter() *pb.DeadFilter
	GetDryRun() bool
	GetLettersPerSecond() uint32
}

// redriveDead redrives the letters that the request selects, and counts in t how they end. In a dry run it only counts the letters, and
// those that can't be run.
func (a *admin) redriveDead(ctx context.Context, in redriveRequest, t *redriveTally) error {
	filter, dry := in.GetFilter(), in.GetDryRun()
	store, err := a.letterStore()
	if err != nil {
		return err
	}
	rights := []access.Right{access.Operate}
	if t.results != nil {
		rights = append(rights, access.Rows)
	}
	s, err := a.selection(ctx, store, filter, rights...)
	if err != nil {
		return err
	}
	t.who = access.From(ctx)
	for _, flow := range s.flows {
		if t.results == nil {
			break
		}
		if err := t.who.NeedUnmasked(flow, "see the output of a redrive"); err != nil {
			return err
		}
	}
	last := make([]string, len(s.flows)) // by flow: the newest letter now. Letters that are kept later, such as those of rows that die again, are not redriven.
	for i, flow := range s.flows {
		if last[i], err = store.Last(ctx, flow); err != nil {
			return err
		}
		if err := s.each(ctx, store, flow, func(letters []*deadletter.Letter) error {
			t.selected += uint64(len(letters))
			if dry {
				for _, l := range letters {
					if _, err := a.Runner.Prepare(l); err != nil {
						t.count(l.Flow, l.Function, batch.Failed, batch.CodeOf(err), message(err))
					}
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	if dry && !s.content.empty() { // the number of letters tells of their contents
		a.Auditor.record(ctx, "search dead letters", lettersDetail(filter), s.flows...)
	}
	if dry || t.selected == 0 {
		return t.sendProgress(true)
	}
	action := "redrive dead letters"
	if t.results != nil {
		action += " and read their output"
	}
	a.Auditor.record(ctx, action, lettersDetail(filter), s.flows...)
	release, ok := a.Budget.ReserveCall(redriveRows, redriveBytes)
	if !ok {
		return refuse.Overloaded()
	}
	defer release()
	defer a.Budget.AwaitRows()()
	for i, flow := range s.flows {
		p := s.pages(store, flow)
		if p.last = last[i]; p.last == "" {
			continue
		}
		if err := a.redriveFlow(ctx, p, in.GetLettersPerSecond(), t); err != nil {
			return err
		}
	}
	return t.sendProgress(true)
}

// redriveFlow redrives the selected letters of one flow while it holds the flow's lock in the store, so that no other redrive runs the
// same letters. It begins at most perSecond letters a second; 0 means no limit.
func (a *admin) redriveFlow(ctx context.Context, p *pages, perSecond uint32, t *redriveTally) error {
	who := a.ID + "/" + strconv.FormatUint(a.redrives.Add(1), 10) // another call to this coordinator is another owner of the lock
	return p.store.WithLock(ctx, p.flow, who, func(ctx context.Context) error {
		r := &redrive{admin: a, pages: p, tally: t, attempts: a.Runner.Begin(t.results != nil), keys: map[uint64]*keyQueue{}}
		if perSecond > 0 {
			r.limit = rate.NewLimiter(rate.Limit(perSecond), int(max(1, perSecond/10)))
		}
		defer r.attempts.Close()
		return r.run(ctx)
	})
}

// redrive runs the selected dead letters of one flow again. Each letter becomes a batch of one row, which begins at the function in which
// the row died. The batch's stream is the letter's id. So a redrive that is cut off and begins again sends the same batches, and their
// effects are saved once.
//
//	            read, Prepare         Start                       done, filtered, aborted
//	┌─────────┐               ┌────────┐       ┌───────────┐                              ┌──────┐
//	│ letter  │ ────────────> │ queued │ ────> │ under way │ ───────────────────────────> │ gone │
//	└─────────┘               └────────┘       └───────────┘                              └──────┘
//	  ^    ^  can't be run      │                │   │  dead: the letter stays, or the letters of rows
//	  │    └────────────────────┘                │   └> that functions made of its row take its place
//	  └──────────────────────────────────────────┘
//	    failed: it is not known whether the row has run
//
// Letters of one shard key run one after the other, in their order. If one of them fails, those behind it are left. A letter that can't be
// run does not hold up those behind it: it may stay so for ever, as when its function is no longer in the flow.
//
// The goroutine of the call owns the redrive.
type redrive struct {
	admin    *admin
	pages    *pages
	tally    *redriveTally
	attempts Attempts

	next     []*deadletter.Letter // read from the store, and not begun
	over     bool                 // there are no more letters to read
	underWay int                  // attempts that have been started and have not ended
	keys     map[uint64]*keyQueue // by hash of the shard key
	rows     int                  // number of letters that are under way, or wait for an earlier letter of their key
	bytes    int                  // size of these letters' rows together

	limit *rate.Limiter    // how many letters may begin; nil means no limit
	paced <-chan time.Time // is ready when limit lets the next letter begin; nil means that no letter waits for that
}

// keyQueue is the letters of one shard key: one is under way, and those in waiting run after it, one after the other.
type keyQueue struct {
	waiting []*deadletter.Letter
	stuck   bool // one letter has failed, and those behind it must not overtake it, so they are left
}

// run starts letters and settles them when they have ended. It returns nil when all letters have ended or were left, and an error if ctx is
// done or something fails. If the coordinator drains, run waits for the letters under way, and then returns an error, too.
func (r *redrive) run(ctx context.Context) error {
	tell := time.NewTicker(redriveTells)
	defer tell.Stop()
	draining := r.admin.Draining
	for {
		if err := r.begin(ctx); err != nil {
			return err
		}
		if r.underWay == 0 && r.over && len(r.next) == 0 {
			if draining == nil {
				return refuse.Draining()
			}
			return nil
		}
		select {
		case <-ctx.Done():
			pointRedriveCut.Hit()
			return batch.Errorf(batch.CodeCancelled, "the redrive was cut off: the next redrive runs the letters that it left: %w", context.Cause(ctx))
		case <-r.admin.Rows.Done():
			return refuse.Stopped()
		case <-draining:
			pointRedriveDrained.Hit()
			draining, r.over, r.next = nil, true, nil
			for _, q := range r.keys {
				q.waiting = nil
			}
		case <-r.paced:
			r.paced = nil
		case <-tell.C:
			if err := r.tally.sendProgress(false); err != nil {
				return err
			}
		case <-r.attempts.Ready():
			if err := r.settle(ctx, r.attempts.Ended()); err != nil {
				return err
			}
		}
	}
}

// begin reads letters and starts or queues them, until redriveRows or redriveBytes are under way or there are no more letters.
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
		if r.limited() {
			return nil
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

// limited reports whether the next letter must wait for the limit of letters in a second. Then r.paced says when it may begin.
func (r *redrive) limited() bool {
	if r.limit == nil {
		return false
	}
	if r.paced != nil {
		return true
	}
	now := time.Now()
	next := r.limit.ReserveN(now, 1)
	wait := next.DelayFrom(now)
	if wait == 0 {
		return false
	}
	next.CancelAt(now)
	r.paced = time.After(wait)
	return true
}

// read reads a page of letters into r.next, and notes in the store that their redrives begin. Letters that can't be run are counted and
// left out. After the last page it sets r.over.
func (r *redrive) read(ctx context.Context) error {
	letters, more, err := r.pages.next(ctx)
	if err != nil || !more {
		r.over = true
		return err
	}
	letters = slices.DeleteFunc(letters, func(l *deadletter.Letter) bool {
		_, err := r.admin.Runner.Prepare(l)
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

// queue starts a letter, or makes it wait if another letter of its shard key is under way. A letter that can't be run, or whose key is
// stuck, is counted and left.
func (r *redrive) queue(ctx context.Context, l *deadletter.Letter) error {
	a, err := r.admin.Runner.Prepare(l)
	if err != nil {
		r.tally.count(l.Flow, l.Function, batch.Failed, batch.CodeOf(err), message(err))
		r.done(l)
		return nil
	}
	return r.place(ctx, a)
}

// place starts an attempt, or makes its letter wait if another letter of its shard key is under way. If its key is stuck, the letter is
// counted and left.
func (r *redrive) place(ctx context.Context, a *Attempt) error {
	if a.Keyed {
		q := r.keys[a.Key]
		switch {
		case q == nil:
			r.keys[a.Key] = &keyQueue{}
		case q.stuck:
			r.leaveBehind(a.Letter)
			return nil
		default:
			q.waiting = append(q.waiting, a.Letter)
			return nil
		}
	}
	return r.start(ctx, a)
}

// start makes the coordinator run the row of an attempt's letter.
func (r *redrive) start(ctx context.Context, a *Attempt) error {
	r.underWay++
	return r.attempts.Start(ctx, a)
}

// done takes a letter out of r.rows and r.bytes, because it has ended or is left.
func (r *redrive) done(l *deadletter.Letter) {
	r.rows--
	r.bytes -= len(l.Row)
}

// leaveBehind leaves a letter in the store and counts it as failed, because an earlier letter of its shard key has failed and must not be
// overtaken.
func (r *redrive) leaveBehind(l *deadletter.Letter) {
	pointLeftBehind.Hit()
	r.tally.count(l.Flow, l.Function, batch.Failed, batch.CodeUnavailable, "a letter of the same shard key before it could not be run: redrive again")
	r.done(l)
}

// settle handles attempts whose rows have ended: it sends their results to the caller, tells the store to delete their letters or which
// letters take their places, counts them, and starts the next letters of their keys.
func (r *redrive) settle(ctx context.Context, ended []*Attempt) error {
	var settled []deadletter.Settlement
	for _, a := range ended {
		if s, ok := settlement(a); ok {
			if err := r.tellResults(a); err != nil { // while the letter is still there: if this is cut off, it runs again
				return err
			}
			settled = append(settled, s)
		}
	}
	if err := r.pages.store.Settle(ctx, r.pages.flow, settled); err != nil {
		return err
	}
	for _, a := range ended {
		r.underWay--
		r.attempts.Finish(a)
		r.tally.count(a.Letter.Flow, cmp.Or(a.Function, a.Letter.Function), a.Outcome, a.Code, a.Reason)
		r.done(a.Letter)
		if err := r.release(ctx, a, a.Outcome == batch.Failed); err != nil {
			return err
		}
	}
	return nil
}

// release starts the next letter of the shard key of an attempt that has ended. If the attempt failed, the letters that wait for it are
// left instead.
func (r *redrive) release(ctx context.Context, a *Attempt, failed bool) error {
	if !a.Keyed {
		return nil
	}
	q := r.keys[a.Key]
	if failed {
		q.stuck = true
		for _, l := range q.waiting {
			r.leaveBehind(l)
		}
		q.waiting = nil
		return nil
	}
	for len(q.waiting) > 0 {
		l := q.waiting[0]
		q.waiting = q.waiting[1:]
		next, err := r.admin.Runner.Prepare(l)
		switch { // the flow may have changed since the letter was queued
		case err != nil:
			r.tally.count(l.Flow, l.Function, batch.Failed, batch.CodeOf(err), message(err))
			r.done(l)
		case next.Keyed && next.Key == a.Key:
			return r.start(ctx, next)
		default: // it has another shard key
			if err := r.place(ctx, next); err != nil {
				return err
			}
		}
	}
	delete(r.keys, a.Key)
	return nil
}

// settlement returns which letters take the place of an attempt's letter in the store; none means that it is deleted. It returns false if
// the row failed: it is not known what became of the row, and its letter stays as it is.
func settlement(a *Attempt) (deadletter.Settlement, bool) {
	l := a.Letter
	s := deadletter.Settlement{ID: l.ID}
	switch a.Outcome {
	case batch.Failed:
		return s, false
	case batch.Dead:
	default:
		return s, true
	}
	for _, d := range a.Dead {
		if d.Function == l.Function && d.Use == l.Use && d.Path == 0 && d.Visit == 0 {
			continue // the letter's own row died in the same place again
		}
		origin := batch.RowID{Batch: a.Batch}
		child := d.Letter
		child.ID = deadletter.NewID(l.Flow, origin, d.Path, d.Visit, d.Function, d.Use)
		child.Origin, child.Redrives = l.Origin, l.Redrives+1
		child.Source, child.Line = l.Source, l.Line
		s.Stay = append(s.Stay, child)
	}
	if len(s.Stay) == 0 || len(s.Stay) < len(a.Dead) || a.NotKept != 0 {
		again := *l
		again.Code, again.Reason, again.Revision, again.Redrives = a.Code, a.Reason, a.Revision, l.Redrives+1
		for _, d := range a.Dead {
			again.Attempts = d.Attempts
		}
		s.Stay = []*deadletter.Letter{&again}
	}
	return s, true
}

// message returns the text of an error, without its code, for the caller of a redrive.
func message(err error) string {
	return wire.FromError(err).GetMessage()
}

// RedriveDeadWithResults does what RedriveDead does, and also sends the rows that the flow passes on.
func (a *admin) RedriveDeadWithResults(in *pb.RedriveDeadWithResultsRequest, out pb.Admin_RedriveDeadWithResultsServer) error {
	t := &redriveTally{
		send: func(p *pb.DeadProgress) error {
			return out.Send(&pb.RedriveEvent{Kind: &pb.RedriveEvent_Progress{Progress: p}})
		},
		results: func(c *pb.Columns) error {
			return out.Send(&pb.RedriveEvent{Kind: &pb.RedriveEvent_Results{Results: c}})
		},
		reasons: map[deadReason]uint64{},
	}
	return wire.Status(a.redriveDead(out.Context(), in, t))
}
