package flowexec

import (
	"container/heap"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// parkedRows has the rows with keys that have parked in a lane, in groups: the rows of one key that parked at the end of one run. Each key
// has a queue of groups, and only its first group may go on, so that the rows of a key keep their order. The type group shows the life of a
// group.
//
// The lane's lock guards all fields but the first five. Methods say whether the caller holds it.
type parkedRows struct {
	mu      *sync.Mutex // lane.mu
	changed *sync.Cond  // lane.changed
	sources *waitSources
	pending *pendingRuns
	metrics flowMetrics

	// keys has the first group of each key's queue; group.next leads to the others. tails has the last group where that is not the first.
	// Both are nil when nothing is parked.
	keys  map[uint64]*group
	tails map[uint64]*group
	// ready has the parcels that have groups in state groupReady, in the order in which they go on.
	ready []*parcel
	// timers has the groups that have a time, see group.wakeAt.
	timers timerHeap
	// running says that the lane executes a run, which may park rows. releases are the Releases since that run began: rows that it parks
	// are given back if one of these asks for them.
	running  bool
	releases []releaseRequest
	// closed says that the lane is closed: no row can park any more.
	closed bool
}

// timerHeap is a heap of parked groups by group.wakeAt, the earliest first, for container/heap.
type timerHeap []*group

// Len implements heap.Interface.
func (a timerHeap) Len() int { return len(a) }

// Less implements heap.Interface.
func (a timerHeap) Less(i, j int) bool { return a[i].wakeAt() < a[j].wakeAt() }

// Swap implements heap.Interface.
func (a timerHeap) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].timerIndex, a[j].timerIndex = int32(i+1), int32(j+1)
}

// Push implements heap.Interface.
func (a *timerHeap) Push(x any) {
	g := x.(*group)
	*a = append(*a, g)
	g.timerIndex = int32(len(*a))
}

// Pop implements heap.Interface.
func (a *timerHeap) Pop() any {
	n := len(*a) - 1
	g := (*a)[n]
	(*a)[n] = nil
	*a = (*a)[:n]
	g.timerIndex = 0
	return g
}

// schedule brings the heap up to date with a group's wakeAt: it adds the group, moves it, or takes it out if wakeAt is never. It is called
// when the group's wakeAt may have changed.
func (a *timerHeap) schedule(g *group) {
	switch timed := g.wakeAt() != never; {
	case g.timerIndex > 0 && timed:
		heap.Fix(a, int(g.timerIndex-1))
	case g.timerIndex > 0:
		heap.Remove(a, int(g.timerIndex-1))
	case timed:
		heap.Push(a, g)
	}
}

// cancel takes a group out of the heap, if it is there.
func (a *timerHeap) cancel(g *group) {
	if g.timerIndex > 0 {
		heap.Remove(a, int(g.timerIndex-1))
	}
}

// add puts a group at the end of its key's queue, or, if front is true, at its front: rows that went on and park again are older than the
// others. The caller holds mu.
func (t *parkedRows) add(g *group, front bool) {
	if t.keys == nil {
		t.keys, t.tails = make(map[uint64]*group), make(map[uint64]*group)
	}
	key := g.key()
	head, tail := t.keys[key], t.tails[key]
	switch {
	case head == nil:
		t.keys[key] = g
	case front:
		if g.next, t.keys[key] = head, g; tail == nil {
			t.tails[key] = head
		}
	default:
		if tail == nil {
			tail = head
		}
		tail.next, t.tails[key] = g, g
	}
}

// remove takes a group out of its key's queue, if it is there. The caller holds mu.
func (t *parkedRows) remove(g *group) {
	key := g.key()
	var before *group
	at := t.keys[key]
	for at != nil && at != g {
		before, at = at, at.next
	}
	if at == nil {
		return // its deadline took it out
	}
	switch {
	case before != nil:
		before.next = g.next
	case g.next != nil:
		t.keys[key] = g.next
	default:
		delete(t.keys, key)
	}
	if g.next == nil {
		t.tails[key] = before
	}
	if t.tails[key] == nil || t.tails[key] == t.keys[key] {
		delete(t.tails, key)
	}
	g.next = nil
}

// readyIfFirst makes a group ready if its wait is over and it is the first one of its key; otherwise it does nothing. g may be nil. The
// caller holds mu.
func (t *parkedRows) readyIfFirst(g *group) {
	if g != nil && g.state == groupParked && !g.waiting && t.keys[g.key()] == g {
		t.makeReady(g)
	}
}

// makeReady sets a group's state to groupReady, and appends it to the groups that the lane takes next. The caller holds mu.
func (t *parkedRows) makeReady(g *group) {
	t.timers.cancel(g)
	g.state = groupReady
	if g.parcel.ready = append(g.parcel.ready, g); len(g.parcel.ready) == 1 {
		t.ready = append(t.ready, g.parcel)
	}
}

