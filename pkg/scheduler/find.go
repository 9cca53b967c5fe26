package scheduler

import (
	"time"

	"github.com/kisgrid/kisgrid/internal/keyslot"
)

// A Search looks at all rows that the flow has. An index of the keys would make it faster and would cost something for each row,
// and it is seldom that somebody asks why a key does not move. Looking is work like any other: a slice in each Step, with other
// events in between. A row that moves meanwhile may be found twice, or not at all; a row that waits is found once.

// Where says at which place in the scheduler a row waits.
type Where uint8

// The places of a row, in the order in which they are looked at. Of two rows of one key the
// older one is never at a place with a higher number.
const (
	// AtWorker: a worker was sent the row and has not answered it.
	AtWorker Where = iota + 1
	// SetAside: the worker has as many rows of the row's key as one key may have (skew.go).
	SetAside
	// Queued: the row waits for credit of its worker, or for a session with it.
	Queued
	// HeldBack: the row's slot moved, and the row waits until the old owner has no rows of the slot any more.
	HeldBack
	// NoWorker: no worker is ready for the flow.
	NoWorker
)

// Found is a row with the key that a Search looked for.
type Found struct {
	Where Where
	Batch *Batch
	Row   uint32 // place in the batch
	// Worker has the row, or gets it; "" means that no worker was chosen yet. From is the old owner of the slot, where the
	// row is HeldBack.
	Worker, From string
	// Part and PartRow are the row's part and its place in the part, where it is AtWorker. The worker knows the row by
	// these.
	Part    *Part
	PartRow uint32
	// Since is when the row was sent, or when its batch came if it was not sent yet.
	Since time.Time
	// GivenUp says that the row is AtWorker and its batch is over. Nobody waits for the row, but it still runs. Cancelled
	// says that the client gave the batch up; else its deadline passed, or the row ended elsewhere.
	GivenUp, Cancelled bool
}

// Open reports whether the worker has still not answered a row that was AtWorker. The goroutine that owns the scheduler
// calls it.
func (f *Found) Open() bool { return f.Part.isOpen(partRow(f.PartRow)) }

// Search finds the rows of one key that have no outcome, and rows of the key that still run although their batch was given
// up. The caller fills in the first four fields and posts the Search with Asked. The other fields are filled in when the
// action Searched comes for it.
type Search struct {
	Flow string
	Key  uint64 // hash of the shard key
	// Most bounds the length of Rows. The rows found first are kept: the other rows of the key wait for them.
	Most int
	// Owner belongs to the caller.
	Owner any

	// The result. Explanation says where a new row of the key would go.
	Explanation
	Rows []Found
	// Counts has the number of all rows of the key, by place and worker. GivenUp is how many of these are at workers and
	// were given up.
	Counts  map[Place]int
	GivenUp int
	// Sent, Queued and Held count rows without an outcome of the key's whole slot, which other keys share. Sent: at
	// workers. Queued: they wait for credit or for a session. Held: they wait for a worker to become ready, or for the
	// slot's old owner.
	Sent, Queued, Held int
	// Unsettled says that rows of the flow were on their way between workers all the time. The search has not looked at
	// these rows.
	Unsettled bool

	flow  *flow     // nil where there is no flow of that name
	slot  uint16    // of the key
	since time.Time // when the search was asked for
	begun bool
	seat  int // of the next worker flow to look at
	// the worker flow that has these places; nil for rows of the flow that no worker flow has
	workerFlow *workerFlow
	places     []searchable // still to be looked at
	lists      int          // lists of held rows looked at so far; -1 until the queues have been looked at
}

// Place is a place where rows wait, and the worker that it belongs to, if any.
type Place struct {
	Where  Where
	Worker string
}

// searchable is one place whose rows a Search looks at piece by piece. Either queue is set, or parts: a worker flow, whose
// parts are the place.
type searchable struct {
	where Where
	queue *queue
	parts *workerFlow
	begun bool // the first piece was looked at
}

// Searched says that a search has ended, so its result can be read.
type Searched struct{ Search *Search }

func (Searched) action() {}

// Asked begins a search. Several searches are made one after the other.
type Asked struct{ Search *Search }

// step handles Asked: it puts the search behind the others.
func (e Asked) step(s *Scheduler) {
	e.Search.since = s.now
	s.searches = append(s.searches, e.Search)
}

// settling is how long a search waits for rows that are on their way between workers, before it goes on without them.
const settling = time.Second

// continueSearch goes on with the first search, for half of the Step's budget.
func (s *Scheduler) continueSearch() {
	q := s.searches[0]
	if !q.begun && !q.begin(s) {
		return
	}
	for half := s.budget / 2; s.budget > half; {
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

// begin begins the search, and reports whether it could. It does not begin while rows are on their way through the inbox of
// the flow. These go on in the meantime, and another search gets its turn.
func (q *Search) begin(s *Scheduler) bool {
	f := s.byName[q.Flow]
	if f != nil && !f.settled() {
		if s.now.Sub(q.since) < settling {
			s.searches = append(s.searches[1:], q)
			if len(s.awake) == 0 {
				s.spend(costSlot)
			} // else the flow goes on with the rest of the budget
			return false
		}
		q.Unsettled = true
	}
	q.begun, q.flow, q.slot, q.lists, q.Counts = true, f, keyslot.Of(q.Key), -1, map[Place]int{}
	return true
}

// next looks at one more piece of the flow's rows. It returns false when the search has looked at all.
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

// searchables appends the places of a worker flow at which rows of the slot may wait: its parts, the rows set aside, and
// its queue.
func (wf *workerFlow) searchables(slot uint16, places []searchable) []searchable {
	if sh := wf.shares; sh != nil {
		b := bucket(slot)
		if sh.rows[b] > 0 {
			places = append(places, searchable{where: AtWorker, parts: wf})
		}
		if sh.aside[b] != nil {
			places = append(places, searchable{where: SetAside, queue: sh.aside[b]})
		}
	}
	if !wf.queue.empty() {
		places = append(places, searchable{where: Queued, queue: &wf.queue})
	}
	return places
}

// look looks at the next part, or the next chunk of a queue. It returns false when the place has no more.
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

// lookAtPart adds the part's rows that the worker has not answered and that belong to the slot.
func (q *Search) lookAtPart(p *Part) {
	b := p.Batch
	if len(b.Keys) == 0 {
		return
	}
	for i := range partRow(p.Len()) {
		row := p.row(i)
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

// lookAtSegment adds the segment's rows that belong to the slot.
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

// found counts a row of the key, and adds it to the result unless the result has Most rows.
func (q *Search) found(r Found) {
	q.Counts[Place{r.Where, r.Worker}]++
	if r.GivenUp {
		q.GivenUp++
	}
	if len(q.Rows) < q.Most {
		q.Rows = append(q.Rows, r)
	}
}

// At returns the row at a place of a part that a worker was sent. It returns false where the worker has answered the row,
// or never had one at that place.
func (s *Scheduler) At(worker string, part uint64, row uint32) (Found, bool) {
	w := s.workers[worker]
	if w == nil {
		return Found{}, false
	}
	p := w.sent.part(part)
	if p == nil || !p.has(partRow(row)) {
		return Found{}, false
	}
	return p.found(partRow(row)), true
}

// found describes the part's i-th row in the form in which a search finds rows.
func (p *Part) found(i partRow) Found {
	return Found{
		Where: AtWorker, Batch: p.Batch, Row: p.row(i), Worker: p.workerFlow.worker.id, Part: p, PartRow: uint32(i), Since: p.sentAt,
		GivenUp: p.Batch.over, Cancelled: p.Batch.cancelled,
	}
}
