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

// slack is how much longer than its time left a row waits for a call to its connector. The call's context ends when the time is
// over, so that the call usually returns within slack, with an error that says why it had to end.
const slack = 100 * time.Millisecond

// patience is how long a lane waits for a call to a connector before it does something else.
const patience = 100 * time.Millisecond

// asking calls connectors for the rows of a step. A call runs on a goroutine beside the lane, however long the store takes. The
// lane waits for at most patience; then rows with keys park, and a run without keys rests, until the call has ended. A store that
// can't be reached is asked again after a pause. All of that time is charged to the rows.
type asking struct {
	st  *stepRun
	run *run
	x   *executor
}

// asked is the answer of a connector to one call.
type asked struct {
	verdicts []error                    // the answer to a Save: for each effect why it was refused, or nil; a nil list means that all took place
	values   map[string]connector.Value // the answer to a Load: the values by key
	err      error                      // why the connector could not be asked, or refused the batch
}

// ask is one call to a connector for rows of a run. It runs on a goroutine of its own, which Lanes.asks waits for.
type ask struct {
	connector *definition.Connector
	cancel    context.CancelFunc
	done      chan struct{} // closed when the call has ended; asked and ended don't change any more then
	asked     asked
	ended     time.Duration // when the call ended, by the clock of the lanes

	mu      sync.Mutex
	waiters map[waiter]struct{}   // the parked groups that wait for it; guarded by mu
	told    bool                  // whether the waiters were told; guarded by mu
	retries map[int]time.Duration // when its rows are to ask again, by their number of tries; guarded by mu
}

// again returns when rows for which the call has failed are to ask again: rows that had the same number of failed calls before it all at the same
// time, so that they are asked for together once more. now is the time by the clock of the lanes.
func (a *ask) again(now time.Duration, tries int) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, known := a.retries[tries]
	if !known {
		if a.retries == nil {
			a.retries = make(map[int]time.Duration, 1)
		}
		at = now + pause(tries)
		a.retries[tries] = at
	}
	return at
}