// nextWork takes ready groups of one parcel that have about limit rows together, and makes one work of them; a limit of 0 means any number
// of rows. It returns nil if no group is ready. The caller holds mu.
func (t *parkedRows) nextWork(limit int) *work {
	groups := t.takeReady(limit)
	if groups == nil {
		return nil
	}
	p := groups[0].parcel
	return &work{part: p.part, in: input{columns: p.part.Columns}, rows: rows.As[rows.PartRow](groupRows(groups)), from: p, groups: groups}
}

// takeReady takes ready groups of one parcel out of ready for nextWork, with about limit rows together (0 means no limit), and sets their
// state to groupRunning. It returns nil if no group is ready. The caller holds mu.
func (t *parkedRows) takeReady(limit int) []*group {
	for len(t.ready) > 0 {
		p := t.ready[0]
		t.ready[0] = nil
		t.ready = t.ready[1:]
		groups := slices.DeleteFunc(p.ready, func(g *group) bool { return g.state != groupReady })
		p.ready = nil
		if len(groups) == 0 {
			continue // they were given back
		}
		if p.part.OneByOne {
			limit = 1
		}
		if n := groupsWithin(groups, limit); n < len(groups) {
			p.ready = slices.Clone(groups[n:])
			groups = groups[:n:n]
			t.ready = append(t.ready, p)
		}
		for _, g := range groups {
			g.state = groupRunning
			t.metrics.addParked(-int(g.n))
		}
		return groups
	}
	return nil
}

// groupsWithin returns how many of the groups go on together, from the first one on. They have at most as many rows as the parameter rows
// says, but it is always at least one group. A rows of 0 means no limit.
func groupsWithin(groups []*group, rows int) int {
	if rows <= 0 {
		return len(groups)
	}
	for i, g := range groups {
		if rows -= int(g.n); rows < 0 && i > 0 {
			return i
		}
	}
	return len(groups)
}

// blockedRows returns those rows of a new work whose keys have parked rows in the lane. These rows have to park behind them, to keep the
// order of the key. The caller holds mu.
func (t *parkedRows) blockedRows(w *work) (blocked []rows.RunRow) {
	keys := w.in.columns.Keys
	if len(t.keys) == 0 || len(keys) == 0 || w.part.Plan.unsharded {
		return nil
	}
	for i := range rows.RunRow(w.len()) {
		if t.keys[keys[w.row(i)]] != nil {
			blocked = append(blocked, i)
		}
	}
	return blocked
}

// isEmpty implements waitingRows: it reports whether no rows are parked.
func (t *parkedRows) isEmpty() bool { return len(t.keys) == 0 && len(t.ready) == 0 }

// runEnded notes that the lane executes no run now. The caller holds mu.
func (t *parkedRows) runEnded() { t.running, t.releases = false, nil }

// pendingReleases returns the requests of Releases since the lane's run began. A run with rounds (turns) asks for them, so that it can park
// the rows that are to be released. The caller does not hold mu.
func (t *parkedRows) pendingReleases() []releaseRequest {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clip(t.releases)
}

// settle is called when the run of a work has ended. The groups that the work was made of are gone from now on, and the groups of the
// parcel parked, which the run has parked, are queued; a nil parcel means that the run has parked no rows. It returns the groups that the
// caller must give back at once, because they were released meanwhile, or because the lane is closed. over reports whether the parcel that
// the work was made of has no groups left; it is true if there was no such parcel. The caller does not hold mu.
func (t *parkedRows) settle(w *work, parked *parcel) (back []*group, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = false
	var stays []*group
	if parked != nil {
		for i := range parked.groups {
			g := &parked.groups[i]
			g.waiting = g.due != never
			if t.closed || slices.ContainsFunc(t.releases, func(c releaseRequest) bool { return g.isReleasedBy(c) }) {
				pointReleasedLate.Hit()
				g.state = groupGone
				back = append(back, g)
				continue
			}
			stays = append(stays, g)
		}
		parked.left = len(parked.groups)
	}
	t.releases = nil
	var keys []uint64
	for _, g := range w.groups {
		g.state = groupGone
		keys = append(keys, g.key())
		t.remove(g)
	}
	for _, g := range stays {
		keys = append(keys, g.key())
		t.add(g, w.groups != nil)
		t.timers.schedule(g)
		t.metrics.addParked(int(g.n))
	}
	for _, key := range keys {
		t.readyIfFirst(t.keys[key])
	}
	if len(t.keys) == 0 {
		t.keys, t.tails = nil, nil // a map keeps its memory when its keys are deleted
	}
	t.sources.clock.wakeAt(t.nextTimer())
	if w.groups == nil {
		return back, true
	}
	w.from.left -= len(w.groups)
	return back, w.from.left == 0
}

