package scheduler

import (
	"math"
	"math/bits"
	"slices"

	"github.com/kisgrid/kisgrid/internal/keyslot"
)

// placement decides which worker owns which slot, for all flows. A worker has a seat while it is known: a small number by
// which tables and flows refer to it. Flows whose ready workers are the same share one table, so the cost of a worker that joins or
// leaves hardly depends on the number of flows.
type placement struct {
	seats  []*worker // by seat, the worker that has it; nil means that the seat is free
	hashes []uint64  // by seat, the hash of the worker's name
	tables []*table  // the tables that at least one flow uses
}

// table says which of its members owns each slot. It does not change once it is made.
type table struct {
	members seats                 // seats of the workers that share the slots
	count   int                   // number of members
	owner   [keyslot.Count]uint16 // by slot, the seat of its owner
	users   int                   // number of flows that use the table
	// lastChange is the last change that was worked out from this table; nil once a seat may have another worker.
	lastChange *tableChange
}

// tableChange says which slots move when one worker joins the members of a table, or leaves them.
type tableChange struct {
	seat   uint16   // seat of the worker that joins or leaves
	to     *table   // the table after the change
	slots  slotSet  // the slots that have another owner in to
	losers []uint16 // seats of the workers that lose slots
}

// seats is a set of seats, one bit for each. It has no zeros at its end, so equal sets are equal slices.
type seats []uint64

// has reports whether a seat is in the set.
func (s seats) has(seat uint16) bool {
	return int(seat/64) < len(s) && s[seat/64]&(1<<(seat%64)) != 0
}

// toggled returns a new set: the set without the seat if the seat is in it, and otherwise with it.
func (s seats) toggled(seat uint16) seats {
	n := make(seats, max(len(s), int(seat/64)+1))
	copy(n, s)
	n[seat/64] ^= 1 << (seat % 64)
	for len(n) > 0 && n[len(n)-1] == 0 {
		n = n[:len(n)-1]
	}
	return n
}

// list returns the seats of the set, ascending.
func (s seats) list() []uint16 {
	var all []uint16
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			all = append(all, uint16(i*64+bits.TrailingZeros64(word)))
		}
	}
	return all
}

// takeSeat gives a worker the lowest free seat, which is the number by which tables refer to it.
func (p *placement) takeSeat(w *worker) {
	seat := slices.Index(p.seats, nil)
	if seat < 0 {
		seat = len(p.seats)
		p.seats, p.hashes = append(p.seats, nil), append(p.hashes, 0)
	}
	w.seat = uint16(seat)
	p.seats[seat], p.hashes[seat] = w, w.hash
}

// freeSeat frees the seat of a worker, so that another worker can take it. No flow may use the worker any more.
func (p *placement) freeSeat(w *worker) {
	p.seats[w.seat] = nil
	for _, t := range p.tables {
		t.lastChange = nil
	}
}

// setTable makes a flow use the table t instead of the one that it used before; nil means that no worker is ready for the
// flow.
func (p *placement) setTable(f *flow, t *table) {
	if t != nil {
		if t.users == 0 {
			p.tables = append(p.tables, t)
		}
		t.users++
	}
	if old := f.table; old != nil {
		if old.users--; old.users == 0 {
			p.tables = slices.DeleteFunc(p.tables, func(t *table) bool { return t == old })
		}
	}
	f.table = t
}

// tableOf returns the table in use that has these members; nil means none.
func (p *placement) tableOf(members seats) *table {
	for _, t := range p.tables {
		if slices.Equal(t.members, members) {
			return t
		}
	}
	return nil
}

// changeOf works out which slots move when the worker on a seat joins the members of a table, or leaves them if it is one
// of them. The worker that leaves must not be the only member. Several flows often have the same change one after the
// other, so each table keeps its last one.
func (p *placement) changeOf(from *table, seat uint16) *tableChange {
	if last := from.lastChange; last != nil && last.seat == seat && last.to.users > 0 {
		return last
	}
	comes := !from.members.has(seat)
	change := &tableChange{seat: seat}
	members := from.members.toggled(seat)
	if change.to = p.tableOf(members); change.to == nil {
		change.to = p.derive(from, members, seat, comes)
	}
	lost := make([]bool, len(p.seats))
	for slot, owner := range &from.owner {
		if change.to.owner[slot] != owner {
			change.slots.add(uint16(slot))
			lost[owner] = true
		}
	}
	for loser, l := range lost {
		if l {
			change.losers = append(change.losers, uint16(loser))
		}
	}
	from.lastChange = change
	return change
}

// derive makes the table of members out of the table from. If comes is true, the worker on seat is the only member that from
// lacks; otherwise it is the only member of from that the new table lacks.
func (p *placement) derive(from *table, members seats, seat uint16, comes bool) *table {
	t := &table{members: members, owner: from.owner}
	if comes {
		t.count = from.count + 1
		hash := p.hashes[seat]
		for slot, owner := range &t.owner {
			// Most lose, which needs no call to see.
			if score(hash, uint16(slot)) >= score(p.hashes[owner], uint16(slot)) && p.beats(seat, owner, uint16(slot)) {
				t.owner[slot] = seat
			}
		}
		return t
	}
	t.count = from.count - 1
	left := members.list()
	for slot, owner := range &t.owner {
		if owner == seat {
			best := left[0]
			for _, other := range left[1:] {
				if p.beats(other, best, uint16(slot)) {
					best = other
				}
			}
			t.owner[slot] = best
		}
	}
	return t
}

// tableOfOne returns the table in which the worker on seat owns all slots.
func (p *placement) tableOfOne(seat uint16) *table {
	members := seats(nil).toggled(seat)
	t := p.tableOf(members)
	if t == nil {
		t = &table{members: members, count: 1}
		for slot := range t.owner {
			t.owner[slot] = seat
		}
	}
	return t
}

// score returns the weight of a worker for a slot. The ready worker with the greatest weight owns the slot (rendezvous
// hashing, Thaler and Ravishankar, 1998), so a worker that joins or leaves moves no slots but its own. The hash is of the
// worker's name, not of its id: a worker that comes back under its name gets its slots back.
func score(hash uint64, slot uint16) uint64 {
	hi, lo := bits.Mul64(hash^(uint64(slot)+1)*0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	return hi ^ lo
}

// beats reports whether the worker on seat a weighs more for a slot than the one on seat b. If the weights are equal, the
// greater id wins.
func (p *placement) beats(a, b, slot uint16) bool {
	x, y := score(p.hashes[a], slot), score(p.hashes[b], slot)
	return x > y || x == y && p.seats[a].id > p.seats[b].id
}

// hashName returns a hash of a worker's name: FNV-1a, and a last step that mixes it, since names often differ in one digit
// only.
func hashName(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	return h ^ h>>29
}

// notReady is the load in flow.loads of a worker that is not ready for the flow. It is greater than every real load.
const notReady = math.MaxInt64

// slotSet is a set of slots.
type slotSet [keyslot.Count / 64]uint64

// add adds a slot to the set.
func (s *slotSet) add(slot uint16) { s[slot/64] |= 1 << (slot % 64) }

// allSlots is the set of all slots. Nobody may write to it.
var allSlots = func() (all slotSet) {
	for i := range all {
		all[i] = ^uint64(0)
	}
	return all
}()
