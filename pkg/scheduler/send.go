package scheduler

import (
	"math"
	"slices"
)

// A part may have up to so many rows and bytes even if less credit is left, as long as some is. Otherwise the last rows of
// credit would go in many small parts.
const (
	overdrawRows  = 1024
	overdrawBytes = 64 << 10
)

// sendQueued sends queued rows of a worker flow as far as its credit goes. Rows that were set aside for their key's share
// (skew.go) go before the queue.
func (s *Scheduler) sendQueued(wf *workerFlow) {
	if wf.queue.empty() && !wf.hasAside() {
		return
	}
	if wf.flow.handOver != nil { // its slots are not settled yet
		s.sendQueuedSoon(wf)
		return
	}
	if wf.hasAside() && !s.readmit(wf) {
		s.sendQueuedSoon(wf)
		return
	}
	for {
		// Rows of batches that are over are dropped when their turn comes.
		for !wf.queue.empty() && wf.queue.front().batch.over {
			s.spend(costSegment)
			s.noteUnqueued(wf, wf.queue.front())
			wf.queue.pop()
		}
		if wf.queue.empty() {
			wf.mayMixRevisions = wf.mayMixRevisions && wf.hasAside()
			return
		}
		if !wf.maySend() {
			return
		}
		if s.budget <= 0 {
			s.sendQueuedSoon(wf)
			return
		}
		// Take the rows that one part may have, set those of frequent keys aside, and send the others. Only rows that leave the queue are
		// looked at: a row that stayed in it would be overtaken by later rows of its key that are set aside.
		g := wf.queue.front()
		part := segment{batch: g.batch, deaths: g.deaths}
		var rest []uint32
		if part.rows, rest = wf.fit(g, math.MaxInt64); rest == nil {
			wf.queue.pop()
		} else {
			g.rows = rest
		}
		if s.admit(wf, &part) {
			s.send(wf, part)
		}
	}
}

// fit divides a segment into rows, which can be sent in one part now, and rest. rows has at least one row. Beyond that it has
// at most as many rows as most, the credit (or overdrawRows and overdrawBytes, if they are more) and the worker's limits for
// one part allow. rest is nil if all rows can be sent; then rows is nil, too, if the segment is the whole batch.
func (wf *workerFlow) fit(g *segment, most int64) (rows, rest []uint32) {
	b := g.batch
	w := wf.worker
	maxRows, maxBytes := min(most, max(wf.creditRows, overdrawRows), w.partRows), min(max(wf.creditBytes, overdrawBytes), w.partBytes)
	if g.rows == nil {
		if int64(b.Rows()) <= maxRows && int64(b.Ends[len(b.Ends)-1]) <= maxBytes {
			return nil, nil
		}
		g.rows = make([]uint32, b.Rows())
		for i := range g.rows {
			g.rows[i] = uint32(i)
		}
	}
	bytes := int64(0)
	for i, r := range g.rows {
		bytes += b.size(r)
		if i > 0 && (bytes > maxBytes || int64(i) >= maxRows) {
			return g.rows[:i:i], g.rows[i:]
		}
	}
	return g.rows, nil
}

// send makes a part of a segment, with the next number of the worker, counts its rows as unanswered, takes the part from the
// credit, and adds the action Send.
func (s *Scheduler) send(wf *workerFlow, g segment) {
	w, f := wf.worker, wf.flow
	p := &Part{
		Number: w.sent.next(), Batch: g.batch, Rows: g.rows, Deaths: g.deaths, workerFlow: wf, open: g.len(), epoch: f.epoch,
		otherRevision: g.batch.revision() != f.revision, sentAt: s.now,
	}
	s.spend(costPart + p.open)
	w.sent.parts = append(w.sent.parts, p)
	wf.append(p)
	wf.addUnanswered(p.open)
	if p.Deaths >= survivableDeaths {
		w.suspects = append(slices.DeleteFunc(w.suspects, func(p *Part) bool { return p.open == 0 }), p)
	}
	if len(p.Batch.Keys) > 0 {
		p.eachOpen(func(i partRow) {
			slot := p.Batch.slot(p.row(i))
			wf.addShare(slot, 1)
			if f.counts != nil {
				f.counts.add(slot, 1, p.otherRevision)
			}
		})
		if f.unanswered > countFrom {
			s.countsOf(f)
		}
	}
	wf.takeCredit(p)
	s.act(Send{Worker: w.id, Part: p})
}

// readmit sends rows that were set aside because their keys had used up their share of the credit (skew.go), as far as credit
// goes. A bucket of keys gets its turn when half of its share is free. readmit returns false if the Step's budget was used up
// before it had looked at all buckets.
func (s *Scheduler) readmit(wf *workerFlow) bool {
	sh := wf.shares
	enough := true // budget
	sh.crowded = slices.DeleteFunc(sh.crowded, func(b uint8) bool {
		q := sh.aside[b]
		mustWait := int64(sh.rows[b]) > wf.keyLimit()/2
		for !q.empty() {
			g := q.front()
			room := wf.keyLimit() - int64(sh.rows[b])
			switch {
			case g.batch.over && enough:
				s.spend(costSegment)
				s.noteUnqueued(wf, g)
				q.pop()
				enough = s.budget > 0
				continue
			case mustWait || room <= 0 || !enough || !wf.maySend():
				return false
			case s.budget <= 0:
				enough = false
				return false
			}
			part := segment{batch: g.batch, deaths: g.deaths}
			var rest []uint32
			if part.rows, rest = wf.fit(g, room); rest == nil {
				q.pop()
			} else {
				g.rows = rest
			}
			s.send(wf, part)
		}
		sh.aside[b] = nil
		return true
	})
	return enough
}
