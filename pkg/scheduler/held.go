package scheduler

import (
	"time"
)

// heldSlots are the slots of a flow that are held.
type heldSlots struct {
	slots      map[uint16]*heldSlot
	rows       int       // that wait
	expiry     time.Time // no slot's hold ends before; meaningless while none is held
	handedOver []uint16  // held slots of which no row is unanswered any more
}

// heldSlot is a slot that has a new owner while a worker still has rows of it: newer rows wait here.
type heldSlot struct {
	oldOwner  *workerFlow
	open      int         // rows that are not answered
	lists     [][]heldRow // that wait, each run in order
	keepsRows bool        // from goes on with what it has, queued rows included
	until     time.Time   // then rows go to the new owner in any case, unless it stays
	// counts: it stayed from the beginning, so that open counts queued rows, too. Those that stood in a queue that is being
	// routed anew are counted as they come back there, if that began with round, or before; else they have been all the time.
	countsQueued bool
	handOver     uint64 // of the hand-over that made it
}

// end makes the slot one less that its old owner hands over.
func (h *heldSlot) ended() {
	h.oldOwner.handingOver--
	if h.keepsRows {
		h.oldOwner.keeping--
	}
}

type heldRow struct {
	batch  *Batch
	row    uint32
	deaths uint32
}

func (r *heldRow) before(o *heldRow) bool {
	return r.batch.arrival < o.batch.arrival || r.batch == o.batch && r.row < o.row
}

// runLength bounds a run of held rows, so that none grows by being copied as a whole.
const listLength = 4096

// keep makes a row wait.
func (h *heldSlot) keep(all *heldSlots, r heldRow) {
	all.rows++
	if n := len(h.lists); n > 0 {
		if list := h.lists[n-1]; len(list) < listLength && list[len(list)-1].before(&r) {
			h.lists[n-1] = append(list, r)
			return
		}
	}
	h.lists = append(h.lists, []heldRow{r})
}

// add holds a slot that is not held yet.
func (all *heldSlots) add(slot uint16, h *heldSlot) {
	if len(all.slots) == 0 {
		all.slots, all.expiry = map[uint16]*heldSlot{}, h.until
	}
	all.slots[slot] = h
}

// takeHandedOver takes out a slot that is handed over.
func (all *heldSlots) takeHandedOver() (lists [][]heldRow, ok bool) {
	last := len(all.handedOver) - 1
	slot := all.handedOver[last]
	all.handedOver = all.handedOver[:last]
	h := all.slots[slot]
	if h == nil || h.open > 0 { // the old owner was given rows of the slot again, and keeps them
		return nil, false
	}
	h.ended()
	for _, list := range h.lists {
		all.rows -= len(list)
	}
	if delete(all.slots, slot); len(all.slots) == 0 {
		all.slots = nil
	}
	return h.lists, true
}

// dropEnded drops rows of batches that are over.
func (all *heldSlots) dropEnded() {
	for _, h := range all.slots {
		lists := h.lists[:0]
		for _, list := range h.lists {
			kept := list[:0]
			for _, r := range list {
				if !r.batch.over {
					kept = append(kept, r)
				}
			}
			all.rows -= len(list) - len(kept)
			clear(list[len(kept):])
			if len(kept) > 0 {
				lists = append(lists, kept)
			}
		}
		clear(h.lists[len(lists):])
		h.lists = lists
	}
}

// holdBack keeps the segment's rows of held slots, and returns the others.
func (all *heldSlots) holdBack(g segment) segment {
	b := g.batch
	first := -1
	rows := g.rows
	n := g.len()
	at := func(i int) uint32 {
		if rows == nil {
			return uint32(i)
		}
		return rows[i]
	}
	for i := range n {
		if all.slots[b.slot(at(i))] != nil {
			first = i
			break
		}
	}
	if first < 0 {
		return g
	}
	rest := make([]uint32, first, n)
	for i := range first {
		rest[i] = at(i)
	}
	for i := first; i < n; i++ {
		r := at(i)
		if h := all.slots[b.slot(r)]; h != nil {
			h.keep(all, heldRow{b, r, g.deaths})
		} else {
			rest = append(rest, r)
		}
	}
	g.rows = rest
	return g
}

// handedOver counts a row of a slot as answered; the slot may be held.
func (all *heldSlots) countOne(slot uint16) {
	if h := all.slots[slot]; h != nil {
		if h.open--; h.open == 0 {
			all.handedOver = append(all.handedOver, slot)
		}
	}
}
