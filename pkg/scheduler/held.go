package scheduler

import (
	"time"
)

// heldSlots are the held slots of a flow, and the rows that wait for them. A slot is held while it has a new owner and the
// old owner still has rows of it: handover.go has the states of a slot.
type heldSlots struct {
	slots      map[uint16]*heldSlot // by slot; nil while none is held
	rows       int                  // number of rows that wait for held slots, in all
	expiry     time.Time            // no hold has to end before this time; meaningless while no slot is held
	handedOver []uint16             // held slots of which the old owner had no open rows when they were added here; they are to be let go
}

// heldSlot is one held slot.
type heldSlot struct {
	oldOwner  *workerFlow
	open      int         // rows of the slot that the old owner has and has not answered
	lists     [][]heldRow // the rows that wait for the slot; the rows of each list are in the order of submission
	keepsRows bool        // the old owner keeps its rows of the slot, queued ones too
	until     time.Time   // when the rows go to the new owner even if the old one still has some, unless keepsRows
	// countsQueued says that the old owner was allowed to keep its rows from the beginning, so that open counts its queued
	// rows, too. Queued rows that are being routed anew are counted when they come back into the queue, if that began with
	// this hand-over or an earlier one. Otherwise they have been counted all the time.
	countsQueued bool
	handOver     uint64 // number of the hand-over in which the slot was held
}

// ended is called when the slot is not held any more. It counts the slot out of its old owner's held slots.
func (h *heldSlot) ended() {
	h.oldOwner.handingOver--
	if h.keepsRows {
		h.oldOwner.keeping--
	}
}

// heldRow is a row that waits for a held slot.
type heldRow struct {
	batch  *Batch
	row    uint32
	deaths uint32 // number of workers' deaths that count against the row
}

// before reports whether r was submitted before o: in an earlier batch, or at a lower place of the same batch.
func (r *heldRow) before(o *heldRow) bool {
	return r.batch.arrival < o.batch.arrival || r.batch == o.batch && r.row < o.row
}

// listLength is the most rows that one list of a heldSlot has, so that an append never copies more rows than that.
const listLength = 4096

// keep adds a row to those that wait for the slot. A row that was submitted before the last one begins another list. all must
// be the heldSlots that the slot belongs to; it counts the row.
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

// add begins to hold a slot, so that newer rows of it wait. The slot must not be held yet.
func (all *heldSlots) add(slot uint16, h *heldSlot) {
	if len(all.slots) == 0 {
		all.slots, all.expiry = map[uint16]*heldSlot{}, h.until
	}
	all.slots[slot] = h
}

// takeHandedOver takes the last slot out of handedOver, ends its hold, and returns the rows that waited for it. ok is false if
// the slot is not held any more, or stays held because its old owner got rows of it again in the meantime.
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

// dropEnded drops those of the rows waiting for held slots whose batches are over. The slots stay held.
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

// holdBack adds the segment's rows of held slots to the rows that wait for these slots, and returns a segment of the other
// rows, which may be none.
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

// countOne counts down by one the rows that the old owner of a held slot has not answered. When none is left, the slot
// counts as handed over. countOne does nothing where the slot is not held.
func (all *heldSlots) countOne(slot uint16) {
	if h := all.slots[slot]; h != nil {
		if h.open--; h.open == 0 {
			all.handedOver = append(all.handedOver, slot)
		}
	}
}
