package flowexec

import (
	"container/heap"
	"maps"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"

	"github.com/kisgrid/kisgrid/internal/keyslot"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// parkedRows is a lane's parked rows. It is guarded by lane.mu.
type parkedRows struct {
	keys   map[uint64]*group // the head of each parked key's queue; what comes after it waits behind it
	tails  map[uint64]*group // the tail, where that is not the head
	ready  []*parcel         // with groups that may go on
	timers timerHeap
	// recalls are the rows that Release asked for while a run was under way: what parks in it goes back.
	releases []releaseRequest
	running  bool
}

// releaseRequest is one Release.
type releaseRequest struct {
	slots   []batch.Range // nil: all
	belongs func(*Part) bool
}

func (c releaseRequest) includesPart(p *Part) bool {
	return c.belongs == nil || c.belongs(p.enqueued())
}

// includesKey reports whether the slots have a key.
func (c releaseRequest) includesKey(key uint64) bool {
	slot := uint32(keyslot.Of(key))
	return c.slots == nil || slices.ContainsFunc(c.slots, func(r batch.Range) bool { return slot >= r.First && slot-r.First < r.Count })
}

func (c releaseRequest) includesGroup(g *group) bool {
	return c.includesKey(g.key()) && c.includesPart(g.parcel.part)
}

// timerHeap are the groups that have a time, the next to go on first: a heap.
type timerHeap []*group

// wakeAt is when the group is looked at.
func (g *group) wakeAt() time.Duration {
	if !g.waiting {
		return g.parcel.deadline()
	}
	return min(g.due, g.parcel.deadline())
}

// deadline is when the part's rows must have ended.
func (p *parcel) deadline() time.Duration {
	if p.part.Deadline.IsZero() {
		return never
	}
	return p.lane.lanes.since(p.part.Deadline)
}

func (a timerHeap) Len() int           { return len(a) }
func (a timerHeap) Less(i, j int) bool { return a[i].wakeAt() < a[j].wakeAt() }
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

// schedule has the group looked at in time. What it waits for may have changed.
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

func (a *timerHeap) cancel(g *group) {
	if g.timerIndex > 0 {
		heap.Remove(a, int(g.timerIndex-1))
	}
}

// add puts a group into its key's queue.
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

// remove takes a group out of its key's queue.
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

// readyIfFirst makes a group ready that has nothing to wait for any more.
func (t *parkedRows) readyIfFirst(g *group) {
	if g != nil && g.state == groupParked && !g.waiting && t.keys[g.key()] == g {
		t.makeReady(g)
	}
}

func (t *parkedRows) makeReady(g *group) {
	t.timers.cancel(g)
	g.state = groupReady
	if g.parcel.ready = append(g.parcel.ready, g); len(g.parcel.ready) == 1 {
		t.ready = append(t.ready, g.parcel)
	}
}

// next takes the groups of a parcel that may go on, of about so many rows together, 0: of any number; nil: there are none.
func (t *parkedRows) next(most int) []*group {
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
			most = 1
		}
		if n := groupsWithin(groups, most); n < len(groups) {
			p.ready = slices.Clone(groups[n:])
			groups = groups[:n:n]
			t.ready = append(t.ready, p)
		}
		for _, g := range groups {
			g.state = groupRunning
			p.lane.lanes.countParked(-int(g.n))
		}
		return groups
	}
	return nil
}

// groupsWithin is how many groups have about so many rows together, at least one.
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

// blockedRows are the rows of a run that wait behind parked ones.
func (t *parkedRows) blockedRows(w *work) (behind []rows.RunRow) {
	keys := w.in.columns.Keys
	if len(t.keys) == 0 || len(keys) == 0 || w.part.Plan.whole() {
		return nil
	}
	for i := range rows.RunRow(w.len()) {
		if t.keys[keys[w.row(i)]] != nil {
			behind = append(behind, i)
		}
	}
	return behind
}

