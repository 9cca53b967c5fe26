package scheduler

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// flow is the state of one flow.
type flow struct {
	name     string
	revision batch.Revision // the active one; zero: none
	epoch    uint32         // counts the revisions that were active
	ledger   Ledger

	links      []*link // by seat; nil where the flow had nothing to do with the worker
	table      *table  // who owns which slot, of the workers that may get new rows; nil while there is none
	loads      []int64 // by seat, of the ready ones: their unanswered rows, side by side, as leastLoaded reads all
	unanswered int64   // rows of all links, those of workers that are gone included
	counts     *slotCounts
	held       map[uint16]*heldSlot
	heldRows   int       // that wait in held
	expiry     time.Time // no slot's hold ends before; meaningless while none is held
	over       []uint16  // held slots of which no row is unanswered any more

	inbox   []source     // where rows come from before fresh, the last one first
	fresh   queue        // submitted meanwhile
	waiting queue        // rows that found no ready worker, in order
	wholes  []*wholeLine // batches that go to one worker whole
	since   time.Time    // when waiting, or wholes without a ready worker, began

	// What is to be done for the flow (work.go).
	awake      bool    // it is in Scheduler.awake
	move       *move   // the hand-over under way; nil: none
	moves      []*link // those whose place is to be looked at
	expiring   []*link // those that still have rows of slots that were held for too long
	pumps      []*link // those that may be able to send
	pumpsWhole bool    // a whole batch may be able to go
	expires    bool    // a slot may be held for too long
	starves    bool    // what waits for a worker is to be failed
	sweeps     bool    // rows of batches that are over are to be dropped
	sweep      sweep
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
	mixed        bool     // something in queue may be of another revision than the active one
	shares       *shares  // nil before the first row with a key
	unanswered   int64    // rows sent
	handing      int      // slots that are held until it has no rows of them
	staying      int      // those of them that stay
	guarded      []uint16 // held slots that are not let go before all of requeues is through
	requeues     int      // how many sources are on their way back into queue
	returning    bool     // it hands back rows of its own accord: it gets none before all are back
	answered     uint64   // the number of the newest part of which a row has ended
	expiring     *Part    // the next one to look at for slots that were held for too long
	looking      *Part    // the next one that a search looks at; nil: none is left
	moves, pumps bool     // it is in flow.moves, flow.pumps
}

// worker is one worker process.
type worker struct {
	id, name  string
	hash      uint64 // of the name
	seat      uint16
	connected bool
	draining  bool
	gone      bool
	died      bool    // and so it is gone
	alone     bool    // and something ran with nothing beside it
	unburied  int     // links of one that is gone
	links     []*link // one per flow that the worker had to do with
	// The most that a part may measure.
	partRows, partBytes int64

	sent     window
	suspects []*Part // those sent after so many deaths that they run alone
	resuming bool    // parts are being sent again from number resume on; new ones must wait
	resume   uint64
}

func (s *Scheduler) flow(name string) *flow {
	f := s.byName[name]
	if f == nil {
		f = &flow{name: name}
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

// owns reports whether new rows of a slot go to the link.
func (f *flow) owns(l *link, slot uint16) bool {
	return l.ready && f.table.owner[slot] == l.worker.seat
}

// isLeaving reports whether the link's worker keeps nothing that it has not begun.
func (l *link) isLeaving() bool { return l.worker.draining || l.worker.gone || l.returning }

// push queues rows for the link's worker.
func (l *link) push(g segment) {
	l.mixed = l.mixed || g.batch.revision() != l.flow.revision
	l.queue.push(g)
}

// move has the link's place looked at: it may have become ready, or be no more.
func (s *Scheduler) move(l *link) {
	if !l.moves {
		l.moves = true
		l.flow.moves = append(l.flow.moves, l)
		s.wake(l.flow)
	}
}

// pumpSoon has the link send what it can when it is its turn.
func (s *Scheduler) pumpSoon(l *link) {
	if !l.pumps {
		l.pumps = true
		l.flow.pumps = append(l.flow.pumps, l)
		s.wake(l.flow)
	}
}
