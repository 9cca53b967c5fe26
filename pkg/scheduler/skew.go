package scheduler

import "slices"

// A hot key must not hold the credit of a whole workerFlow: rows of other keys, of other streams too, would wait behind it for
// nothing. So no key has more than a quarter of the workerFlow's window unanswered. What is beyond that is set aside, with all that
// comes after it, while other keys go on; the client's own window bounds how much that can be. Keys are counted together
// where their slots share a bucket, of which there are few: counting costs little then, and a cold key is seldom unlucky.

const buckets = 256

// fewRows may always be unanswered: so little holds nobody up.
const fewRows = 8

func bucket(slot uint16) uint8 { return uint8(slot ^ slot>>8) }

// shares is what each bucket's keys have of a workerFlow's window.
type shares struct {
	rows [buckets]int32 // unanswered
	// aside are the rows of each bucket that wait for their share, in order, and crowded the buckets that have some, in the
	// order in which they were crowded out.
	aside   [buckets]*queue
	crowded []uint8
}

// limit is how many rows of the workerFlow one key may have unanswered.
func (wf *workerFlow) keyLimit() int64 { return max(fewRows, (wf.unanswered+max(0, wf.creditRows))/4) }

// share counts a row of a slot that was sent, or, below zero, that is the worker's no more.
func (wf *workerFlow) addShare(slot uint16, n int32) {
	if wf.shares == nil {
		wf.shares = new(shares)
	}
	wf.shares.rows[bucket(slot)] += n
}

// isCrowded reports whether rows are set aside.
func (wf *workerFlow) hasAside() bool { return wf.shares != nil && len(wf.shares.crowded) > 0 }

// admit leaves of a segment what may be sent now, as far as shares go, and sets the rest aside. False: nothing is left.
func (s *Scheduler) admit(wf *workerFlow, g *segment) bool {
	limit := wf.keyLimit()
	if !wf.hasAside() && wf.unanswered+int64(g.len()) <= limit {
		return true
	}
	if wf.shares == nil {
		wf.shares = new(shares)
	}
	s.spend(costSegment + 2*g.len())
	h := wf.shares
	var taken [buckets]int32
	full := func(row uint32) bool {
		b := bucket(g.batch.slot(row))
		if h.aside[b] != nil || int64(h.rows[b]+taken[b]) >= limit {
			return true
		}
		taken[b]++
		return false
	}
	rows := g.list()
	first := slices.IndexFunc(rows, full)
	if first < 0 {
		return true
	}
	stay := slices.Clone(rows[:first])
	h.setAside(g, rows[first])
	for _, row := range rows[first+1:] {
		if full(row) {
			h.setAside(g, row)
		} else {
			stay = append(stay, row)
		}
	}
	g.rows = stay
	return len(stay) > 0
}

// setAside makes a row of a segment wait.
func (h *shares) setAside(g *segment, row uint32) {
	b := bucket(g.batch.slot(row))
	q := h.aside[b]
	if q == nil {
		q = new(queue)
		h.aside[b] = q
		h.crowded = append(h.crowded, b)
	}
	if c := q.last; c != nil && len(c.segments) > c.head {
		if last := &c.segments[len(c.segments)-1]; last.batch == g.batch && last.deaths == g.deaths && last.rows[len(last.rows)-1] < row {
			last.rows = append(last.rows, row)
			return
		}
	}
	q.push(segment{batch: g.batch, rows: []uint32{row}, deaths: g.deaths})
}

// take empties what is set aside.
func (h *shares) take() []*queue {
	queues := make([]*queue, 0, len(h.crowded)+1)
	for _, b := range h.crowded {
		queues = append(queues, h.aside[b])
		h.aside[b] = nil
	}
	h.crowded = nil
	return queues
}
