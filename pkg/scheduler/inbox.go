package scheduler

import "github.com/kisgrid/kisgrid/pkg/batch"

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

func (f *flow) inboxEmpty() bool { return len(f.inbox) == 0 && f.fresh.empty() }

// routeNext routes some rows of the flow's inbox.
func (s *Scheduler) routeNext(f *flow) {
	if n := len(f.inbox); n > 0 {
		if from := f.inbox[n-1]; !from.next(s, f) {
			f.inbox[n-1] = nil
			f.inbox = f.inbox[:n-1]
		}
		return
	}
	g := *f.fresh.front()
	f.fresh.pop()
	s.route(f, g)
}

// queued is rows that waited for a worker to become ready.
type queued struct{ queue queue }

func (q *queued) next(s *Scheduler, f *flow) bool {
	if q.queue.empty() {
		return false
	}
	g := *q.queue.front()
	q.queue.pop()
	s.route(f, g)
	return true
}

func (q *queued) each(yield func(segment)) { q.queue.each(func(g *segment) { yield(*g) }) }

// residue is what a worker that is gone had been sent of a flow.
type residue struct {
	link *link
	blame
}

func (r *residue) next(s *Scheduler, f *flow) bool {
	p := r.link.first
	if p == nil {
		return false
	}
	s.spend(costPart)
	if !p.Batch.over {
		for _, g := range r.of(p) {
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
	case g.deaths > poison:
		s.fail(g.batch, g.list(), batch.Dead, batch.CodePoison)
		return
	case len(g.batch.Keys) > 0:
		s.route(f, g)
	default:
		s.whole(f, g, true)
	}
	f.ledger.Redispatched += uint64(g.len())
}

func (r *residue) each(func(segment)) {} // they are still the link's

// requeued is what stood in the queue of a link some of whose slots moved. What is the link's still goes back there.
type requeued struct {
	link   *link
	queues []*queue
	round  uint64 // of the hand-over that it belongs to
	keeps  bool   // the link keeps its rows of slots that moved, too
}

// requeue empties the queue of a link, to route what is in it anew. keeps: what it has stays there, also of slots that moved.
func (s *Scheduler) requeue(l *link, round uint64, keeps bool) {
	if l.queue.empty() && !l.isCrowded() && len(l.guarded) == 0 {
		return
	}
	q := &requeued{link: l, round: round, keeps: keeps}
	if l.shares != nil {
		q.queues = l.shares.take()
	}
	all := l.queue.take()
	q.queues = append(q.queues, &all)
	l.mixed = false
	if w := &l.flow.sweep; w.link == l {
		w.queues = w.queues[:0] // they are the link's no more
	}
	l.requeues++
	s.enter(l.flow, q)
}

func (q *requeued) next(s *Scheduler, f *flow) bool {
	for len(q.queues) > 0 && q.queues[0].empty() {
		q.queues = q.queues[1:]
	}
	if len(q.queues) == 0 {
		s.unguard(q.link)
		return false
	}
	g := *q.queues[0].front()
	q.queues[0].pop()
	if len(f.held) == 0 && !q.keeps {
		s.route(f, g)
		return true
	}
	s.spend(costSegment + 4*g.len())
	l := q.link
	var stay, rest []uint32
	for _, r := range g.list() {
		slot := g.batch.slot(r)
		h := f.held[slot]
		counted := h != nil && h.from == l && h.counts && h.round < q.round
		if h == nil && q.keeps && !g.batch.over && !l.isLeaving() && !f.owns(l, slot) {
			h = s.hold(f, slot, l, int(s.counted(f).open[slot]), true)
			h.round = q.round
		}
		switch {
		case g.batch.over:
		case h == nil:
			rest = append(rest, r)
		case h.from == l && h.stays && !l.isLeaving():
			if !counted {
				h.open++ // from now on
			}
			stay = append(stay, r)
			continue
		default:
			h.keep(f, heldRow{g.batch, r, g.deaths})
		}
		if counted {
			f.handedOver(slot)
		}
	}
	if len(stay) > 0 {
		l.push(segment{batch: g.batch, rows: stay, deaths: g.deaths})
		s.pump(l)
	}
	if len(rest) > 0 {
		s.route(f, segment{batch: g.batch, rows: rest, deaths: g.deaths})
	}
	return true
}

func (q *requeued) each(yield func(segment)) {
	for i := range q.queues {
		q.queues[i].each(func(g *segment) { yield(*g) })
	}
}

// unguard lets the slots go that were kept until all that stood in the link's queue is back there.
func (s *Scheduler) unguard(l *link) {
	if l.requeues--; l.requeues > 0 {
		return
	}
	s.spend(costSlot * len(l.guarded))
	for _, slot := range l.guarded {
		l.flow.handedOver(slot)
	}
	l.guarded = nil
}
