package scheduler

import (
	"container/heap"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// source is one group of rows in a flow's inbox that are routed together, from the oldest on.
type source interface {
	// next routes the next rows of the source. It returns false, and routes nothing, when the source has no more.
	next(s *Scheduler, f *flow) bool
	// each calls yield for each segment that is left. Only tests use it, to check the whole state.
	each(yield func(segment))
}

// enter puts a source in front of all others in the flow's inbox, because its rows are older than those of the others.
func (s *Scheduler) enter(f *flow, from source) {
	f.inbox = append(f.inbox, from)
	s.wake(f)
}

// routeNext routes the next rows of the flow's inbox: rows of the source that entered last, or the first submitted segment
// where there is no source. The inbox must not be empty.
func (s *Scheduler) routeNext(f *flow) {
	if n := len(f.inbox); n > 0 {
		if from := f.inbox[n-1]; !from.next(s, f) {
			f.inbox[n-1] = nil
			f.inbox = f.inbox[:n-1]
		}
		return
	}
	g := *f.submitted.front()
	f.submitted.pop()
	s.route(f, g)
}

// waitedRows is a source of a flow's inbox: rows that waited until a worker became ready for the flow.
type waitedRows struct{ queue queue }

// next routes one segment of the rows that waited for a ready worker. It returns false when there is none.
func (q *waitedRows) next(s *Scheduler, f *flow) bool {
	if q.queue.empty() {
		return false
	}
	g := *q.queue.front()
	q.queue.pop()
	s.route(f, g)
	return true
}

// each yields all segments that are left.
func (q *waitedRows) each(yield func(segment)) { q.queue.each(func(g *segment) { yield(*g) }) }

// lostParts is a source of a flow's inbox: rows that a worker which is gone was sent and did not answer.
type lostParts struct {
	workerFlow *workerFlow // the worker flow of the parts; its worker is gone
	blame                  // decides which of the rows the worker's death counts against
}

// next routes the open rows of one part again, unless its batch is over. It returns false when no part is left.
func (lost *lostParts) next(s *Scheduler, f *flow) bool {
	p := lost.workerFlow.first
	if p == nil {
		return false
	}
	s.spend(costPart)
	if !p.Batch.over {
		for _, g := range lost.segmentsOf(p) {
			s.redispatch(f, g)
		}
	}
	p.closeAll()
	p.relink(p.next, p.prev)
	return true
}

// redispatch routes again rows of a worker that is gone. If too many workers' deaths count against the rows, they become dead
// instead.
func (s *Scheduler) redispatch(f *flow, g segment) {
	switch {
	case g.deaths > survivableDeaths:
		pointPoison.Hit()
		s.fail(g.batch, g.list(), batch.Dead, batch.CodePoison)
		return
	case len(g.batch.Keys) > 0:
		s.route(f, g)
	default:
		s.queueWhole(f, g, true)
	}
	pointRedispatched.Hit()
	f.ledger.Redispatched += uint64(g.len())
}

// each yields nothing: tests find these rows in the worker flow's list of parts.
func (lost *lostParts) each(func(segment)) {}

// requeuedRows is a source of a flow's inbox: rows that stood in a worker flow's queue when slots moved. Rows that still
// belong to that worker flow go back into its queue.
type requeuedRows struct {
	workerFlow *workerFlow // the worker flow that had the queue
	queues     []*queue    // the queue, and the rows that were set aside (skew.go)
	handOver   uint64      // number of the hand-over for which the queue was emptied
	keepsRows  bool        // the worker flow may keep its rows, also of slots that moved
}

// requeue empties the queue of a worker flow, with the rows set aside, and puts them into the flow's inbox to be routed anew.
// handOver is the number of the hand-over that asks for this. keeps says that the worker flow may keep its rows, also of slots
// that moved.
func (s *Scheduler) requeue(wf *workerFlow, handOver uint64, keeps bool) {
	if wf.queue.empty() && !wf.hasAside() && len(wf.guardedSlots) == 0 {
		return
	}
	q := &requeuedRows{workerFlow: wf, handOver: handOver, keepsRows: keeps}
	if wf.shares != nil {
		q.queues = wf.shares.take()
	}
	all := wf.queue.take()
	q.queues = append(q.queues, &all)
	wf.mayMixRevisions = false
	if w := &wf.flow.sweep; w.workerFlow == wf {
		w.queues = w.queues[:0] // they are not queues of this worker flow any more
	}
	pointRequeued.Hit()
	wf.requeuing++
	s.enter(wf.flow, q)
}

// next routes one segment that stood in the queue. Rows of a held slot go back into the queue if the old owner keeps its rows,
// and otherwise wait for the slot. It returns false when no segment is left.
func (q *requeuedRows) next(s *Scheduler, f *flow) bool {
	for len(q.queues) > 0 && q.queues[0].empty() {
		q.queues = q.queues[1:]
	}
	if len(q.queues) == 0 {
		s.releaseGuarded(q.workerFlow)
		return false
	}
	g := *q.queues[0].front()
	q.queues[0].pop()
	// Where no slot is held, each row simply goes to the owner of its slot.
	if len(f.held.slots) == 0 && !q.keepsRows {
		s.route(f, g)
		return true
	}
	s.spend(costSegment + 4*g.len())
	wf := q.workerFlow
	// stay are the rows that go back into the queue, and rest those that are routed anew. The other rows wait for their slots.
	var stay, rest []uint32
	for _, r := range g.list() {
		slot := g.batch.slot(r)
		h := f.held.slots[slot]
		counted := h != nil && h.oldOwner == wf && h.countsQueued && h.handOver < q.handOver
		// The old owner keeps its queued rows, too, and this is the first one of a slot that is not held yet.
		if h == nil && q.keepsRows && !g.batch.over && !wf.isLeaving() && !f.owns(wf, slot) {
			h = s.hold(f, slot, wf, int(s.countsOf(f).open[slot]), true)
			h.handOver = q.handOver
		}
		switch {
		case g.batch.over:
		case h == nil:
			rest = append(rest, r)
		case h.oldOwner == wf && h.keepsRows && !wf.isLeaving():
			if !counted {
				h.open++ // its queued rows are counted from now on
			}
			stay = append(stay, r)
			continue
		default:
			h.keep(&f.held, heldRow{g.batch, r, g.deaths})
		}
		if counted { // open counted it as a queued row, which it is no more
			f.held.countOne(slot)
		}
	}
	if len(stay) > 0 {
		pointStayed.Hit()
		wf.push(segment{batch: g.batch, rows: stay, deaths: g.deaths})
		s.sendQueued(wf)
	}
	if len(rest) > 0 {
		s.route(f, segment{batch: g.batch, rows: rest, deaths: g.deaths})
	}
	return true
}

// each yields all segments that are left.
func (q *requeuedRows) each(yield func(segment)) {
	for i := range q.queues {
		q.queues[i].each(func(g *segment) { yield(*g) })
	}
}

// releaseGuarded is called when one source of requeuedRows of a worker flow has routed all its rows. After the last such
// source, the slots in guardedSlots need not stay held because of queued rows any more.
func (s *Scheduler) releaseGuarded(wf *workerFlow) {
	if wf.requeuing--; wf.requeuing > 0 {
		return
	}
	s.spend(costSlot * len(wf.guardedSlots))
	for _, slot := range wf.guardedSlots {
		wf.flow.held.countOne(slot)
	}
	wf.guardedSlots = nil
}

// releasedRows is a source of a flow's inbox: rows that waited for held slots. It merges the lists of several slots: it is
// a heap of lists, and the list that begins with the oldest row is on top. Rows of one slot leave in the order in which
// they came.
type releasedRows [][]heldRow

// next routes the oldest rows, up to the first row that is of another batch or has another number of deaths. It returns false
// when no row is left.
func (rows *releasedRows) next(s *Scheduler, f *flow) bool {
	if len(*rows) == 0 {
		return false
	}
	first := (*rows)[0][0]
	g := segment{batch: first.batch, deaths: first.deaths}
	for len(*rows) > 0 {
		top := (*rows)[0]
		r := &top[0]
		if r.batch != g.batch || r.deaths != g.deaths {
			break
		}
		g.rows = append(g.rows, r.row)
		if (*rows)[0] = top[1:]; len(top) == 1 {
			heap.Pop(rows)
		} else if !r.before(&top[1]) || len(*rows) > 1 {
			heap.Fix(rows, 0)
		}
	}
	s.spend(costSlot * len(g.rows))
	s.route(f, g)
	return true
}

// each yields all rows, one by one.
func (rows *releasedRows) each(yield func(segment)) {
	for _, list := range *rows {
		for _, r := range list {
			yield(segment{batch: r.batch, rows: []uint32{r.row}, deaths: r.deaths})
		}
	}
}

// Len returns the number of lists. Like the next four methods, it is there for container/heap.
func (rows releasedRows) Len() int { return len(rows) }

// Less reports whether the i-th list begins with an older row than the j-th.
func (rows releasedRows) Less(i, j int) bool { return rows[i][0].before(&rows[j][0]) }

// Swap swaps two lists.
func (rows releasedRows) Swap(i, j int) { rows[i], rows[j] = rows[j], rows[i] }

// Push appends a list of held rows; only heap.Push may call it.
func (rows *releasedRows) Push(x any) { *rows = append(*rows, x.([]heldRow)) }

// Pop removes and returns the last list of the slice; only package heap may call it.
func (rows *releasedRows) Pop() any {
	last := len(*rows) - 1
	list := (*rows)[last]
	(*rows)[last] = nil
	*rows = (*rows)[:last]
	return list
}
