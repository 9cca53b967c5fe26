package flowexec

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/behindfailed"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// LanesConfig is the configuration of StartLanes. Every field but Flow may be zero, which means its default.
type LanesConfig struct {
	// Flow is the flow's name.
	Flow string
	// Copies is how many lanes there may be. A lane is started when there are rows for it. Default: GOMAXPROCS. Lanes.Resize changes it.
	Copies int
	// Connectors opens the connections that functions use. nil is for flows without connectors.
	Connectors Connectors
	// Logger gets messages about lanes. They contain no rows. Default: no messages.
	Logger hclog.Logger
	// Metrics gets counts and durations. Default: nothing is counted.
	Metrics *Metrics
	// Tracer makes spans of runs, functions and calls to connectors, for parts that have a span. Default: no spans.
	Tracer trace.Tracer
	// Context is the parent of the contexts that functions get. When it is done, the rows of runs that are under way fail with CANCELLED.
	// Default: context.Background().
	Context context.Context
	// Copy is the copy of the flow that the lane uses. It may be set only if Copies is 1. Default: each lane makes its own copy.
	Copy *kis.Copy
	// Saves tells Loads in KisFlow's shape that another flow of this process has saved something. Default: these lanes hear only of
	// their own Saves.
	Saves *Saves
	// RunBytes bounds the memory of a run, in bytes of the rows that its functions have made. Over that, rows with keys that have not
	// entered the function yet are parked, and go on later as runs of their own. The rows that come of one row are never divided. The bound is
	// approximate. Default: no bound.
	RunBytes int64
	// GrowthBytes bounds the memory of one input row, in bytes of the rows that functions have made of it in a run: where functions make several
	// rows of one, those of all of them count together. Over that, the input row is dead with ROW_TOO_LARGE. The bound is approximate, and the rows
	// that one call makes may come on top. Default: no bound.
	GrowthBytes int64
	// PieceBytes is about how many bytes of output one call of Part.Done gets, for runs without keys, which RunBytes can't divide.
	// Default: no bound.
	PieceBytes int
	// Observe is called when a function has returned for the rows of a run. It is also called when none of the rows could be read for the
	// function. It must not block, and several lanes call it at the same time. Default: nothing is called.
	Observe func(Observed)
}

// Observed says how one function ran for the rows of one run. Observers get it; see LanesConfig.Observe.
type Observed struct {
	// Flow and Function are the names of the two.
	Flow, Function string
	// Mode is the function's mode, as its document has it.
	Mode definition.Mode
	// Place is the function's place in the flow, from 0.
	Place int
	// Rows is how many rows entered the function.
	Rows int
	// Took is how long the function took for all of them, retries and waits included.
	Took time.Duration
}

// Lanes runs the parts of batches of one flow in one process. It shares out their rows to lanes: a lane is a queue, and a goroutine that
// executes the queued rows on a copy of the flow. The rows of one slot have the same lane, so that they run in the order of Enqueue. The
// lanes of different flows share no goroutines, so that a slow flow does not hold up another one. The methods of Lanes are safe for
// concurrent use.
//
// The life of a row with a key (rows of different keys go separate ways):
//
//	            Enqueue                 the wait is over
//	               |                  +------------------+
//	               v     a run        v     the row      |
//	            queued ----------> running ----------> parked
//	               |     begins       |     waits        |
//	               |                  | the row          |
//	Release, Stop: |                  | ends             | Release, Stop:
//	with Returned  |                  v                  | with Returned
//	               +---------> Done is called <----------+
//
// A part without keys is queued for all lanes together, and the next free lane runs all of it. When that run waits, it rests: it keeps its
// goroutine, and another goroutine takes over the lane.
type Lanes struct {
	config  LanesConfig
	table   laneTable
	keyless keylessQueue

	clock   *clock
	pending *pendingRuns
	busy    *busyLanes
	sources *waitSources
	metrics flowMetrics
	// failed are rows of logs that failed and have not come again.
	failed behindfailed.Rows
	// timed says that functions are timed, because config has Metrics or Observe.
	timed bool
	// lateUses are the uses of a function's context after its call had ended, so that each kind is logged once: [2]string{function, thing
	// used} → true.
	lateUses sync.Map

	// ctx is the parent of functions' contexts. Stop cancels it.
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // the goroutines of lanes, and those of resting runs
	asks   sync.WaitGroup // the goroutines of calls to connectors

	// taps are the taps of the flow; nil means none. A run reads it once, when it begins.
	taps atomic.Pointer[[]*Tap]

	watchdog     sync.WaitGroup // the watchdog's goroutine
	stopWatchdog func()         // ends that goroutine; safe to call twice
}

