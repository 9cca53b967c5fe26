package flowexec

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/keyslot"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Connectors hands out connections: *connector.Pool does.
type Connectors interface {
	// Get is a hold on the connection of a connector, opened at first use. It waits for it under ctx. Close ends the hold.
	Get(ctx context.Context, c *definition.Connector) (connector.Connection, error)
}

// LanesConfig says what lanes are for.
type LanesConfig struct {
	// Flow is the flow's name.
	Flow string
	// Copies is how many lanes there may be. One is made when there are rows for it. Default GOMAXPROCS. See Lanes.Resize.
	Copies int
	// Connectors may be nil for flows that have none.
	Connectors Connectors
	// Logger takes what concerns lanes, never rows. Default none.
	Logger hclog.Logger
	// Metrics may be nil.
	Metrics *Metrics
	// Tracer takes spans of runs, functions and what they ask connectors for, of parts that have a span. Default: nobody traces.
	Tracer trace.Tracer
	// Context is what functions' contexts come from; when it is done, what runs is failed. Default: none.
	Context context.Context
	// Copy is the flow's only copy, if there is one lane. Default: each lane has its own.
	Copy *kis.Copy
	// Saves is that of the process, for Loads in KisFlow's shape. Default: one of these lanes alone.
	Saves *Saves
	// RunBytes is about how many bytes of what functions make of its rows a run holds: with more, rows of it that have not entered
	// the function become runs of their own. PieceBytes is about how many of them Done gets with one call, for a run that is not
	// divided so. What comes of one row is never divided. Default: no bounds.
	RunBytes   int64
	PieceBytes int
	// Observe is told of each function that rows went through, or did not. It must not block. Default: nobody.
	Observe func(Observed)
}

// Observed is what a function did for the rows of one run.
type Observed struct {
	Flow, Function string
	Mode           definition.Mode
	Place          int // in the flow, from 0
	Rows           int // that entered it
	Took           time.Duration
}

// Lanes run one flow in one process: each lane owns a copy of the flow and executes its runs in order. Lanes never wait for
// lanes of other flows. It is safe for concurrent use.
type Lanes struct {
	config   LanesConfig
	table    laneTable
	keyless  keylessQueue
	metrics  flowMetrics
	timed    bool            // somebody wants to know how long functions take
	ctx      context.Context // done when running functions are to stop
	cancel   context.CancelCauseFunc
	wg       sync.WaitGroup // the lanes
	asks     sync.WaitGroup // the calls to connectors
	busy     atomic.Int32   // lanes with a run
	wake     chan struct{}  // tells the watchdog that a lane is busy
	ended    func()         // ends the watchdog, once
	watchdog sync.WaitGroup
	began    time.Time    // what parked rows count time from
	parked   atomic.Int64 // rows
	lateUses sync.Map     // what functions used after their calls, told once: [2]string{function, what} → true

	watching sync.Mutex
	watches  map[*definition.Connector]*keyWatch // guarded by watching

	alarms  sync.Mutex
	earlier *time.Timer   // tells the watchdog of parked rows whose time has come
	first   time.Duration // when it does; guarded by alarms

	pending atomic.Int64  // runs and parcels whose last Done has not returned; with noMore: none is taken any more
	idle    chan struct{} // closed when pending is noMore and nothing else
	setIdle func()        // closes idle, once
}

// noMore is in Lanes.pending when no more runs are taken.
const noMore = 1 << 62

// lane is a queue and the goroutine that owns one copy of the flow.
type lane struct {
	lanes       *Lanes
	index       int
	resumeLimit atomic.Int32        // how many parked rows go on together, as functions make much of them; 0: all that may
	expanding   atomic.Bool         // an Expand made many rows of each lately
	heldUpTotal atomic.Int64        // for how long parts' Enter held it up, in nanoseconds
	slowAsk     atomic.Pointer[ask] // the last call to a connector that took longer than the lane waited; nil: none did

	mu             sync.Mutex
	ready          sync.Cond     // something below changed
	queue          []*work       // guarded by mu
	parked         parkedRows    // guarded by mu
	resting        []*restingRun // guarded by mu: runs without keys that are parked
	parkedTurn     bool          // guarded by mu: it is the turn of what was parked, not of the queue
	closed         bool          // guarded by mu: the goroutine ends when the queue is empty
	leaving        bool          // guarded by mu: its place is no more; it is closed when nothing of it is left
	current        *work         // guarded by mu: what it runs, or has begun to; nil: nothing
	reusable       *work         // of its goroutine: a whole part that has ended, which nobody looks at any more
	maybeIdle      bool          // of its goroutine: it may be among those that wait for a whole part
	idleIndex      int           // guarded by wholes.mu: its place among those that wait, from 1; 0: it has none
	waitingForKeys []*work       // guarded by places.mu: they wait for keys that the lane still has although they are another's
	exec           *executor     // guarded by mu: what the lane's goroutine runs on now, for the watchdog

	currentSince time.Duration // guarded by mu: when it took now, if that has keys
	entering     atomic.Bool   // it waits for leave to run now
}

