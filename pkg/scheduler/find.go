package scheduler

import (
	"time"

	"github.com/kisgrid/kisgrid/internal/keyslot"
)

// A Search looks at all rows that the flow has. An index of the keys would make it faster and would cost something for each row,
// and it is seldom that somebody asks why a key does not move. Looking is work like any other: a slice in each Step, with other
// events in between. A row that moves meanwhile may be found twice, or not at all; a row that waits is found once.

// Where says at which kind of place in the scheduler a row is.
type Where uint8

// The kinds of places. Of two rows of one key, the older one is never at a place with a higher number.
const (
	// AtWorker means that the row was sent to a worker, which has not answered it.
	AtWorker Where = iota + 1
	// SetAside means that the row waits because its worker has as many unanswered rows of the row's key as one key may have
	// (skew.go).
	SetAside
	// Queued means that the row waits in its worker's queue, for credit or for a session.
	Queued
	// HeldBack means that the row's slot moved to another worker, and the row waits until the old owner has no rows of the
	// slot any more.
	HeldBack
	// NoWorker means that the row waits because no worker is ready for the flow.
	NoWorker
)

// Found is a row with the key that a Search looked for.
type Found struct {
	Where Where
	Batch *Batch
	Row   uint32 // the row's place in the batch
	// Worker is the id of the worker that has the row or will get it; "" means that none was chosen yet. From is the id of the
	// slot's old owner; it is set only for a row that is HeldBack.
	Worker, From string
	// Part is the row's part, and PartRow is the row's place in it. They are set only for a row that is AtWorker; the worker
	// knows the row by them.
	Part    *Part
	PartRow uint32
	// Since is when the row was sent, or when its batch came if it was not sent yet.
	Since time.Time
	// GivenUp says that the row is AtWorker and its batch is over. Nobody waits for the row, but the worker still has it.
	// Cancelled says that the batch is over because of an event Cancelled; otherwise its deadline passed, or the row ended
	// elsewhere.
	GivenUp, Cancelled bool
}

// Open reports whether the worker still has to answer the row, which must have been AtWorker when it was found. Only the
// goroutine that owns the scheduler may call it.
func (f *Found) Open() bool { return f.Part.isOpen(partRow(f.PartRow)) }

// Search finds the rows of one key that have no outcome, and rows of the key that are still at a worker although their batch
// is over. The caller fills in Flow, Key, Most and Owner, and passes the Search to Step in the event Asked. The other fields
// are filled in when Step returns the action Searched for it.
type Search struct {
	Flow string
	Key  uint64 // the hash of the shard key whose rows are looked for
	// Most is the greatest length of Rows. If the key has more rows, Rows has those that were found first: the rest wait for
	// them.
	Most int
	// Owner is for the caller's use; the scheduler does not look at it.
	Owner any

	// The result begins here. Explanation says where a new row of the key would go.
	Explanation
	Rows []Found
	// Counts has the number of all rows of the key, by place. GivenUp is how many of them are at workers although their
	// batches are over.
	Counts  map[Place]int
	GivenUp int
	// Sent, Queued and Held count rows of all keys in the key's slot whose batches are not over. Sent counts rows at workers.
	// Queued counts rows that wait for credit, for a session, or for their key's share of the credit. Held counts rows that
	// wait for a worker to become ready, or for the slot's old owner.
	Sent, Queued, Held int
	// Unsettled says that rows of the flow were on their way through the flow's inbox for as long as the search waited for
	// them (settling). The search has not looked at these rows.
	Unsettled bool

	flow  *flow     // nil where there is no flow of that name
	slot  uint16    // slot of the key
	since time.Time // when the search was asked for
	begun bool
	seat  int // seat of the next worker flow to look at
	// workerFlow is the worker flow that places belongs to; nil for the rows that wait for a ready worker
	workerFlow *workerFlow
	places     []searchable // places that the search still has to look at, before the next worker flow
	lists      int          // number of lists of held rows looked at so far; -1 until all worker flows have been looked at
}

// Place is a place where rows are: its kind, and the id of the worker that it belongs to. Worker is "" if the place belongs to
// no worker.
type Place struct {
	Where  Where
	Worker string
}

// searchable is one place whose rows a Search looks at piece by piece. Either queue is set, and its segments are the place, or
// parts is set, and the parts of that worker flow are the place.
type searchable struct {
	where Where
	queue *queue
	parts *workerFlow
	begun bool // the first piece was looked at
}

// Searched is the action that says that a search has ended, so its result can be read.
type Searched struct{ Search *Search }

func (Searched) action() {}

// Asked is the event that asks for a Search. Searches are made one after the other.
type Asked struct{ Search *Search }

// step handles Asked: it puts the search behind the others.
func (e Asked) step(s *Scheduler) {
	e.Search.since = s.now
	s.searches = append(s.searches, e.Search)
}

// settling is how long a search waits for rows that are on their way between workers, before it goes on without them.
const settling = time.Second

// continueSearch goes on with the first search of Scheduler.searches, for half of the Step's remaining budget. A search that
// ends leaves the list, and the action Searched follows.
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

// begin begins the search, and returns true, unless rows of the flow are on their way through the flow's inbox. Then it puts
// the search behind the others and returns false, until the search has waited for settling; after that it begins in any case.
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

// next looks at one more piece of the flow's rows: a part, a chunk of a queue, or a list of held rows. It returns false when
// there is none left.
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

// searchables appends to places those of a worker flow at which rows of the slot may be: its parts, the rows set aside, and
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

// look looks at the next part or the next chunk of the queue at a place. It returns false when the place has no more.
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

// lookAtPart counts the part's open rows of the search's slot in Sent, and adds the rows of the search's key to the result.
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

// lookAtSegment counts the segment's rows of the search's slot in Held or Queued, and adds the rows of the search's key to the
// result. where is the kind of place at which the segment waits.
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

// found counts a row of the search's key in Counts, and adds it to Rows unless Rows has Most rows already.
func (q *Search) found(r Found) {
	q.Counts[Place{r.Where, r.Worker}]++
	if r.GivenUp {
		q.GivenUp++
	}
	if len(q.Rows) < q.Most {
		q.Rows = append(q.Rows, r)
	}
}

// At returns the row of a worker's part by its place in the part. It returns false if the worker does not have that row any
// more, or never had it.
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

// found returns the part's i-th row as a Found, which says that it is AtWorker.
func (p *Part) found(i partRow) Found {
	return Found{
		Where: AtWorker, Batch: p.Batch, Row: p.row(i), Worker: p.workerFlow.worker.id, Part: p, PartRow: uint32(i), Since: p.sentAt,
		GivenUp: p.Batch.over, Cancelled: p.Batch.cancelled,
	}
}
