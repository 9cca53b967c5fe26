package scheduler_test

import (
	"slices"

	"github.com/kisgrid/kisgrid/internal/keyslot"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

// windowRows and windowBytes are what a coordinator may have unanswered of one flow at one worker.
const (
	windowRows  = 30
	windowBytes = 1200
)

// node is a worker process.
type node struct {
	cluster        *cluster
	id, name       string
	slow           float64 // times as long as others
	draining, dead bool
	lanes          map[string][]*lane
	ties           map[*coordinator]*tie
	lagging        map[string]bool // flows whose newest revision it does not acknowledge yet
	announced      []*work
	alone          *lane // nothing else begins: it runs what may kill the node, or waits for the others to end
}

// tie is the state that a worker keeps for one coordinator, across sessions.
type tie struct {
	node        *node
	coordinator *coordinator
	session     *session // nil while there is none
	parts       uint64   // the last one received
	results     uint64
	known       uint64             // the last result that the coordinator has
	kept        []message          // results that the coordinator may not have
	left, held  map[string]*credit // by flow
}

// lane runs work of one flow in order.
type lane struct {
	node    *node
	flow    *flowModel
	queue   []work
	next    *work // to be run once it is announced, and alone if need be
	running *work
	parked  map[uint16][]work // by slot; what comes after it waits behind it
}

// work is rows of a part, by their places in it.
type work struct {
	of   *partModel
	rows []uint32
	told uint64 // the result that announces it; 0: none does yet
}

// partModel is a part as its worker has it.
type partModel struct {
	*scheduler.Part
	tie  *tie
	open int // rows that are neither executed nor handed back
}

func (p *partModel) slot(i uint32) uint16 { return keyslot.Of(p.Batch.Keys[p.Row(i)]) }

func (p *partModel) owner() *submission { return p.Batch.Owner.(*submission) }

// reset drops what the worker has of a coordinator, except what runs.
func (n *node) reset(k *coordinator) {
	if old := n.ties[k]; old != nil {
		n.takeBack(old, nil, func(*partModel, uint32) bool { return true })
	}
	n.ties[k] = &tie{node: n, coordinator: k, left: map[string]*credit{}, held: map[string]*credit{}}
}

// forget drops a tie that was without a session for too long.
func (n *node) forget(k *coordinator) {
	if t := n.ties[k]; t != nil && t.session == nil {
		n.reset(k)
		delete(n.ties, k)
	}
}

// say sends the coordinator an event, or keeps silent where there is no session.
func (t *tie) say(m message) {
	if t.session != nil {
		t.session.toShell = append(t.session.toShell, m)
		t.node.cluster.pushed(t.session, false)
	}
}

// resume begins a session: results that the coordinator does not have follow.
func (t *tie) resume(received uint64) {
	if t.node.draining {
		t.say(message{event: scheduler.WorkerDraining{Worker: t.node.id}})
	}
	t.left = map[string]*credit{}
	t.acknowledged(received)
	for _, m := range t.kept {
		t.say(m)
	}
}

func (t *tie) acknowledged(number uint64) {
	if t.known < number {
		t.known = number
		t.node.stir()
	}
	for len(t.kept) > 0 && t.kept[0].number <= number {
		t.kept = t.kept[1:]
	}
}

// hear takes a message from the coordinator.
func (t *tie) hear(m message) {
	t.acknowledged(m.acknowledged)
	switch {
	case m.part != nil:
		t.receive(m.part)
	case m.release != nil:
		asked := func(p *partModel, i uint32) bool {
			slot := uint32(p.slot(i))
			return len(p.Batch.Keys) > 0 && slices.ContainsFunc(m.release.Slots, func(r batch.Range) bool {
				return slot >= r.First && slot < r.First+r.Count
			})
		}
		t.node.handBack(t, t.node.lanes[m.release.Flow], asked)
	case m.define != nil:
		t.ready(m.define)
		c := t.grant(m.define.name)
		t.say(message{event: scheduler.Credited{Worker: t.node.id, Flow: m.define.name, Rows: c.rows, Bytes: c.bytes}})
	}
}

// ready acknowledges the newest revision, unless the worker lags.
func (t *tie) ready(f *flowModel) {
	if !t.node.lagging[f.name] {
		t.say(message{event: scheduler.WorkerReady{Worker: t.node.id, Flow: f.name, Revision: f.wanted}})
	}
}

func amounts(m map[string]*credit, flow string) *credit {
	if m[flow] == nil {
		m[flow] = new(credit)
	}
	return m[flow]
}

// grant gives a flow credit up to the full window.
func (t *tie) grant(flow string) credit {
	left, held := amounts(t.left, flow), amounts(t.held, flow)
	more := credit{max(0, windowRows-held.rows-left.rows), max(0, windowBytes-held.bytes-left.bytes)}
	left.rows, left.bytes = left.rows+more.rows, left.bytes+more.bytes
	return more
}

// hold counts what a part holds; sign is -1 when it is answered.
func (t *tie) hold(p *scheduler.Part, sign int64) *credit {
	held := amounts(t.held, p.Batch.Flow)
	held.rows += sign * int64(p.Len())
	held.bytes += sign * sizeClass(p)
	return held
}

func sizeClass(p *scheduler.Part) int64 { return 50 * int64(p.Len()) } // see submit

// receive queues a part.
func (t *tie) receive(part *scheduler.Part) {
	n := t.node
	if part.Number <= t.parts {
		t.coordinator.fatalf("worker %s got part %d after part %d", n.id, part.Number, t.parts)
	}
	t.parts = part.Number
	n.cluster.traceRows(part, nil, "reaches %s", n.id)
	left := amounts(t.left, part.Batch.Flow)
	left.rows, left.bytes = left.rows-int64(part.Len()), left.bytes-sizeClass(part)
	held := t.hold(part, 1)
	if most := int64(windowRows + max(overdrawRows, part.Batch.Rows())); held.rows > most {
		t.coordinator.fatalf("worker %s holds %d rows, over %d", n.id, held.rows, most)
	}
	p := &partModel{Part: part, tie: t, open: part.Len()}
	rows := make([]uint32, part.Len())
	for i := range rows {
		rows[i] = uint32(i)
	}
	if n.draining {
		n.answer(p, result{}, rows)
		return
	}
	lanes := n.lanes[part.Batch.Flow]
	if len(part.Batch.Keys) == 0 {
		l := slices.MinFunc(lanes, func(a, b *lane) int { return len(a.queue) - len(b.queue) })
		l.add(work{of: p, rows: rows})
		return
	}
	split := make([][]uint32, len(lanes))
	for _, i := range rows {
		at := int(p.slot(i)) * len(lanes) >> 16
		split[at] = append(split[at], i)
	}
	for at, rows := range split {
		if len(rows) > 0 {
			lanes[at].add(work{of: p, rows: rows})
		}
	}
}

func (l *lane) add(w work) {
	l.queue = append(l.queue, w)
	l.node.cluster.queued(l)
}

// begin takes the next work, and reports whether there is some. Rows behind a parked one are parked too.
func (l *lane) begin() bool {
	for l.running == nil && l.next == nil && len(l.queue) > 0 && !l.node.dead {
		w := l.queue[0]
		l.queue = l.queue[1:]
		if len(w.of.Batch.Keys) == 0 {
			l.next = &w
			break
		}
		var run []uint32
		for _, i := range w.rows {
			slot := w.of.slot(i)
			waiting := l.parked[slot]
			if waiting == nil && !(l.node.cluster.faults && l.node.cluster.chance(0.002)) {
				run = append(run, i)
				continue
			}
			l.parked[slot] = append(waiting, work{of: w.of, rows: []uint32{i}})
			if waiting == nil {
				l.node.cluster.parked(l, slot)
			}
		}
		if len(run) > 0 {
			l.next = &work{of: w.of, rows: run}
		}
	}
	if l.running == nil && l.next != nil && l.mayRun(l.next) {
		l.running, l.next = l.next, nil
	}
	return l.running != nil
}

// mayRun reports whether work may begin now; it is tried again when something may have changed.
func (l *lane) mayRun(w *work) bool {
	n, t := l.node, w.of.tie
	switch {
	case n.dead || n.alone != nil && n.alone != l:
		return false
	case w.of.Deaths >= 2:
		n.alone = l
		if slices.ContainsFunc(n.allLanes(), func(m *lane) bool { return m.running != nil }) {
			return false
		}
	}
	if w.of.Deaths == 0 || n.ties[t.coordinator] != t {
		return true
	}
	if w.told == 0 {
		w.told = t.results + 1
		n.announced = append(n.announced, w)
		n.answer(w.of, result{began: w.rows}, nil)
	}
	return t.session == nil || t.known >= w.told
}

func (n *node) allLanes() (all []*lane) {
	for _, f := range n.cluster.flows {
		all = append(all, n.lanes[f.name]...)
	}
	return all
}

// stir makes lanes look again whether they may begin the next work.
func (n *node) stir() {
	for _, l := range n.allLanes() {
		if l.next != nil || len(l.queue) > 0 {
			n.cluster.queued(l)
		}
	}
}

// wake lets parked rows of a slot go on.
func (l *lane) wake(slot uint16) {
	if waiting := l.parked[slot]; waiting != nil && !l.node.dead {
		delete(l.parked, slot)
		l.queue = append(slices.Clone(waiting), l.queue...)
		l.node.cluster.queued(l)
	}
}

// finish ends the running work, and answers.
func (l *lane) finish() {
	w, n := l.running, l.node
	if w == nil || n.dead {
		return
	}
	l.running = nil
	if n.alone == l {
		n.alone = nil
	}
	defer n.stir()
	g := n.cluster
	sub := w.of.owner()
	var r result
	silent := g.chance(0.3) // a row that is done may be told of at the end only
	if sub.refs == nil {
		sub.execute(n, 0)
		silent = true
	}
	for _, i := range w.rows {
		if sub.refs != nil {
			sub.execute(n, w.of.Row(i))
		}
		switch {
		case g.faults && g.chance(0.01):
			outcome := batch.Filtered + batch.Outcome(g.rnd.IntN(4))
			r.notDone = append(r.notDone, batch.RowOutcome{Row: i, Outcome: outcome})
		case silent:
		default:
			r.finished = append(r.finished, batch.Range{First: i, Count: 1})
		}
	}
	w.of.open -= len(w.rows)
	n.answer(w.of, r, nil)
}

// answer tells the coordinator how rows ended, and which are handed back.
func (n *node) answer(p *partModel, r result, returned []uint32) {
	t := p.tie
	if n.ties[t.coordinator] != t {
		return // nobody asks any more
	}
	p.open -= len(returned)
	r.last = p.open == 0
	if !r.last && len(r.finished) == 0 && len(r.notDone) == 0 && len(returned) == 0 && r.began == nil {
		return
	}
	t.results++
	e := scheduler.Answered{
		Worker: n.id, Part: p.Number, Finished: r.finished, NotDone: r.notDone, Last: r.last, Result: r,
	}
	if len(returned) > 0 {
		n.cluster.traceRows(p.Part, returned, "is handed back by %s in result %d", n.id, t.results)
	}
	for _, i := range r.began {
		e.Began = append(e.Began, batch.Range{First: i, Count: 1})
	}
	for _, i := range returned {
		e.Returned = append(e.Returned, batch.Range{First: i, Count: 1})
	}
	m := message{number: t.results, event: e, waited: r.began != nil}
	t.kept = append(t.kept, m)
	t.say(m)
	if !r.last {
		return
	}
	flow := p.Batch.Flow
	held := t.hold(p.Part, -1)
	left := amounts(t.left, flow)
	if t.session == nil || (held.rows > 0 && left.rows > windowRows/2 && left.bytes > windowBytes/2) {
		return
	}
	if c := t.grant(flow); c.rows > 0 || c.bytes > 0 {
		t.say(message{event: scheduler.Credited{Worker: n.id, Flow: flow, Rows: c.rows, Bytes: c.bytes}})
	}
}

// takeBack removes rows that have not begun, or are parked, from lanes (nil: all) and calls back for each part.
func (n *node) takeBack(t *tie, lanes []*lane, which func(p *partModel, i uint32) bool) (parts []*partModel, rows map[*partModel][]uint32) {
	rows = map[*partModel][]uint32{}
	take := func(queue []work) []work {
		var stay []work
		for _, w := range queue {
			var keep []uint32
			for _, i := range w.rows {
				if w.of.tie != t || !which(w.of, i) {
					keep = append(keep, i)
					continue
				}
				if rows[w.of] == nil {
					parts = append(parts, w.of)
				}
				rows[w.of] = append(rows[w.of], i)
			}
			if len(keep) > 0 {
				stay = append(stay, work{of: w.of, rows: keep})
			}
		}
		return stay
	}
	if lanes == nil {
		for _, f := range n.cluster.flows {
			lanes = append(lanes, n.lanes[f.name]...)
		}
	}
	for _, l := range lanes {
		l.queue = take(l.queue)
		for _, slot := range sortedSlots(l.parked) {
			if stay := take(l.parked[slot]); stay != nil {
				l.parked[slot] = stay
			} else {
				delete(l.parked, slot)
			}
		}
	}
	return parts, rows
}

func sortedSlots(m map[uint16][]work) []uint16 {
	slots := make([]uint16, 0, len(m))
	for slot := range m {
		slots = append(slots, slot)
	}
	slices.Sort(slots)
	return slots
}

// handBack returns rows that have not begun.
func (n *node) handBack(t *tie, lanes []*lane, which func(p *partModel, i uint32) bool) {
	parts, rows := n.takeBack(t, lanes, which)
	for _, p := range parts {
		n.answer(p, result{}, rows[p])
	}
}

// drain makes the worker run nothing new and hand back what it has not begun. It may do so before it has told its coordinators
// that it drains; then tell is to be called soon.
func (n *node) drain(told bool) {
	if n.draining || n.dead {
		return
	}
	n.draining = true
	if told {
		n.tell()
	}
	for _, k := range n.cluster.coordinators {
		if t := n.ties[k]; t != nil {
			n.handBack(t, nil, func(*partModel, uint32) bool { return true })
		}
	}
}

// tell says that the worker drains.
func (n *node) tell() {
	for _, k := range n.cluster.coordinators {
		if t := n.ties[k]; t != nil {
			t.say(message{event: scheduler.WorkerDraining{Worker: n.id}})
		}
	}
}

// idle reports whether the worker has nothing left to do or to tell.
func (n *node) idle() bool {
	for _, lanes := range n.lanes {
		for _, l := range lanes {
			if l.running != nil || l.next != nil || len(l.queue) > 0 || len(l.parked) > 0 {
				return false
			}
		}
	}
	for k, t := range n.ties {
		if len(t.kept) > 0 && k.sessions[n.id].received < t.results {
			return false
		}
	}
	return true
}

// crash ends the process while it runs rows.
func (n *node) crash() {
	if n.dead {
		return
	}
	n.dead = true
	for _, w := range n.announced {
		for _, i := range w.rows {
			w.of.owner().killed[w.of.Row(i)]++
		}
	}
	for _, f := range n.cluster.flows {
		for _, l := range n.lanes[f.name] {
			if w := l.running; w != nil && len(w.of.Batch.Keys) > 0 {
				for _, i := range w.rows[:n.cluster.rnd.IntN(len(w.rows)+1)] {
					w.of.owner().execute(n, w.of.Row(i))
				}
			}
		}
	}
	n.cluster.remove(n)
	for _, k := range n.cluster.coordinators {
		k.sessions[n.id].cut()
	}
}

// catchUp ends a worker's lag.
func (n *node) catchUp(f *flowModel) {
	delete(n.lagging, f.name)
	for _, k := range n.cluster.coordinators {
		if t := n.ties[k]; t != nil {
			t.ready(f)
		}
	}
}