// work is one run to be.
type work struct {
	part *Part
	in   input          // its rows, or the parcel's
	rows []rows.PartRow // of in, ascending; nil: all
	// abandoned is what the goroutines that ran it before have left behind; nil: none did.
	abandoned *abandoned
	// behind are rows, by their place in the run, whose keys have rows parked.
	blocked []rows.RunRow
	// from and groups are the parked rows that go on with this run, whose part is then the parcel's; nil: it is the first.
	from   *parcel
	groups []*group
}

// abandoned is what is known of a run whose goroutines did not come back. Functions get one row at a time then, so that one that
// hangs is known.
type abandoned struct {
	// dead are the rows to blame, by their place in the run, rows these as they entered their function. over is how all of it
	// ends: no row is to blame; nil: it goes on.
	dead []batch.RowOutcome
	rows []batch.DeadRow
	over *batch.RowOutcome
	// apart are the steps whose Batch or FaaS function did not come back from a call for several keys: it is called for each alone.
	apart []*step
	// carried is where the other rows stood; nil: they begin anew.
	carried *carried
}

func (w *work) len() int {
	if w.rows == nil {
		return w.in.len()
	}
	return len(w.rows)
}

// row is the part's row behind the run's row i.
func (w *work) row(i rows.RunRow) rows.PartRow {
	if w.rows == nil {
		return rows.PartRow(i)
	}
	return w.rows[i]
}

// returned is the result of a run that never began.
func (w *work) returned() RunResult {
	all := make([]uint32, w.len())
	for i := range all {
		all[i] = uint32(w.row(rows.RunRow(i)))
	}
	return RunResult{Part: w.part.enqueued(), Rows: rows.As[uint32](w.rows), Returned: all}
}

// StartLanes starts a flow's lanes. Stop ends them.
func StartLanes(c LanesConfig) *Lanes {
	c.Copies = laneCount(c.Copies)
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Saves == nil {
		c.Saves = new(Saves)
	}
	if c.Context == nil {
		c.Context = context.Background()
	}
	l := &Lanes{
		config: c, metrics: c.Metrics.flow(c.Flow), wake: make(chan struct{}, 1), began: time.Now(),
		watches: make(map[*definition.Connector]*keyWatch), earlier: time.NewTimer(time.Hour), first: never,
		idle: make(chan struct{}), timed: c.Metrics != nil || c.Observe != nil,
	}
	l.setIdle = sync.OnceFunc(func() { close(l.idle) })
	l.earlier.Stop() // until a row parks
	ended := make(chan struct{})
	l.ended = sync.OnceFunc(func() { close(ended) })
	l.ctx, l.cancel = context.WithCancelCause(c.Context)
	l.table.size, l.table.lanes = c.Copies, make(map[int]*lane)
	l.watchdog.Go(func() { l.runWatchdog(ended) })
	return l
}

// laneCount is how many lanes there may be.
func laneCount(copies int) int {
	if copies <= 0 {
		return runtime.GOMAXPROCS(0)
	}
	return copies
}

// Enqueue hands a part to the lanes of its rows: a row's lane follows from its key, a part without keys goes whole to the
// first lane that is free. It never blocks; what is queued is bounded by the credits that the caller has granted. Parts of one
// slot run in the order of Enqueue. After Drain or Stop all rows come back as Returned before Enqueue returns. The part's
// rows are the lanes' from here on.
func (l *Lanes) Enqueue(p *Part) {
	in := p.takeInput()
	if len(in.columns.Keys) == 0 {
		l.enqueueKeyless(p, in)
		return
	}
	l.giveBack(l.enqueueKeyed(&work{part: p, in: in}))
}

// begin counts a run in, unless there are to be no more; then it is counted all the same, for giveBack.
func (l *Lanes) begin() bool { return l.pending.Add(1)&noMore == 0 }

