package scheduler

import (
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// flow is the state of one flow.
type flow struct {
	name     string
	revision batch.Revision // the active one; zero: none
	ledger   Ledger

	links []*link // by seat; nil where the flow had nothing to do with the worker
	table *table  // who owns which slot, of the workers that may get new rows; nil while there is none
	loads []int64 // by seat, of the ready ones: their unanswered rows, side by side, as leastLoaded reads all
	held  map[uint16]*heldSlot
	over  []uint16 // held slots whose old owner is done; empty between steps

	whole   queue     // batches that go to one worker whole, in order
	waiting queue     // rows that found no ready worker, in order
	stale   bool      // a batch may be over whose rows are still queued
	since   time.Time // when waiting, or whole without a ready worker, began
}

// link is one worker's side of one flow.
type link struct {
	flow   *flow
	worker *worker
	ready  bool // its worker is in flow.table
	// acknowledged is the last active revision that the worker said it is ready for.
	acknowledged batch.Revision
	rows, bytes  int64 // credit left; below zero when overdrawn
	first, last  *Part // those with rows that the worker has not answered, in order
	queue        queue
	shares       *shares // nil before the first row with a key
	unanswered   int64   // rows sent
	handing      int     // slots that it still has unanswered rows of while they are held
	answered     uint64  // the number of the newest part of which a row has ended
}

// worker is one worker process.
type worker struct {
	id, name  string
	hash      uint64 // of the name
	seat      uint16
	connected bool
	draining  bool
	links     []*link // one per flow that the worker had to do with
	// The most that a part may measure.
	partRows, partBytes int64
	sent                window
}

func (s *Scheduler) flow(name string) *flow {
	f := s.byName[name]
	if f == nil {
		f = &flow{name: name, held: map[uint16]*heldSlot{}}
		s.byName[name] = f
		s.flows = append(s.flows, f)
	}
	return f
}

func (s *Scheduler) link(f *flow, w *worker) *link {
	for len(f.links) <= int(w.seat) {
		f.links, f.loads = append(f.links, nil), append(f.loads, notReady)
	}
	l := f.links[w.seat]
	if l == nil {
		l = &link{flow: f, worker: w}
		f.links[w.seat] = l
		w.links = append(w.links, l)
	}
	return l
}

// each yields the links of the flow.
func (f *flow) each(yield func(*link) bool) {
	for _, l := range f.links {
		if l != nil && !yield(l) {
			return
		}
	}
}

// segment is rows of one batch that go one way.
type segment struct {
	batch  *Batch
	rows   []uint32 // nil: the whole batch
	deaths uint32   // workers that died when they may have run them
}

func (g *segment) len() int {
	if g.rows == nil {
		return g.batch.Rows()
	}
	return len(g.rows)
}

// queue is segments in order.
type queue struct {
	segments []segment
	head     int
}

func (q *queue) empty() bool     { return q.head == len(q.segments) }
func (q *queue) front() *segment { return &q.segments[q.head] }
func (q *queue) push(g segment)  { q.segments = append(q.segments, g) }

func (q *queue) pop() {
	q.segments[q.head] = segment{}
	q.head++
	switch {
	case q.head == len(q.segments):
		q.segments, q.head = q.segments[:0], 0
	case q.head >= 64 && q.head*2 >= len(q.segments):
		n := copy(q.segments, q.segments[q.head:])
		clear(q.segments[n:])
		q.segments, q.head = q.segments[:n], 0
	}
}

// take empties the queue and returns what was in it.
func (q *queue) take() []segment {
	segments := q.segments[q.head:]
	*q = queue{}
	return segments
}

// putBack puts a segment in front.
func (q *queue) putBack(g segment) {
	if q.head > 0 {
		q.head--
		q.segments[q.head] = g
		return
	}
	q.segments = append([]segment{g}, q.segments...)
}

// drop takes out what satisfies over.
func (q *queue) drop(over func(segment) bool) {
	q.segments = slices.DeleteFunc(q.segments[q.head:], over)
	q.head = 0
}

// sweep takes the rows of batches that are over out of every queue: behind one that waits for credit they would keep their
// batches in memory although nobody waits for them.
func (s *Scheduler) sweep(f *flow) {
	f.stale = false
	over := func(g segment) bool { return g.batch.over }
	for l := range f.each {
		s.dropOver(l)
		s.pump(l)
	}
	f.whole.drop(over)
	f.waiting.drop(over)
	for _, h := range f.held {
		h.rows = slices.DeleteFunc(h.rows, func(r heldRow) bool { return r.batch.over })
	}
}
