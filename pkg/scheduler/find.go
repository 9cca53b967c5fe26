package scheduler

import (
	"time"

	"github.com/kisgrid/kisgrid/internal/keyslot"
)

// Rows of one key are found by looking at all rows that the flow has: an index would cost something for each row, and is wanted
// when somebody asks why a key does not move. So looking is work like any other: a slice in each Step, with other events in
// between. A row that moves meanwhile may be found twice, or not at all; one that waits is found once.

// Where says where a row of a flow waits.
type Where uint8

// The places of a row, in the order in which they are looked at. A row comes before all that are behind it.
const (
	// AtWorker: a worker has been sent it, and has not answered.
	AtWorker Where = iota + 1
	// SetAside: its key has all the rows at the worker that one key may have.
	SetAside
	// Queued: it waits for room at its worker, or for a session with it.
	Queued
	// HeldBack: it waits until the slot's old owner has no rows of the slot any more.
	HeldBack
	// NoWorker: no worker is ready for the flow.
	NoWorker
)

// Found is a row with the key that was asked for.
type Found struct {
	Where Where
	Batch *Batch
	Row   uint32 // in the batch
	// Worker has it, or gets it; empty: nobody yet. From is the slot's old owner, where the row is HeldBack.
	Worker, From string
	// Part and PartRow name an AtWorker row to its worker.
	Part    *Part
	PartRow uint32
	// Since is when it was sent, or when its batch came.
	Since time.Time
	// GivenUp: an AtWorker row whose batch is over. Nobody waits for it, but it ends like any other. Cancelled: its client gave it
	// up; else its deadline passed, or it ended elsewhere.
	GivenUp, Cancelled bool
}

// Open reports whether a row that is AtWorker has not been answered since. The scheduler's goroutine calls it.
func (f *Found) Open() bool { return f.Part.isOpen(f.PartRow) }

// Search finds the rows of one key that have no outcome, and those that a worker still has although they were given up. Its
// caller fills in what comes first, posts it with Asked, and has what comes second once the action Answered comes for it.
type Search struct {
	Flow string
	Key  uint64
	// Most bounds Rows. The first ones found are kept, which are those that others wait for.
	Most int
	// Owner is the caller's own.
	Owner any

	Explanation
	Rows []Found
	// Counts has all rows of the key by where they are, and by worker; GivenUp counts those of them at workers that were given up.
	Counts  map[Place]int
	GivenUp int
	// Sent, Queued and Held count the rows without an outcome of the slot, which has other keys too: those at workers; those that
	// wait for room or for a session; those that wait for a worker, or until the slot has been handed over.
	Sent, Queued, Held int
	// Unsettled: rows of the flow were going from worker to worker all the time, and those were not looked at.
	Unsettled bool

	flow       *flow
	slot       uint16
	since      time.Time // when it was asked
	begun      bool
	seat       int          // of the next workerFlow
	workerFlow *workerFlow  // whose rows are looked at
	places     []searchable // still to be looked at, of the workerFlow or, without one, of the flow
	lists      int          // of held rows, looked at so far; below zero: they are next
}

// Place is where rows are.
type Place struct {
	Where  Where
	Worker string
}

// searchable is rows in one place that are looked at one piece after the other. Exactly one of queue and parts is set.
type searchable struct {
	where Where
	queue *queue
	parts *workerFlow
	begun bool
}

// Searched says that a search has ended.
type Searched struct{ Search *Search }

func (Searched) action() {}

// Asked begins a search. One is made after the other.
type Asked struct{ Search *Search }

func (e Asked) step(s *Scheduler) {
	e.Search.since = s.now
	s.searches = append(s.searches, e.Search)
}

// settling is how long a search waits until no rows are on their way from one worker to another.
const settling = time.Second

// searchSome goes on with the first search, for half of the Step's budget.
func (s *Scheduler) continueSearch() {
	q := s.searches[0]
	if !q.begun && !q.begin(s) {
		return
	}
	for leave := s.budget / 2; s.budget > leave; {
		if !q.next(s) {
			s.searches[0] = nil
			s.searches = s.searches[1:]
			q.Explanation = s.Explain(q.Flow, q.Key)
			q.flow, q.workerFlow, q.places = nil, nil, nil
			s.act(Searched{q})
			return
		}
	}
}

// begin begins a search unless rows are on their way through the inbox, which goes on meanwhile.
func (q *Search) begin(s *Scheduler) bool {
	f := s.byName[q.Flow]
	if f != nil && !f.settled() {
		if s.now.Sub(q.since) < settling {
			s.searches = append(s.searches[1:], q)
			if len(s.awake) == 0 {
				s.spend(costSlot)
			} // else the flow goes on with what is left of the Step
			return false
		}
		q.Unsettled = true
	}
	q.begun, q.flow, q.slot, q.lists, q.Counts = true, f, keyslot.Of(q.Key), -1, map[Place]int{}
	return true
}