// alsoPending counts one more run: one was cut in two while it was queued.
func (l *Lanes) alsoPending() { l.pending.Add(1) }

// setBusy counts the lanes that have a run. The watchdog is awake while there are any.
func (l *Lanes) setBusy(by int32) {
	if l.busy.Add(by) == 1 && by > 0 {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// end counts a run out.
func (l *Lanes) end() {
	if l.pending.Add(-1) == noMore {
		l.setIdle()
	}
}

func laneOf(key uint64, lanes int) int {
	return int(uint64(keyslot.Of(key)) * uint64(lanes) / keyslot.Count)
}

// Parked is how many rows are parked.
func (l *Lanes) Parked() int { return int(l.parked.Load()) }

// countParked keeps that number.
func (l *Lanes) countParked(more int) {
	l.parked.Add(int64(more))
	l.config.Metrics.addParked(l.config.Flow, more)
}

// Release gives back rows that have not begun, or are parked: those of these slots, nil for all, in the parts that belongs
// says yes to, nil for all. A part without keys has no slots. Done has been called for them, with Returned, when Release
// returns; for those that park in a run which is under way, and whole parts that are parked, it is called as soon as can be.
// belongs must not call the lanes.
func (l *Lanes) Release(slots []batch.Range, belongs func(*Part) bool) {
	c := releaseRequest{slots, belongs}
	lanes, back, parked := l.release(c)
	if slots == nil {
		back = append(back, l.keyless.take(func(w *work) bool { return c.includesPart(w.part) })...)
	}
	l.giveBack(back)
	l.giveBackParked(parked)
	for _, ln := range lanes {
		l.settleKeys(ln) // keys that waited for what has gone back
	}
}

// giveBack calls Done for runs that never began.
func (l *Lanes) giveBack(back []*work) {
	for _, w := range back {
		w.part.Done(w.returned())
		l.end()
	}
}

// Drain takes no more parts, and returns when all that were queued or parked have ended, or with ctx's error.
func (l *Lanes) Drain(ctx context.Context) error {
	select {
	case <-l.close():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close takes no more parts; the channel is closed when none is queued or running.
func (l *Lanes) close() <-chan struct{} {
	if l.pending.Or(noMore)&^noMore == 0 {
		l.setIdle()
	}
	return l.idle
}

// Stop cancels running functions, whose rows are failed with SHUTDOWN, gives queued and parked rows back as Returned, and waits until
// Done has been called for all. A function that ignores its context is abandoned after a grace of a second. Stop is safe
// twice.
func (l *Lanes) Stop() {
	idle := l.close()
	l.cancel(errShutdown)
	lanes, back := l.closeTable()
	for _, ln := range lanes {
		works, groups := ln.close()
		l.giveBack(works)
		l.giveBackParked(groups)
	}
	l.giveBack(append(back, l.keyless.close()...))
	<-idle
	l.wg.Wait()
	l.asks.Wait()
	l.ended()
	l.watchdog.Wait()
	l.earlier.Stop()
	l.endWatches()
}

// enqueue adds a run to the lane; false: it takes no more.
func (ln *lane) enqueue(w *work) bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.closed {
		return false
	}
	ln.queue = append(ln.queue, w)
	ln.ready.Signal()
	return true
}

// next waits for a run; nil: the goroutine is to end, because the lane is closed or belongs to a run that has rested. What
// was parked and what is queued take turns.
func (ln *lane) next() *work {
	w, other := ln.pick()
	if other != nil {
		other.signal()
	}
	return w
}

// pick waits for what the lane is to run next. other is a lane to wake for a whole part instead of this one; nil: none.
func (ln *lane) pick() (next *work, other *lane) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.parked.running, ln.parked.releases, ln.current = false, nil, nil
	if l := ln.lanes; l.table.unsettled.Load() { // looked at once nothing runs: who sets it looks whether something does
		ln.mu.Unlock()
		l.settleKeys(ln)
		ln.mu.Lock()
	}
	for {
		if ln.parkedTurn = !ln.parkedTurn; ln.parkedTurn {
			if ln.yieldToResting() {
				return nil, ln.leaveIdle() // from now on the lane is the other goroutine's
			}
			if w := ln.resumeParked(); w != nil {
				return ln.startWork(w)
			}
		}
		if len(ln.queue) > 0 {
			w, rest := ln.queue[0].first()
			if rest != nil {
				ln.queue[0] = rest
				ln.lanes.alsoPending()
			} else {
				ln.queue = slices.Delete(ln.queue, 0, 1)
			}
			w.blocked = ln.parked.blockedRows(w)
			return ln.startWork(w)
		}
		switch {
		case ln.closed || ln.leaving && ln.isEmpty():
			ln.closed, ln.exec = true, nil
			return nil, ln.leaveIdle()
		case !ln.leaving:
			if w := ln.lanes.keyless.next(ln); w != nil {
				return ln.startWork(w)
			}
		}
		if ln.parkedTurn { // nothing is to go on either
			ln.ready.Wait()
		}
	}
}

// startWork notes what the lane runs. It must be called with mu held.
func (ln *lane) startWork(w *work) (_ *work, other *lane) {
	ln.parked.running, ln.current = true, w
	if len(w.in.columns.Keys) > 0 { // of others nobody asks
		ln.currentSince = ln.lanes.now()
	}
	return w, ln.leaveIdle()
}

// leaveIdle takes the lane out of those that wait for a whole part. Where it was woken for one, and runs something else, another lane
// is to be: the caller wakes it once it has let go of mu, which must be held here.
func (ln *lane) leaveIdle() (other *lane) {
	if !ln.maybeIdle {
		return nil
	}
	ln.maybeIdle = false
	return ln.lanes.keyless.wakeAnother(ln)
}

// isEmpty reports whether nothing of the lane is left. It must be called with mu held.
func (ln *lane) isEmpty() bool {
	return len(ln.queue) == 0 && len(ln.resting) == 0 && len(ln.parked.keys) == 0 && len(ln.parked.ready) == 0
}

// resumeParked makes a run of parked rows that may go on; nil: there are none.
func (ln *lane) resumeParked() *work {
	groups := ln.parked.next(int(ln.resumeLimit.Load()))
	if groups == nil {
		return nil
	}
	p := groups[0].parcel
	return &work{part: p.part, in: input{columns: p.part.Columns}, rows: rows.As[rows.PartRow](groupRows(groups)), from: p, groups: groups}
}

// close empties the lane and lets its goroutine end.
func (ln *lane) close() (works []*work, groups []*group) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	works = ln.queue
	ln.queue, ln.closed = nil, true
	groups = ln.parked.release(releaseRequest{})
	ln.releaseResting(releaseRequest{})
	ln.ready.Broadcast()
	return works, groups
}

// pendingReleases are the rows that Release has asked for since the run under way began: those that park in it go back.
func (ln *lane) pendingReleases() []releaseRequest {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return slices.Clip(ln.parked.releases)
}

// release takes the rows of the slots out of the lane.
func (ln *lane) release(c releaseRequest) (back []*work, groups []*group) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.releaseResting(c)
	groups = ln.parked.release(c)
	if len(groups) > 0 || ln.leaving {
		ln.ready.Signal() // what was behind them may go on, and a lane without a place end
	}
	ln.queue, back = ln.lanes.cut(ln.queue, c, nil)
	return back, groups
}