// await registers the groups of a parcel with the sources of what they wait for, which tell them when their waits are over. The method
// settle has put their times into the heap before. ctx bounds the wait for a connection; a group whose connection can't be opened goes on
// at once, so that its function gets the error. The caller does not hold mu.
func (t *parkedRows) await(ctx context.Context, groups []group) {
	for i := range groups {
		g := &groups[i]
		if w, ok := g.parcel.saveWaits[g]; ok {
			t.sources.saves.add(g.connector().Name, w.saves, g)
			t.forgetIfOver(g)
		}
		if a := g.parcel.asks[g]; a != nil {
			a.add(g)
			t.forgetIfOver(g)
		}
		if g.wantedKey == "" {
			continue
		}
		err := t.sources.keys.use(ctx, g.connector(), func(w *keyWatch) { w.add(g) })
		if err != nil {
			pointNoWatch.Hit()
			g.happened()
		} else {
			t.forgetIfOver(g)
		}
	}
}

// forgetIfOver takes a group out of its sources again if its wait was over before it was added to them.
func (t *parkedRows) forgetIfOver(g *group) {
	t.mu.Lock()
	over := g.state != groupParked || !g.waiting
	t.mu.Unlock()
	if over {
		pointOverBefore.Hit()
		t.sources.forget([]*group{g})
	}
}

// nextTimer returns when the next group in the heap is to be looked at; never means that the heap is empty. The caller holds mu.
func (t *parkedRows) nextTimer() time.Duration {
	if len(t.timers) == 0 {
		return never
	}
	return t.timers[0].wakeAt()
}

// happened implements waiter: the group goes on as soon as it is the first one of its key.
func (g *group) happened() {
	t := g.parcel.home
	t.mu.Lock()
	defer t.mu.Unlock()
	if g.state != groupParked || !g.waiting {
		return
	}
	g.waiting = false
	t.timers.schedule(g)
	t.readyIfFirst(g)
	t.changed.Signal()
}

// connectorSaved implements waiter: the group's wait ends now, or at saveWait.early if that is later, but no later than it would end
// anyway.
func (g *group) connectorSaved() {
	t := g.parcel.home
	t.mu.Lock()
	defer t.mu.Unlock()
	clock := t.sources.clock
	if at := max(g.parcel.saveWaits[g].early, clock.now()); g.state == groupParked && g.waiting && at < g.due {
		pointSavedSome.Hit()
		g.due = at
		t.timers.schedule(g)
		clock.wakeAt(at)
	}
}

// resumeDue ends the waits whose time has come at now. A group whose part's deadline has passed goes on even if rows of its key are before
// it: its rows fail. resumeDue returns the groups whose waits it has ended, and when to call it next. The watchdog calls it, and does not
// hold mu.
func (t *parkedRows) resumeDue(now time.Duration) (due []*group, next time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.nextTimer() <= now {
		g := heap.Pop(&t.timers).(*group)
		due = append(due, g)
		g.waiting = false
		switch {
		case g.parcel.deadline() <= now:
			pointParkDeadline.Hit()
			if t.keys[g.key()] != g {
				t.remove(g)
			}
			t.makeReady(g)
		default:
			t.timers.schedule(g)
			t.readyIfFirst(g)
		}
	}
	t.changed.Signal()
	return due, t.nextTimer()
}

// release implements waitingRows: it takes out the parked groups that the request asks for. If the lane executes a run, release also keeps
// the request, for the rows that will park in that run.
func (t *parkedRows) release(c releaseRequest) (back []*group) {
	if t.running {
		t.releases = append(t.releases, c)
	}
	for _, key := range slices.Collect(maps.Keys(t.keys)) {
		if !c.includesKey(key) {
			continue
		}
		var queue []*group
		for g := t.keys[key]; g != nil; g = g.next {
			queue = append(queue, g)
		}
		delete(t.keys, key)
		delete(t.tails, key)
		for _, g := range queue { // those that stay make a new queue
			g.next = nil
			if g.state == groupRunning || !c.includesPart(g.parcel.part) {
				t.add(g, false)
				continue
			}
			pointReleased.Hit()
			t.timers.cancel(g)
			g.state = groupGone
			t.metrics.addParked(-int(g.n))
			back = append(back, g)
		}
		t.readyIfFirst(t.keys[key])
	}
	return back
}

// giveBackParked gives back groups that were taken out of their lanes: it takes them out of their sources, and calls Done for their rows,
// with Returned. The caller holds no lane's lock.
func giveBackParked(back []*group) {
	for p, groups := range groupsByParcel(back) {
		p.home.sources.forget(groups)
		p.part.Done(p.returned(groups))
		if p.home.drop(p, len(groups)) {
			p.home.pending.end()
		}
	}
}

// drop takes n groups out of parcel.left, the count of a parcel's groups that are not gone. It returns true if the parcel has no groups
// left. The caller does not hold mu.
func (t *parkedRows) drop(p *parcel, n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.left -= n
	return p.left == 0
}