// next looks at one piece of what is left; false: nothing is left.
func (q *Search) next(s *Scheduler) bool {
	f := q.flow
	switch {
	case f == nil:
		return false
	case len(q.places) > 0:
		if !q.look(s, &q.places[0]) {
			q.places = q.places[1:]
		}
		return true
	case q.seat < len(f.workerFlows):
		s.spend(1)
		q.workerFlow = f.workerFlows[q.seat]
		q.seat++
		if q.workerFlow != nil {
			q.places = q.workerFlow.searchables(q.slot, q.places[:0])
		}
		return true
	case q.lists < 0:
		q.workerFlow, q.lists = nil, 0
		q.places = append(q.places[:0], searchable{where: NoWorker, queue: &f.waiting})
		return true
	}
	h := f.held.slots[q.slot]
	if h == nil || q.lists >= len(h.lists) {
		return false
	}
	run := h.lists[q.lists]
	q.lists++
	s.spend(costSegment + len(run))
	for _, r := range run {
		if !r.batch.over {
			q.Held++
			if r.batch.Keys[r.row] == q.Key {
				q.found(Found{Where: HeldBack, Batch: r.batch, Row: r.row, Since: r.batch.submittedAt, From: h.oldOwner.worker.id})
			}
		}
	}
	return true
}

// searchables are the places where the workerFlow may have rows of the slot.
func (wf *workerFlow) searchables(slot uint16, places []searchable) []searchable {
	if h := wf.shares; h != nil {
		b := bucket(slot)
		if h.rows[b] > 0 {
			places = append(places, searchable{where: AtWorker, parts: wf})
		}
		if h.aside[b] != nil {
			places = append(places, searchable{where: SetAside, queue: h.aside[b]})
		}
	}
	if !wf.queue.empty() {
		places = append(places, searchable{where: Queued, queue: &wf.queue})
	}
	return places
}

// look looks at the next part, or at the next segments of a queue; false: there are none.
func (q *Search) look(s *Scheduler, at *searchable) bool {
	if at.parts != nil {
		wf := at.parts
		if !at.begun {
			at.begun, wf.nextSearched = true, wf.first
		}
		p := wf.nextSearched
		if p == nil {
			return false
		}
		wf.nextSearched = p.next
		s.spend(costPart + p.Len()/4)
		q.lookAtPart(p)
		return true
	}
	if !at.begun {
		at.begun, at.queue.looking = true, at.queue.first
	}
	c := at.queue.looking
	if c == nil {
		return false
	}
	at.queue.looking = c.next
	for i := c.head; i < len(c.segments); i++ {
		g := &c.segments[i]
		s.spend(costSegment + g.len()/4)
		if !g.batch.over && len(g.batch.Keys) > 0 {
			q.lookAtSegment(at.where, g)
		}
	}
	return true
}

func (q *Search) lookAtPart(p *Part) {
	b := p.Batch
	if len(b.Keys) == 0 {
		return
	}
	n := uint32(p.Len())
	for i := range n {
		row := i
		if p.Rows != nil {
			row = p.Rows[i]
		}
		if b.slot(row) != q.slot || !p.isOpen(i) {
			continue
		}
		if !b.over {
			q.Sent++
		}
		if b.Keys[row] == q.Key {
			q.found(p.found(i))
		}
	}
}

func (q *Search) lookAtSegment(where Where, g *segment) {
	b := g.batch
	look := func(row uint32) {
		if b.slot(row) != q.slot {
			return
		}
		if where == NoWorker {
			q.Held++
		} else {
			q.Queued++
		}
		if b.Keys[row] == q.Key {
			r := Found{Where: where, Batch: b, Row: row, Since: b.submittedAt}
			if q.workerFlow != nil {
				r.Worker = q.workerFlow.worker.id
			}
			q.found(r)
		}
	}
	if g.rows == nil {
		for row := range uint32(b.Rows()) {
			look(row)
		}
		return
	}
	for _, row := range g.rows {
		look(row)
	}
}

func (q *Search) found(r Found) {
	q.Counts[Place{r.Where, r.Worker}]++
	if r.GivenUp {
		q.GivenUp++
	}
	if len(q.Rows) < q.Most {
		q.Rows = append(q.Rows, r)
	}
}

// At is the row of a part that a worker has been sent; false: it has answered it, or has none such.
func (s *Scheduler) At(worker string, part uint64, row uint32) (Found, bool) {
	w := s.workers[worker]
	if w == nil {
		return Found{}, false
	}
	p := w.sent.part(part)
	if p == nil || !p.has(row) {
		return Found{}, false
	}
	return p.found(row), true
}

// found is the part's i-th row, as somebody finds it.
func (p *Part) found(i uint32) Found {
	return Found{
		Where: AtWorker, Batch: p.Batch, Row: p.Row(i), Worker: p.workerFlow.worker.id, Part: p, PartRow: i, Since: p.sentAt,
		GivenUp: p.Batch.over, Cancelled: p.Batch.cancelled,
	}
}
