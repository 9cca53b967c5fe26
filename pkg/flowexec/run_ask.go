package flowexec

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// This file is how rows ask their step's connector. The call goes on beside the lane, however long the store takes: the lane
// waits for a moment, then the rows park (or, without keys, the run rests) until the call has ended. A store that is away is
// asked again after a pause. All of that time is the rows' own.

// slack is how much later than its time a row is ended whose call goes on: the call, which has the same time, says why it had
// to end.
const slack = 100 * time.Millisecond

// patience is how long a lane waits for a call to a connector before it does something else.
const patience = 100 * time.Millisecond

// asked is what came of one call.
type asked struct {
	verdicts []error                    // of a Save's effects; nil: all took place
	values   map[string]connector.Value // of a Load's keys
	err      error                      // why the connector could not be asked, or refused the batch
}

// ask is one call to a connector for rows of a run. Its goroutine belongs to Lanes.asks.
type ask struct {
	connector *definition.Connector
	cancel    context.CancelFunc
	done      chan struct{} // closed when the call has ended; asked and ended don't change any more then
	asked     asked
	ended     time.Duration // by the clock of the lanes

	mu      sync.Mutex
	waiters map[waiter]struct{} // the parked groups that wait for it; guarded by mu
	told    bool                // they were told; guarded by mu
}

// ask begins a call to the step's connector that may take as long as most.
func (r *run) ask(s *step, most time.Duration, do func(context.Context, connector.Connection) (asked, error)) *ask {
	lanes := r.x.lane.lanes
	ctx, cancel := context.WithTimeout(lanes.ctx, max(most, 0))
	a := &ask{connector: s.connector, cancel: cancel, done: make(chan struct{})}
	ctx, span := r.x.traceConnector(ctx, s)
	lanes.asks.Go(func() {
		defer cancel()
		a.asked = lanes.call(ctx, s, do)
		if span != nil {
			endConnector(span, a.asked.err)
		}
		a.ended = lanes.clock.now()
		close(a.done)
		a.tell()
	})
	return a
}

// call is one call over the step's connector, which it waits for if it is not open.
func (l *Lanes) call(ctx context.Context, s *step, do func(context.Context, connector.Connection) (asked, error)) (answer asked) {
	returned := false
	defer func() {
		if panicked := recover(); panicked != nil || !returned {
			answer.err = batch.Errorf(batch.CodeInternal, "connector %s: its connection panicked with a %T, or ended its goroutine: "+
				"report this to whoever made connectors of type %s", s.connector.Name, panicked, s.connector.Type)
		}
	}()
	c, err := connect(ctx, l.config.Connectors, s.connector)
	if err == nil {
		answer, err = do(ctx, c)
		err = errors.Join(err, c.Close())
	}
	answer.err, returned = err, true
	return answer
}

// soon waits for a moment until the call has ended, and charges the rows under way for it, up to the time returned. While another
// call to the same connector is known to take longer, it does not wait.
func (r *run) soon(a *ask, began time.Duration) (charged time.Duration, answered bool) {
	ln := r.x.lane
	if slow := ln.slowAsk.Load(); slow == nil || slow.connector != a.connector || slow.isDone() {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-a.done:
		case <-r.x.ctx.Done():
		case <-timer.C:
			ln.slowAsk.Store(a)
		}
	}
	if !a.isDone() {
		return began, false
	}
	if took := a.ended - began; took >= slow {
		r.chargeAll(make([]bool, r.now.Len()), took)
	}
	return a.ended, true
}

// pause is how long a store that is away is left alone after so many tries that failed.
func pause(tries int) time.Duration {
	const least, most = 10 * time.Millisecond, time.Second
	return jitter(min(least<<min(tries, 10), most))
}

// chargeKept takes the time for which rows have waited for their connector off what they have left.
func (r *run) chargeKept(rs *rows.Set, now time.Duration) {
	a := alongOf(rs)
	if a == nil {
		return
	}
	charged := make(map[rows.RunRow]time.Duration) // the outputs of one row have waited together
	for i, k := range a.keeps {
		if k == nil {
			continue
		}
		origin, waited := rs.Origins[i], k.waited(now-r.x.heldUp)
		if before := charged[origin]; waited > before {
			r.charge(origin, waited-before)
			charged[origin] = waited
		}
		renewed := *k
		renewed.since = now
		a.keeps[i] = &renewed
	}
}

// stillWaits sets row i of the rows under way aside if it is behind a parked one, or still waits for its connector. False: its
// turn has come.
func (r *run) stillWaits(rs *rows.Set, i int) bool {
	if r.aside == nil && rs.Along == nil {
		return false
	}
	k := keptOf(rs, i)
	switch {
	case k == nil && r.behind(rs, i):
		r.setAside(i, holdOf(rs, i))
	case k == nil:
		return false
	case r.behind(rs, i), k.ask != nil && !k.ask.isDone(), k.ask == nil && k.again > r.x.lane.lanes.clock.now():
		r.parkAsking(i, *k)
	case k.ask == nil && r.left(i) <= 0:
		r.lose(i, r.unasked(k.err))
	case k.ask != nil && k.ask.asked.err != nil:
		r.askAgain(i, *k, k.ask.asked.err)
	default:
		return false
	}
	return true
}

