package scheduler

import "slices"

// A key with very many rows must not use up all credit of a worker: rows of other keys, and of other streams, would wait behind it
// although the worker could run them in other lanes. So a key may have at most a quarter of the worker flow's unanswered rows and
// credit. Further rows of the key are set aside, in order, while other keys go on. The window of a client, which bounds its
// unanswered rows, bounds how many rows can be set aside.
//
// Keys are counted together where their slots are in one bucket. There are few buckets, so counting costs little, and enough that
// a rare key is seldom in the bucket of a frequent one.

// buckets is the number of buckets (groups) that slots are divided into. The rows of a bucket are counted together.
const buckets = 256

// fewRows is the least that keyLimit returns: a bucket may always have that many unanswered rows, because they keep no other
// rows waiting for long.
const fewRows = 8

// bucket returns the number of the bucket that a slot belongs to.
func bucket(slot uint16) uint8 { return uint8(slot ^ slot>>8) }

// shares has, for one worker flow, how many unanswered rows each bucket of keys has, and the rows that are set aside because
// their bucket has as many as it may have.
type shares struct {
	rows [buckets]int32 // number of rows at the worker, by bucket
	// aside has, by bucket, the rows that are set aside, in order; nil means none. crowded lists the buckets that have rows in
	// aside, in the order in which they got the first one.
	aside   [buckets]*queue
	crowded []uint8
}

// keyLimit returns how many unanswered rows one bucket may have: a quarter of the sum of the worker flow's unanswered rows and
// remaining credit in rows, but at least fewRows.
func (wf *workerFlow) keyLimit() int64 { return max(fewRows, (wf.unanswered+max(0, wf.creditRows))/4) }

// addShare adds n to the number of unanswered rows in a slot's bucket; n is below zero for rows that the worker does not have
// any more.
func (wf *workerFlow) addShare(slot uint16, n int32) {
	if wf.shares == nil {
		wf.shares = new(shares)
	}
	wf.shares.rows[bucket(slot)] += n
}

// hasAside reports whether the worker flow has rows that are set aside because their keys have used up their share of the
// credit.
func (wf *workerFlow) hasAside() bool { return wf.shares != nil && len(wf.shares.crowded) > 0 }

// admit decides which rows of a segment may be sent now, so that no key uses more than its share of the worker's credit. These
// rows stay in the segment, and the others are set aside. admit returns false if no row stays in the segment.
func (s *Scheduler) admit(wf *workerFlow, g *segment) bool {
	limit := wf.keyLimit()
	if !wf.hasAside() && wf.unanswered+int64(g.len()) <= limit {
		return true
	}
	if wf.shares == nil {
		wf.shares = new(shares)
	}
	s.spend(costSegment + 2*g.len())
	sh := wf.shares
	var taken [buckets]int32 // rows of this segment that may be sent now, by bucket
	full := func(row uint32) bool {
		b := bucket(g.batch.slot(row))
		if sh.aside[b] != nil || int64(sh.rows[b]+taken[b]) >= limit {
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
	pointAside.Hit()
	stay := slices.Clone(rows[:first])
	sh.setAside(g, rows[first])
	for _, row := range rows[first+1:] {
		if full(row) {
			sh.setAside(g, row)
		} else {
			stay = append(stay, row)
		}
	}
	g.rows = stay
	return len(stay) > 0
}

// setAside sets a row of a segment aside, behind the rows of its bucket that are set aside already.
func (sh *shares) setAside(g *segment, row uint32) {
	b := bucket(g.batch.slot(row))
	q := sh.aside[b]
	if q == nil {
		q = new(queue)
		sh.aside[b] = q
		sh.crowded = append(sh.crowded, b)
	}
	if c := q.last; c != nil && len(c.segments) > c.head {
		if last := &c.segments[len(c.segments)-1]; last.batch == g.batch && last.deaths == g.deaths && last.rows[len(last.rows)-1] < row {
			last.rows = append(last.rows, row)
			return
		}
	}
	q.push(segment{batch: g.batch, rows: []uint32{row}, deaths: g.deaths})
}

// take returns the queues of all rows that are set aside, one for each bucket that has some, and leaves none set aside.
func (sh *shares) take() []*queue {
	queues := make([]*queue, 0, len(sh.crowded)+1)
	for _, b := range sh.crowded {
		queues = append(queues, sh.aside[b])
		sh.aside[b] = nil
	}
	sh.crowded = nil
	return queues
}