// StartLanes makes the Lanes of a flow and starts its watchdog. Each lane is started when there are rows for it. The caller ends the Lanes
// with Stop.
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
		config: c, clock: newClock(), pending: newPendingRuns(), busy: newBusyLanes(),
		metrics: c.Metrics.flow(c.Flow), timed: c.Metrics != nil || c.Observe != nil,
	}
	l.sources = newWaitSources(l.clock, c)
	l.ctx, l.cancel = context.WithCancelCause(c.Context)
	l.table.size, l.table.lanes = c.Copies, make(map[int]*lane)
	stop := make(chan struct{})
	l.stopWatchdog = sync.OnceFunc(func() { close(stop) })
	l.watchdog.Go(func() { l.runWatchdog(stop) })
	return l
}

// Enqueue queues the rows of a part. A row with a key goes to the lane of its slot; a part without keys goes as a whole to the first lane
// that is free. Rows of one slot begin in the order of Enqueue, but a row waits while an earlier row of its key is parked.
//
// Enqueue never blocks: the credits that the caller has granted bound how much is queued. From here on the rows belong to the lanes, and
// the part's Columns and Values are empty. After Drain or Stop, Done is called for all rows, with Returned, before Enqueue returns.
func (l *Lanes) Enqueue(p *Part) {
	in := p.takeInput()
	if len(in.columns.Keys) == 0 {
		l.enqueueKeyless(p, in)
		return
	}
	l.pending.giveBack(l.enqueueKeyed(&work{part: p, in: in}))
}

// enqueueKeyless queues a part without keys. It wakes an idle lane, or else starts one more lane if the flow may have more. After Drain or
// Stop it gives the part back.
func (l *Lanes) enqueueKeyless(p *Part, in input) {
	q := &l.keyless
	if !l.pending.begin() {
		l.pending.giveBack([]*work{{part: p, in: in}})
		return
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		l.pending.giveBack([]*work{{part: p, in: in}})
		return
	}
	w := q.newWork()
	w.part, w.in = p, in
	q.queue = append(q.queue, w)
	ln := q.takeIdle()
	q.mu.Unlock()
	if ln != nil {
		ln.signal()
		return
	}
	l.startOneMore()
}

// Release gives back rows that have not begun, or that are parked, of the parts for which belongs returns true; a nil belongs means all
// parts. Only rows whose slot is in slots are given back; nil slots mean all rows. Parts without keys have no slot: only nil slots release
// them. Done has been called for the rows, with Returned, when Release returns. Two kinds of rows follow later: rows that park in a run
// which is under way now, and resting parts without keys. belongs must not call the lanes.
func (l *Lanes) Release(slots []batch.Range, belongs func(*Part) bool) {
	c := releaseRequest{slots, belongs}
	lanes, back, parked := l.release(c)
	if slots == nil {
		back = append(back, l.keyless.take(func(w *work) bool { return c.includesPart(w.part) })...)
	}
	l.pending.giveBack(back)
	giveBackParked(parked)
	for _, ln := range lanes {
		l.settleKeys(ln) // rows may have waited for keys of those that were given back
	}
}

// Drain has Enqueue give back new parts from now on. It blocks until all rows that were queued, running or parked have ended, and returns
// nil. If ctx ends first, it returns the cause of that; the rows go on.
func (l *Lanes) Drain(ctx context.Context) error {
	select {
	case <-l.pending.close():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stop ends the lanes. It cancels the contexts of functions, whose rows fail with SHUTDOWN, and gives back queued and parked rows with
// Returned. It blocks until Done has been called for all rows. A function that ignores its context holds Stop up for a second; then its
// goroutine is abandoned. Stop is safe to call twice.
func (l *Lanes) Stop() {
	idle := l.pending.close()
	l.cancel(errShutdown)
	lanes, back := l.closeTable()
	for _, ln := range lanes {
		works, groups := ln.close()
		l.pending.giveBack(works)
		giveBackParked(groups)
	}
	l.pending.giveBack(append(back, l.keyless.close()...))
	<-idle
	l.wg.Wait()
	l.asks.Wait()
	l.stopWatchdog()
	l.watchdog.Wait()
	l.clock.stop()
	l.sources.keys.close()
}