// parkAsking parks row i while its connector is asked, or until it is to be asked again, but no longer than the row has time.
func (r *run) parkAsking(i int, k kept) {
	now := r.x.lane.lanes.clock.now()
	left := r.left(i) - k.waited(now)
	if left <= 0 && !k.answered() {
		r.lose(i, r.unasked(k.err))
		return
	}
	h := holdOf(r.now, i)
	if h.load && h.since != notSpent {
		r.charge(r.now.Origins[i], min(now, h.due)-h.since) // what it had waited for its key until then
		h.since = notSpent
	}
	if r.behind(r.now, i) {
		r.setAside(i, h)
	} else {
		g := r.park(i, h)
		if g.ask, g.due = k.ask, never; k.ask == nil {
			g.due = k.again
		}
	}
	r.x.aside[len(r.x.aside)-1].kept = &k
	if !k.answered() {
		g := r.aside.groups[r.key(r.now.Origins[i])]
		g.due = min(g.due, now+left+slack)
	}
}

// askAgain parks row i, whose connector could not be asked, until it is asked again, if it may come back.
func (r *run) askAgain(i int, k kept, err error) {
	if !passing(err) {
		r.lose(i, r.refusedFor(err))
		return
	}
	now := r.x.lane.lanes.clock.now()
	k.ask, k.again, k.tries, k.err = nil, now+pause(k.tries), k.tries+1, err
	r.parkAsking(i, k)
}

// unasked is how rows end whose connector could not be asked in time.
func (r *run) unasked(err error) batch.RowOutcome {
	if err == nil {
		err = fmt.Errorf("it did not answer within what the row had left of the flow's timeout of %v", r.plan.timeout)
	}
	return batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeConnectorUnavailable, Attempts: 1, Reason: decode.Trimmed(fmt.Sprintf(
		"connector %s could not be asked: %v: submit the batch again when it is there", r.step.connector.Name, err))}
}

// refusedFor is how rows end whose connector won't be asked again.
func (r *run) refusedFor(err error) batch.RowOutcome {
	if code := batch.CodeOf(err); code == batch.CodeBatchTooOld || code == batch.CodeBatchGivenUp {
		// Nobody knows any more what of it took effect.
		return batch.RowOutcome{Outcome: batch.Failed, Code: code, Attempts: 1, Reason: decode.Trimmed(err.Error())}
	}
	return r.unasked(err)
}

// passing reports whether an error of a store may pass: all do that are not known to stay.
func passing(err error) bool {
	var e *batch.Error
	return !errors.As(err, &e) || e.Code.Retryable()
}

// mostLeft is what the row with the most time has left.
func (r *run) mostLeft() time.Duration {
	var most time.Duration
	for i := range r.now.Len() {
		most = max(most, r.left(i))
	}
	return most
}

// persist asks the connector for the rows under way of a run without keys, again and again while its store is away. The run
// rests meanwhile. over says which rows have no time left: the others go on. False: none does, or the run is over; the answer's
// error is that of the last try then, nil if none has ended.
func (r *run) persist(s *step, do func(context.Context, connector.Connection) (asked, error)) (answer asked, over []bool, ok bool) {
	over = make([]bool, r.now.Len())
	for tries := 0; ; tries++ {
		began := r.x.lane.lanes.clock.now()
		a := r.ask(s, r.mostLeft(), do)
		if began, answered := r.soon(a, began); !answered && !r.restFor(a, over, began) {
			a.cancel()
			return answer, over, false
		}
		for i := range over {
			over[i] = over[i] || r.left(i) <= 0
		}
		answer = a.asked
		switch {
		case answer.err == nil:
			return answer, over, slices.Contains(over, false)
		case !passing(answer.err), !r.restUntil(r.x.lane.lanes.clock.now()+pause(tries), over):
			return answer, over, false
		}
	}
}

// restFor rests until a call has ended. False: the run is over, or no row has time left.
func (r *run) restFor(a *ask, over []bool, since time.Duration) bool {
	for r.woke = r.x.lane.lanes.clock.now(); !a.isDone(); {
		r.chargeAll(over, r.woke-since)
		since = r.woke
		least := r.leastLeft(over)
		if least == never || !r.rest(least+slack, nil, nil, a) {
			return false
		}
	}
	r.chargeAll(over, max(0, min(a.ended, r.woke)-since))
	return true
}

// restUntil rests until a time. False: the run is over, or no row has time left.
func (r *run) restUntil(until time.Duration, over []bool) bool {
	for since := r.x.lane.lanes.clock.now(); since < until; since = r.woke {
		least := r.leastLeft(over)
		if least == never || !r.rest(min(least, until-since), nil, nil, nil) {
			return false
		}
		r.chargeAll(over, r.woke-since)
	}
	return slices.Contains(over, false)
}

// leastLeft is what the row with the least time has left of those that are not over; never: all are.
func (r *run) leastLeft(over []bool) time.Duration {
	least := never
	for i := range over {
		if !over[i] {
			least = min(least, r.left(i))
		}
	}
	return least
}

// chargeAll takes a wait off what the rows under way have left; those that have none then are over.
func (r *run) chargeAll(over []bool, took time.Duration) {
	charged := make(map[rows.RunRow]bool) // the outputs of one row wait together
	for i, origin := range r.now.Origins {
		if !over[i] && !charged[origin] {
			r.charge(origin, took)
			charged[origin] = true
		}
	}
	for i := range over {
		over[i] = over[i] || r.left(i) <= 0
	}
}
