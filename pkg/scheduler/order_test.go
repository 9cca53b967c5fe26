package scheduler

import (
	"container/heap"
	"fmt"
	"slices"
)

// order checks that the rows of each slot are in order: first those at workers, then those that are held, then those in the inbox.
func (c *checker) order(f *flow) {
	last, stood := map[uint16][2]uint64{}, map[uint16]string{}
	where := "at workers"
	see := func(b *Batch, row uint32) {
		if len(b.Keys) == 0 || b.over {
			return
		}
		slot := b.slot(row)
		if h := f.held.slots[slot]; h != nil && h.countsQueued {
			return // it is not let go before its queued rows have joined the others
		}
		at := [2]uint64{b.arrival, uint64(row)}
		if before, ok := last[slot]; ok && slices.Compare(before[:], at[:]) >= 0 {
			c.errorf("flow %s, slot %d: row %d of batch %d %s stands behind row %d of batch %d %s", f.name, slot, row, b.arrival, where, before[1], before[0], stood[slot])
		}
		last[slot], stood[slot] = at, where
	}
	rows := func(g *segment) {
		for _, r := range g.list() {
			see(g.batch, r)
		}
	}
	parts := func(wf *workerFlow) {
		for p := wf.first; p != nil; p = p.next {
			p.eachOpen(func(i partRow) {
				// Who hands rows of a held slot back may do so in any order.
				if len(p.Batch.Keys) > 0 && f.held.slots[p.Batch.slot(p.row(i))] == nil {
					see(p.Batch, p.row(i))
				}
			})
		}
	}
	placed := func(g *segment) {
		for _, r := range g.list() {
			if f.held.slots[g.batch.slot(r)] == nil {
				see(g.batch, r)
			}
		}
	}
	for wf := range f.each {
		parts(wf)
		if wf.hasAside() {
			for _, b := range wf.shares.crowded {
				wf.shares.aside[b].each(placed)
			}
		}
		wf.queue.each(placed)
	}
	where = "that is held"
	for _, h := range f.held.slots {
		var all []heldRow
		for _, run := range h.lists {
			all = append(all, run...)
		}
		slices.SortFunc(all, func(a, b heldRow) int {
			if a.before(&b) {
				return -1
			}
			return 1
		})
		for _, r := range all {
			see(r.batch, r.row)
		}
	}
	where = "that waits"
	f.waiting.each(rows)
	for i, from := range slices.Backward(f.inbox) {
		where = fmt.Sprintf("in the inbox (%d, %T)", i, from)
		switch from := from.(type) {
		case *lostParts:
			parts(from.workerFlow)
		case *releasedRows:
			rest := releasedRows{}
			for _, run := range *from {
				rest = append(rest, slices.Clone(run))
			}
			for len(rest) > 0 {
				r := rest[0][0]
				see(r.batch, r.row)
				if rest[0] = rest[0][1:]; len(rest[0]) == 0 {
					heap.Pop(&rest)
				} else {
					heap.Fix(&rest, 0)
				}
			}
		default:
			from.each(func(g segment) { rows(&g) })
		}
	}
	where = "in fresh"
	f.submitted.each(rows)
}
