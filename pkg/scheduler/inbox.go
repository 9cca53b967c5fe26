package scheduler

import (
	"container/heap"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// source is where a flow's rows come from on their way into queues.
type source interface {
	// next routes the source's next rows; false when there are no more.
	next(s *Scheduler, f *flow) bool
	// each calls yield for each segment that is left, for who looks at the whole state.
	each(yield func(segment))
}

// enter puts a source in front of all others of the flow.
func (s *Scheduler) enter(f *flow, from source) {
	f.inbox = append(f.inbox, from)
	s.wake(f)
}

func (f *flow) inboxEmpty() bool { return len(f.inbox) == 0 && f.submitted.empty() }

// routeNext routes some rows of the flow's inbox.
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

// queued is rows that waited for a worker to become ready.
type waitedRows struct{ queue queue }

func (q *waitedRows) next(s *Scheduler, f *flow) bool {
	if q.queue.empty() {
		return false
	}
	g := *q.queue.front()
	q.queue.pop()
	s.route(f, g)
	return true
}

func (q *waitedRows) each(yield func(segment)) { q.queue.each(func(g *segment) { yield(*g) }) }

// residue is what a worker that is gone had been sent of a flow.
type lostParts struct {
	workerFlow *workerFlow
	blame
}

func (r *lostParts) next(s *Scheduler, f *flow) bool {
	p := r.workerFlow.first
	if p == nil {
		return false
	}
	s.spend(costPart)
	if !p.Batch.over {
		for _, g := range r.segmentsOf(p) {
			s.redispatch(f, g)
		}
	}
	p.closeAll()
	p.relink(p.next, p.prev)
	return true
}

// redispatch sends on rows that a worker had which is gone.
func (s *Scheduler) redispatch(f *flow, g segment) {
	switch {
	case g.deaths > survivableDeaths:
		s.fail(g.batch, g.list(), batch.Dead, batch.CodePoison)
		return
	case len(g.batch.Keys) > 0:
		s.route(f, g)
	default:
		s.queueWhole(f, g, true)
	}
	f.ledger.Redispatched += uint64(g.len())
}

func (r *lostParts) each(func(segment)) {} // they are still the workerFlow's

// requeued is what stood in the queue of a workerFlow some of whose slots moved. What is the workerFlow's still goes back there.
type requeuedRows struct {
	workerFlow *workerFlow
	queues     []*queue
	handOver   uint64 // of the hand-over that it belongs to
	keepsRows  bool   // the workerFlow keeps its rows of slots that moved, too
}

// requeue empties the queue of a workerFlow, to route what is in it anew. keeps: what it has stays there, also of slots that moved.
func (s *Scheduler) requeue(wf *workerFlow, round uint64, keeps bool) {
	if wf.queue.empty() && !wf.hasAside() && len(wf.guardedSlots) == 0 {
		return
	}
	q := &requeuedRows{workerFlow: wf, handOver: round, keepsRows: keeps}
	if wf.shares != nil {
		q.queues = wf.shares.take()
	}
	all := wf.queue.take()
	q.queues = append(q.queues, &all)
	wf.mayMixRevisions = false
	if w := &wf.flow.sweep; w.workerFlow == wf {
		w.queues = w.queues[:0] // they are the workerFlow's no more
	}
	wf.requeuing++
	s.enter(wf.flow, q)
}

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
	if len(f.held.slots) == 0 && !q.keepsRows {
		s.route(f, g)
		return true
	}
	s.spend(costSegment + 4*g.len())
	wf := q.workerFlow
	var stay, rest []uint32
	for _, r := range g.list() {
		slot := g.batch.slot(r)
		h := f.held.slots[slot]
		counted := h != nil && h.oldOwner == wf && h.countsQueued && h.handOver < q.handOver
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
				h.open++ // from now on
			}
			stay = append(stay, r)
			continue
		default:
			h.keep(&f.held, heldRow{g.batch, r, g.deaths})
		}
		if counted {
			f.held.countOne(slot)
		}
	}
	if len(stay) > 0 {
		wf.push(segment{batch: g.batch, rows: stay, deaths: g.deaths})
		s.sendQueued(wf)
	}
	if len(rest) > 0 {
		s.route(f, segment{batch: g.batch, rows: rest, deaths: g.deaths})
	}
	return true
}

func (q *requeuedRows) each(yield func(segment)) {
	for i := range q.queues {
		q.queues[i].each(func(g *segment) { yield(*g) })
	}
}

// unguard lets the slots go that were kept until all that stood in the workerFlow's queue is back there.
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

// merge is a source of rows that waited for their slots: a heap of runs, the one that begins with the oldest row on top. Each
// slot's rows go in the order in which they came; so all may.
type releasedRows [][]heldRow

func (m *releasedRows) next(s *Scheduler, f *flow) bool {
	if len(*m) == 0 {
		return false
	}
	first := (*m)[0][0]
	g := segment{batch: first.batch, deaths: first.deaths}
	for len(*m) > 0 {
		top := (*m)[0]
		r := &top[0]
		if r.batch != g.batch || r.deaths != g.deaths {
			break
		}
		g.rows = append(g.rows, r.row)
		if (*m)[0] = top[1:]; len(top) == 1 {
			heap.Pop(m)
		} else if !r.before(&top[1]) || len(*m) > 1 {
			heap.Fix(m, 0)
		}
	}
	s.spend(costSlot * len(g.rows))
	s.route(f, g)
	return true
}

func (m *releasedRows) each(yield func(segment)) {
	for _, run := range *m {
		for _, r := range run {
			yield(segment{batch: r.batch, rows: []uint32{r.row}, deaths: r.deaths})
		}
	}
}

// Len, Less, Swap, Push and Pop are heap.Interface's.
func (m releasedRows) Len() int { return len(m) }

func (m releasedRows) Less(i, j int) bool { return m[i][0].before(&m[j][0]) }

func (m releasedRows) Swap(i, j int) { m[i], m[j] = m[j], m[i] }

func (m *releasedRows) Push(x any) { *m = append(*m, x.([]heldRow)) }

func (m *releasedRows) Pop() any {
	last := len(*m) - 1
	run := (*m)[last]
	(*m)[last] = nil
	*m = (*m)[:last]
	return run
}
