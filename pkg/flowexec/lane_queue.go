package flowexec

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// lane is a queue of work, and the goroutine that executes it on a copy of the flow. It also has the rows that have parked there, and the
// runs that rest. Parts without keys are not in the queue of a lane: lanes take them from the keylessQueue.
//
// The life of a lane:
//
//	(no lane) --rows for its place--> open --Resize to fewer lanes--> leaving --nothing is left--> closed
//	                                   |                                                             ^
//	                                   +------------------------- Stop ------------------------------+
//
// The life of a lane's goroutine, which is an executor's loop:
//
//	waiting --next finds work--> running --the run ends--> waiting
//	running --the run rests--> resting, and a new goroutine has the lane --the wait is over--> running, and the other goroutine ends
//	running --a function does not return--> abandoned, and a new goroutine has the lane and goes on with the run
type lane struct {
	lanes *Lanes
	index int // the lane's place in the laneTable when the lane was made

	// resumeLimit is how many parked rows go on together at most. It is set when functions have made so many bytes of a run's rows that the
	// others had to park; 0 means no limit.
	resumeLimit atomic.Int32
	// expanding says that an Expand function of the flow made many rows of each row when the lane last called one.
	expanding atomic.Bool
	// heldUpTotal is for how many nanoseconds calls of Part.Enter have held up the lane, since the lane was made.
	heldUpTotal atomic.Int64
	// slowAsk is the last call to a connector that took longer than the lane waited for it; nil means there was none.
	slowAsk atomic.Pointer[ask]
	// entering says that the lane waits in a part's Enter, before it runs the part's rows.
	entering atomic.Bool

	mu sync.Mutex
	// changed is signalled when next may find something to do: a field below has changed. It uses mu.
	changed sync.Cond
	queue   []*work     // guarded by mu
	parked  parkedRows  // guarded by mu
	resting restingRuns // guarded by mu
	// parkedTurn says whether the lane looks for parked rows and resting runs this time, before it looks into the queue. Guarded by mu.
	parkedTurn bool
	// closed says that the goroutine ends once the queue is empty, and that nothing can be queued. Guarded by mu.
	closed bool
	// leaving says that the lane has no place in the table any more: it closes once it has nothing left. Guarded by mu.
	leaving bool
	// current is the work that the lane executes; nil means none. currentSince is when it began with that, for work with keys.
	current      *work         // guarded by mu
	currentSince time.Duration // guarded by mu
	// exec is the executor that has the lane now; nil means that the lane is closed, or about to get another one. Guarded by mu.
	exec *executor

	// maybeIdle says that the lane may be in keylessQueue.idle. Only the lane's goroutine uses it.
	maybeIdle bool
	// reusable is a work that has ended and that nobody looks at any more, for the keylessQueue to use again; nil means none. Only the
	// lane's goroutine uses it.
	reusable *work

	// idleIndex is the lane's place in keylessQueue.idle, from 1; 0 means that it is not there. Guarded by keylessQueue.mu.
	idleIndex int
	// waitingForKeys is work for other lanes whose keys this lane still has. Guarded by laneTable.mu.
	waitingForKeys []*work
}

// newLane makes a lane without a goroutine: start gives it one.
func newLane(l *Lanes, index int) *lane {
	ln := &lane{lanes: l, index: index}
	ln.changed.L = &ln.mu
	ln.parked = parkedRows{mu: &ln.mu, changed: &ln.changed, sources: l.sources, pending: l.pending, metrics: l.metrics}
	ln.resting = restingRuns{mu: &ln.mu, changed: &ln.changed, metrics: l.metrics}
	return ln
}

// waiting returns the two collections of rows that the lane has set aside: its parked rows, and its resting runs.
func (ln *lane) waiting() [2]waitingRows { return [...]waitingRows{&ln.parked, &ln.resting} }

// start gives the lane a goroutine, and a new copy of the flow unless LanesConfig.Copy has one. The goroutine executes resume first, which
// is work that the lane's last goroutine left unfinished; nil means that there is none.
func (ln *lane) start(resume *work) {
	c := ln.lanes.config.Copy
	if c == nil {
		c = new(kis.Copy)
	}
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.launch(resume, c)
}

// launch gives the lane a new goroutine, which runs the copy c of the flow. It executes resume first; nil means that there is no unfinished
// work. The caller holds mu.
func (ln *lane) launch(resume *work, c *kis.Copy) {
	ln.exec = newExecutor(ln, c)
	go ln.exec.loop(resume)
}

// enqueue queues work. It returns true if that is done, and false if the lane is closed.
func (ln *lane) enqueue(w *work) bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.closed {
		return false
	}
	ln.queue = append(ln.queue, w)
	ln.changed.Signal()
	return true
}

// signal wakes the lane's goroutine, so that it looks for work again.
func (ln *lane) signal() {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.changed.Signal()
}

// next blocks until there is work for the lane. It returns nil when the calling goroutine is to end: the lane is closed, or a run that
// rested has the lane again. Parked rows and queued work take turns.
func (ln *lane) next() *work {
	w, other := ln.pick()
	if other != nil {
		other.signal()
	}
	return w
}