// ask starts a call to the connector of step s on another goroutine, and returns at once. do makes the call over an open
// connection. Its context ends after most, or when the lanes are stopped.
func (q *asking) ask(s *step, most time.Duration, do func(context.Context, connector.Connection) (asked, error)) *ask {
	lanes := q.x.lane.lanes
	ctx, cancel := context.WithTimeout(lanes.ctx, max(most, 0))
	a := &ask{connector: s.connector, cancel: cancel, done: make(chan struct{})}
	ctx, span := q.x.traceConnector(ctx, s)
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

// call opens the connection of a step's connector, waiting for it if need be, and calls do with it. answer.err is the error of
// either. A panic of the connector becomes such an error, too.
func (l *Lanes) call(ctx context.Context, s *step, do func(context.Context, connector.Connection) (asked, error)) (answer asked) {
	returned := false
	defer func() {
		if panicked := recover(); panicked != nil || !returned {
			pointConnectorPanic.Hit()
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

// soon waits for the answer to a call, for at most patience, and reports whether it has come. If the answer has come, the rows are
// charged for the time since began. The result charged is where a later charge has to begin: when the call ended, or began if
// there is no answer. If another call to the same connector is known to take longer, soon does not wait.
func (q *asking) soon(a *ask, began time.Duration) (charged time.Duration, answered bool) {
	ln := q.x.lane
	if slow := ln.slowAsk.Load(); slow == nil || slow.connector != a.connector || slow.isDone() {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-a.done:
		case <-q.x.ctx.Done():
		case <-timer.C:
			pointSlowConnector.Hit()
			ln.slowAsk.Store(a)
		}
	}
	if !a.isDone() {
		return began, false
	}
	if a.ended-began >= slow {
		for _, origin := range q.st.rs.Origins {
			q.run.budgets.chargeSpan(origin, began, a.ended)
		}
	}
	return a.ended, true
}

// pause returns how long a store that can't be reached is left alone before it is asked again: from about 10 ms to about a second,
// twice as long each time. tries is how many calls had failed before the last one.
func pause(tries int) time.Duration {
	const least, most = 10 * time.Millisecond, time.Second
	return jitter(min(least<<min(tries, 10), most))
}

// chargeKept charges rows that were parked until their connector answers for the time since they were last charged. It leaves out
// the time for which Part.Enter has held up the lane. now is the time by the clock of the lanes.
func (q *asking) chargeKept(rs *rows.Set, now time.Duration) {
	a := alongOf(rs)
	if a == nil {
		return
	}
	for i, k := range a.keeps {
		if k == nil {
			continue
		}
		q.run.budgets.chargeSpan(rs.Origins[i], k.since, k.since+k.waited(now-q.x.heldUp))
		renewed := *k
		renewed.since = now
		a.keeps[i] = &renewed
	}
}

// stillWaits reports whether row i can't go on yet, because it is behind a parked row, or its connector has not answered. The row
// is parked again then, or has ended because it has no time left.
func (q *asking) stillWaits(rs *rows.Set, i int) bool {
	if !q.run.parking.any() && rs.Along == nil {
		return false
	}
	k := keptOf(rs, i)
	switch {
	case k == nil && q.run.parking.behind(rs, i):
		q.st.parkBehind(i, holdOf(rs, i))
	case k == nil:
		return false
	case q.run.parking.behind(rs, i), k.ask != nil && !k.ask.isDone(), k.ask == nil && k.again > q.x.lane.lanes.clock.now():
		q.parkAsking(i, *k)
	case k.ask == nil && q.run.budgets.left(i) <= 0:
		q.st.lose(i, q.unasked(k.err))
	case k.ask == nil || k.ask.asked.err == nil:
		return false
	case passing(k.ask.asked.err) && q.run.budgets.left(i) > 0 && k.ask.again(k.ask.ended, k.tries) <= q.x.lane.lanes.clock.now():
		return false // it was behind another row while the pause passed
	default:
		q.askAgain(i, *k, k.ask.asked.err)
	}
	return true
}

// parkAsking parks row i until its connector has answered, or is to be asked again, but no longer than the row has time left. A
// row that has none left ends.
func (q *asking) parkAsking(i int, k kept) {
	now := q.x.lane.lanes.clock.now()
	left := q.run.budgets.left(i) - k.waited(now)
	if left <= 0 && !k.answered() {
		q.st.lose(i, q.unasked(k.err))
		return
	}
	h := holdOf(q.st.rs, i)
	if h.load && h.since != notSpent {
		q.run.budgets.charge(q.st.rs.Origins[i], min(now, h.due)-h.since) // for which it had waited for its key until then
		h.since = notSpent
	}
	if q.run.parking.behind(q.st.rs, i) {
		q.st.parkBehind(i, h)
	} else {
		g := q.st.park(i, h)
		if g.ask, g.due = k.ask, never; k.ask == nil {
			g.due = k.again
		}
	}
	q.st.parked[len(q.st.parked)-1].kept = &k
	if !k.answered() {
		g := q.run.parking.groups[q.run.work.key(q.st.rs.Origins[i])]
		g.due = min(g.due, now+left+slack)
	}
}

// askAgain parks row i, whose call has failed with err, until its connector is asked again. If the error is not one that passes,
// the row ends.
func (q *asking) askAgain(i int, k kept, err error) {
	if !passing(err) {
		q.st.lose(i, q.refusedFor(err))
		return
	}
	now := q.x.lane.lanes.clock.now()
	pointConnectorAgain.Hit()
	k.ask, k.again, k.tries, k.err = nil, k.ask.again(now, k.tries), k.tries+1, err
	q.parkAsking(i, k)
}

// unasked is the outcome of rows whose connector could not be asked in time, because of err. A nil err means that the connector
// did not answer.
func (q *asking) unasked(err error) batch.RowOutcome {
	pointConnectorAway.Hit()
	if err == nil {
		err = fmt.Errorf("it did not answer within what the row had left of the flow's timeout of %v", q.run.plan.timeout)
	}
	return batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeConnectorUnavailable, Attempts: 1, Reason: decode.Trimmed(fmt.Sprintf(
		"connector %s could not be asked: %v: submit the batch again when it is there", q.st.step.connector.Name, err))}
}

// refusedFor is the outcome of rows whose connector has failed with err and is not asked again.
func (q *asking) refusedFor(err error) batch.RowOutcome {
	if code := batch.CodeOf(err); code == batch.CodeBatchTooOld || code == batch.CodeBatchGivenUp || code == batch.CodeLogSuperseded {
		pointTooOld.Hit()
		// Nobody knows any more which of its effects took place.
		return batch.RowOutcome{Outcome: batch.Failed, Code: code, Attempts: 1, Reason: decode.Trimmed(err.Error())}
	}
	return q.unasked(err)
}

// passing reports whether a store's error may go away, so that the store is asked again. It is false only for a batch.Error whose
// code is not retryable.
func passing(err error) bool {
	var e *batch.Error
	return !errors.As(err, &e) || e.Code.Retryable()
}

// persist makes the call do to the connector of step s, for the rows of a run without keys. It repeats the call while the store
// can't be reached, and the run rests meanwhile. over has for each row whether it has used up its time: the other rows go on. ok
// is false if no row goes on, or the run is over; then answer has the error of the last call that has ended.
func (q *asking) persist(s *step, do func(context.Context, connector.Connection) (asked, error)) (answer asked, over []bool, ok bool) {
	over = make([]bool, q.st.rs.Len())
	for tries := 0; ; tries++ {
		began := q.x.lane.lanes.clock.now()
		a := q.ask(s, q.run.budgets.most(), do)
		if began, answered := q.soon(a, began); !answered && !q.restFor(a, over, began) {
			a.cancel()
			return answer, over, false
		}
		for i := range over {
			over[i] = over[i] || q.run.budgets.left(i) <= 0
		}
		answer = a.asked
		switch {
		case answer.err == nil:
			return answer, over, slices.Contains(over, false)
		case !passing(answer.err), !q.restUntil(q.x.lane.lanes.clock.now()+pause(tries), over):
			return answer, over, false
		}
	}
}

// restFor rests until the call a has ended, and charges the rows that are not over for the time from since on. It returns false if
// the run is over, or no row has time left.
func (q *asking) restFor(a *ask, over []bool, since time.Duration) bool {
	for q.run.woke = q.x.lane.lanes.clock.now(); !a.isDone(); {
		q.run.budgets.chargeWait(over, q.run.woke-since)
		since = q.run.woke
		least := q.run.budgets.leastOf(over)
		pointRestForCall.Hit()
		if least == never || !q.run.rest(least+slack, nil, nil, a) {
			return false
		}
	}
	q.run.budgets.chargeWait(over, max(0, min(a.ended, q.run.woke)-since))
	return true
}

// restUntil rests until a time by the clock of the lanes, and charges the rows that are not over for it. It returns false if the
// run is over, or no row has time left.
func (q *asking) restUntil(until time.Duration, over []bool) bool {
	for since := q.x.lane.lanes.clock.now(); since < until; since = q.run.woke {
		least := q.run.budgets.leastOf(over)
		if least == never || !q.run.rest(min(least, until-since), nil, nil, nil) {
			return false
		}
		q.run.budgets.chargeWait(over, q.run.woke-since)
	}
	return slices.Contains(over, false)
}
