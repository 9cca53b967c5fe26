package flowexec

import (
	"container/heap"
	"maps"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// lot is a lane's parked rows. It is guarded by lane.mu.
type lot struct {
	keys   map[uint64]*group // the head of each parked key's queue; what comes after it waits behind it
	tails  map[uint64]*group // the tail, where that is not the head
	ready  []*parcel         // with groups that may go on
	alarms alarms
	// recalls are the rows that Release asked for while a run was under way: what parks in it goes back.
	recalls []recall
	running bool
}

// recall is one Release.
type recall struct {
	slots   []batch.Range // nil: all
	belongs func(*Part) bool
}

func (c recall) part(p *Part) bool { return c.belongs == nil || c.belongs(p.given()) }

// has reports whether the slots have a key.
func (c recall) has(key uint64) bool {
	slot := slotOf(key)
	return c.slots == nil || slices.ContainsFunc(c.slots, func(r batch.Range) bool { return slot >= r.First && slot-r.First < r.Count })
}

func (c recall) group(g *group) bool { return c.has(g.key()) && c.part(g.parcel.part) }

// alarms are the groups that have a time, the next to go on first: a heap.
type alarms []*group

// at is when the group is looked at.
func (g *group) at() time.Duration {
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

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].at() < a[j].at() }
func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].place, a[j].place = int32(i+1), int32(j+1)
}

// Push implements heap.Interface.
func (a *alarms) Push(x any) {
	g := x.(*group)
	*a = append(*a, g)
	g.place = int32(len(*a))
}

// Pop implements heap.Interface.
func (a *alarms) Pop() any {
	n := len(*a) - 1
	g := (*a)[n]
	(*a)[n] = nil
	*a = (*a)[:n]
	g.place = 0
	return g
}

// set has the group looked at in time. What it waits for may have changed.
func (a *alarms) set(g *group) {
	switch timed := g.at() != never; {
	case g.place > 0 && timed:
		heap.Fix(a, int(g.place-1))
	case g.place > 0:
		heap.Remove(a, int(g.place-1))
	case timed:
		heap.Push(a, g)
	}
}

func (a *alarms) unset(g *group) {
	if g.place > 0 {
		heap.Remove(a, int(g.place-1))
	}
}

// enqueue puts a group into its key's queue.
func (t *lot) enqueue(g *group, front bool) {
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

// leave takes a group out of its key's queue.
func (t *lot) leave(g *group) {
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

// check makes a group ready that has nothing to wait for any more.
func (t *lot) check(g *group) {
	if g != nil && g.state == groupParked && !g.waiting && t.keys[g.key()] == g {
		t.makeReady(g)
	}
}

func (t *lot) makeReady(g *group) {
	t.alarms.unset(g)
	g.state = groupReady
	if g.parcel.ready = append(g.parcel.ready, g); len(g.parcel.ready) == 1 {
		t.ready = append(t.ready, g.parcel)
	}
}

// next takes the groups of a parcel that may go on, of about so many rows together, 0: of any number; nil: there are none.
func (t *lot) next(most int) []*group {
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
		if n := fewOf(groups, most); n < len(groups) {
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

// fewOf is how many groups have about so many rows together, at least one.
func fewOf(groups []*group, rows int) int {
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

// blocked are the rows of a run that wait behind parked ones.
func (t *lot) blocked(w *work) (rows []uint32) {
	keys := w.in.columns.Keys
	if len(t.keys) == 0 || len(keys) == 0 || w.part.Plan.whole() {
		return nil
	}
	for i := range uint32(w.len()) {
		if t.keys[keys[w.row(i)]] != nil {
			rows = append(rows, i)
		}
	}
	return rows
}

// settle takes in how a run ended: its groups are gone, and what it parked is here. What must go back at once is returned; over: nothing
// of what the run was made of is left.
func (ln *lane) settle(w *work, parked *parcel) (back []*group, over bool) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	t := &ln.lot
	t.running = false
	var stays []*group
	if parked != nil {
		for i := range parked.groups {
			g := &parked.groups[i]
			g.waiting = g.due != never
			if ln.closed || slices.ContainsFunc(t.recalls, func(c recall) bool { return c.group(g) }) {
				g.state = groupGone
				back = append(back, g)
				continue
			}
			stays = append(stays, g)
		}
		parked.left = len(parked.groups)
	}
	t.recalls = nil
	var keys []uint64
	for _, g := range w.groups {
		g.state = groupGone
		keys = append(keys, g.key())
		t.leave(g)
	}
	for _, g := range stays {
		keys = append(keys, g.key())
		t.enqueue(g, w.groups != nil)
		t.alarms.set(g)
		ln.lanes.countParked(int(g.n))
	}
	for _, key := range keys {
		t.check(t.keys[key])
	}
	if len(t.keys) == 0 {
		t.keys, t.tails = nil, nil // maps do not shrink
	}
	ln.lanes.alarm(t.first())
	if w.groups == nil {
		return back, true
	}
	w.from.left -= len(w.groups)
	return back, w.from.left == 0
}

// first is when the next group is to be looked at.
func (t *lot) first() time.Duration {
	if len(t.alarms) == 0 {
		return never
	}
	return t.alarms[0].at()
}

// happened lets a group go on whose wait is over, when nothing of its key is before it.
func (ln *lane) happened(g *group) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if g.state != groupParked || !g.waiting {
		return
	}
	g.waiting = false
	ln.lot.alarms.set(g)
	ln.lot.check(g)
	ln.ready.Signal()
}

// heard is told that the connector of the group's step has saved something.
func (g *group) heard() {
	ln := g.parcel.lane
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if at := max(g.parcel.hear[g].early, ln.lanes.now()); g.state == groupParked && g.waiting && at < g.due {
		g.due = at
		ln.lot.alarms.set(g)
		ln.lanes.alarm(at)
	}
}

// expire lets the groups go on whose time has come, all of them when their part's deadline has. It says when to look again.
func (ln *lane) expire(now time.Duration) (over []*group, next time.Duration) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	t := &ln.lot
	for t.first() <= now {
		g := heap.Pop(&t.alarms).(*group)
		over = append(over, g)
		g.waiting = false
		switch {
		case g.parcel.deadline() <= now:
			if t.keys[g.key()] != g {
				t.leave(g)
			}
			t.makeReady(g)
		default:
			t.alarms.set(g)
			t.check(g)
		}
	}
	ln.ready.Signal()
	return over, t.first()
}

// recall takes parked rows out of the lot; those that park in the run under way follow.
func (t *lot) recall(c recall) (back []*group) {
	if t.running {
		t.recalls = append(t.recalls, c)
	}
	for _, key := range slices.Collect(maps.Keys(t.keys)) {
		if !c.has(key) {
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
			if g.state == groupRunning || !c.part(g.parcel.part) {
				t.enqueue(g, false)
				continue
			}
			t.alarms.unset(g)
			g.state = groupGone
			g.parcel.lane.lanes.countParked(-int(g.n))
			back = append(back, g)
		}
		t.check(t.keys[key])
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

// gone reports whether a group is not parked any more.
func (ln *lane) gone(g *group) bool {
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
		over, next := ln.expire(l.now())
		l.alarm(next)
		l.forget(over)
	}
}