// first is the run that is next: all of it, or one row where rows run one by one; rest is what comes behind that, nil for nothing.
func (w *work) first() (next, rest *work) {
	if !w.part.OneByOne || len(w.in.columns.Keys) == 0 || w.part.Plan.whole() || w.len() < 2 {
		return w, nil
	}
	all := w.rows
	if all == nil {
		all = rows.Range[rows.PartRow](0, w.len())
	}
	return &work{part: w.part, in: w.in, rows: all[:1:1]}, &work{part: w.part, in: w.in, rows: all[1:]}
}

// cut parts the rows that are in the slots from those that are not; nil: none. A part without keys has no slots.
func (w *work) cut(c releaseRequest) (stays, goes *work) {
	keys := w.in.columns.Keys
	switch {
	case c.slots == nil:
		return nil, w
	case len(keys) == 0:
		return w, nil
	}
	var in, out []rows.PartRow
	for i := range w.len() {
		row := w.row(rows.RunRow(i))
		if c.includesKey(keys[row]) {
			in = append(in, row)
		} else {
			out = append(out, row)
		}
	}
	switch {
	case len(in) == 0:
		return w, nil
	case len(out) == 0:
		return nil, w
	}
	return &work{part: w.part, in: w.in, rows: out}, &work{part: w.part, in: w.in, rows: in}
}