// pick does the work of next, under the lane's lock. other is another lane, which the caller has to signal after pick has returned: that
// lane is to take the part without keys that this lane was woken for. A nil other means that there is none.
func (ln *lane) pick() (next *work, other *lane) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.parked.runEnded()
	ln.current = nil
	// Resize sets unsettled before it looks for each lane's current run, and here current is nil already: one of the two sees the other.
	if l := ln.lanes; l.table.unsettled.Load() {
		ln.mu.Unlock()
		l.settleKeys(ln)
		ln.mu.Lock()
	}
	for {
		if ln.parkedTurn = !ln.parkedTurn; ln.parkedTurn {
			if ln.yieldToResting() {
				return nil, ln.leaveIdle()
			}
			if w := ln.parked.nextWork(int(ln.resumeLimit.Load())); w != nil {
				return ln.startWork(w)
			}
		}
		if len(ln.queue) > 0 {
			return ln.startWork(ln.takeQueued())
		}
		switch {
		case ln.closed && len(ln.parked.ready) > 0: // their deadline has passed, so that close has not taken them out: they go on, and fail
		case ln.closed || ln.leaving && ln.isEmpty():
			ln.closed, ln.exec = true, nil
			return nil, ln.leaveIdle()
		case !ln.leaving:
			if w := ln.lanes.keyless.next(ln); w != nil {
				return ln.startWork(w)
			}
		}
		if ln.parkedTurn { // both turns have found nothing
			ln.changed.Wait()
		}
	}
}

// takeQueued takes the first work out of the queue, or only the work's first row if its part has OneByOne set. The caller holds mu, and the
// queue is not empty.
func (ln *lane) takeQueued() *work {
	w, rest := ln.queue[0].first()
	if rest != nil {
		ln.queue[0] = rest
		ln.lanes.pending.more()
	} else {
		ln.queue = slices.Delete(ln.queue, 0, 1)
	}
	w.blocked = ln.parked.blockedRows(w)
	return w
}

// startWork notes that the lane executes the work w from now on. It returns w, and as other the lane that the caller has to signal, as pick
// does. The caller holds mu.
func (ln *lane) startWork(w *work) (_ *work, other *lane) {
	ln.parked.running, ln.current = true, w
	if len(w.in.columns.Keys) > 0 { // Locate looks for keys only, and the clock takes time
		ln.currentSince = ln.lanes.clock.now()
	}
	return w, ln.leaveIdle()
}

// leaveIdle takes the lane out of the idle lanes of the keylessQueue. The lane may have been woken for a part there and do something else
// now: then another idle lane is returned, which the caller signals once it does not hold mu any more; otherwise nil. The caller holds mu.
func (ln *lane) leaveIdle() (other *lane) {
	if !ln.maybeIdle {
		return nil
	}
	ln.maybeIdle = false
	return ln.lanes.keyless.wakeAnother(ln)
}

// isEmpty reports whether the lane has nothing queued and nothing set aside. The caller holds mu.
func (ln *lane) isEmpty() bool {
	return len(ln.queue) == 0 && ln.parked.isEmpty() && ln.resting.isEmpty()
}

// close takes everything out of the lane that does not run, for the caller to give back, and has the goroutine end after its run.
func (ln *lane) close() (works []*work, groups []*group) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	works = ln.queue
	ln.queue, ln.closed, ln.parked.closed = nil, true, true
	for _, waiting := range ln.waiting() {
		groups = append(groups, waiting.release(releaseRequest{})...)
	}
	ln.changed.Broadcast()
	return works, groups
}

// release takes the queued, parked and resting rows that a Release asks for out of the lane, for the caller to give back. Resting runs give
// back their rows themselves.
func (ln *lane) release(c releaseRequest) (back []*work, groups []*group) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	for _, waiting := range ln.waiting() {
		groups = append(groups, waiting.release(c)...)
	}
	if len(groups) > 0 || ln.leaving {
		ln.changed.Signal() // rows behind the released ones may go on, and a leaving lane may be empty now
	}
	ln.queue, back = ln.lanes.pending.cut(ln.queue, c, nil)
	return back, groups
}

// detach gives the lane a new goroutine in place of the calling one, whose run, s, is about to rest. It returns true if that is done, and
// false if the run is to be given back instead: the lane is closed, or a Release asks for its part.
func (ln *lane) detach(s *restingRun) bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	released := ln.closed
	for _, c := range ln.parked.releases {
		released = released || c.slots == nil && c.includesPart(s.part)
	}
	ln.parked.releases = nil
	if released {
		return false
	}
	ln.parked.running, ln.exec = false, nil
	ln.resting.add(s)
	s.x.away = true
	ln.lanes.busy.end()
	ln.lanes.wg.Add(1)
	ln.launch(nil, s.x.copy)
	return true
}

// yieldToResting gives the lane to a run that has rested and asks for it: from then on the lane belongs to the goroutine of that run. It
// returns true if there is one, and false if no run asks. The caller holds mu.
func (ln *lane) yieldToResting() bool {
	s := ln.resting.takeNext()
	if s == nil {
		return false
	}
	ln.exec, ln.parked.running, s.x.away = s.x, true, false
	ln.lanes.busy.begin()
	close(s.resumed)
	return true
}