// settle takes in how a run ended: its groups are gone, and what it parked is here. What must go back at once is returned; over: nothing
// of what the run was made of is left.
func (ln *lane) settle(w *work, parked *parcel) (back []*group, over bool) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	t := &ln.parked
	t.running = false
	var stays []*group
	if parked != nil {
		for i := range parked.groups {
			g := &parked.groups[i]
			g.waiting = g.due != never
			if ln.closed || slices.ContainsFunc(t.releases, func(c releaseRequest) bool { return c.includesGroup(g) }) {
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
		ln.lanes.countParked(int(g.n))
	}
	for _, key := range keys {
		t.readyIfFirst(t.keys[key])
	}
	if len(t.keys) == 0 {
		t.keys, t.tails = nil, nil // maps do not shrink
	}
	ln.lanes.alarm(t.nextTimer())
	if w.groups == nil {
		return back, true
	}
	w.from.left -= len(w.groups)
	return back, w.from.left == 0
}

// nextTimer is when the next group is to be looked at.
func (t *parkedRows) nextTimer() time.Duration {
	if len(t.timers) == 0 {
		return never
	}
	return t.timers[0].wakeAt()
}

// waitOver lets a group go on whose wait is over, when nothing of its key is before it.
func (ln *lane) waitOver(g *group) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if g.state != groupParked || !g.waiting {
		return
	}
	g.waiting = false
	ln.parked.timers.schedule(g)
	ln.parked.readyIfFirst(g)
	ln.ready.Signal()
}

// connectorSaved is told that the connector of the group's step has saved something.
func (g *group) connectorSaved() {
	ln := g.parcel.lane
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if at := max(g.parcel.saveWaits[g].early, ln.lanes.now()); g.state == groupParked && g.waiting && at < g.due {
		g.due = at
		ln.parked.timers.schedule(g)
		ln.lanes.alarm(at)
	}
}

// resumeDue lets the groups go on whose time has come, all of them when their part's deadline has. It says when to look again.
func (ln *lane) resumeDue(now time.Duration) (over []*group, next time.Duration) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	t := &ln.parked
	for t.nextTimer() <= now {
		g := heap.Pop(&t.timers).(*group)
		over = append(over, g)
		g.waiting = false
		switch {
		case g.parcel.deadline() <= now:
			if t.keys[g.key()] != g {
				t.remove(g)
			}
			t.makeReady(g)
		default:
			t.timers.schedule(g)
			t.readyIfFirst(g)
		}
	}
	ln.ready.Signal()
	return over, t.nextTimer()
}

// release takes parked rows out of the lot; those that park in the run under way follow.
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
		for _, g := range queue {
			g.next = nil
			if g.state == groupRunning || !c.includesPart(g.parcel.part) {
				t.add(g, false)
				continue
			}
			t.timers.cancel(g)
			g.state = groupGone
			g.parcel.lane.lanes.countParked(-int(g.n))
			back = append(back, g)
		}
		t.readyIfFirst(t.keys[key])
	}
	return back
}

// giveBackParked returns parked rows that do not go on here, and forgets what they waited for.
func (l *Lanes) giveBackParked(back []*group) {
	l.forget(back)
	for p, groups := range byParcel(back) {
		p.part.Done(p.returned(groups))
		if p.drop(len(groups)) {
			l.end()
		}
	}
}

// drop counts groups out; true: none is left.
func (p *parcel) drop(n int) bool {
	p.lane.mu.Lock()
	defer p.lane.mu.Unlock()
	p.left -= n
	return p.left == 0
}

// waitEnded reports whether a group is not parked any more.
func (ln *lane) waitEnded(g *group) bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return g.state != groupParked || !g.waiting
}

// now is the time since the lanes began.
func (l *Lanes) now() time.Duration { return time.Since(l.began) }

// since is a time by the clock of parked rows.
func (l *Lanes) since(t time.Time) time.Duration { return t.Sub(l.began) }

// alarm has the watchdog look at the lots at a time, or earlier.
func (l *Lanes) alarm(at time.Duration) {
	l.alarms.Lock()
	defer l.alarms.Unlock()
	if at < l.first {
		l.first = at
		l.earlier.Reset(at - l.now())
	}
}

// expire is what the watchdog does when the timer has fired.
func (l *Lanes) expire() {
	l.alarms.Lock()
	l.first = never
	l.alarms.Unlock()
	for _, ln := range l.all() {
		over, next := ln.resumeDue(l.now())
		l.alarm(next)
		l.forget(over)
	}
}
