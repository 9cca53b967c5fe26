package flowexec

import (
	"slices"

	"github.com/kisgrid/kisgrid/internal/keyslot"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// laneOf returns the place of the lane of a key, from 0 to lanes-1. key is the hash of the shard key, lanes
// the number of lanes. Each lane has an equal range of slots.
func laneOf(key uint64, lanes int) int {
	return int(uint64(keyslot.Of(key)) * uint64(lanes) / keyslot.Count)
}

// releaseRequest says which rows one call of Lanes.Release asks for: those of some slots, in some parts.
type releaseRequest struct {
	slots   []batch.Range    // the slots whose rows are asked for; nil means all rows, also those without keys, which have no slot
	belongs func(*Part) bool // reports whether rows of a part are asked for; nil means all parts
}

// includesPart reports whether rows of the part are asked for. The part may be that of a parcel.
func (c releaseRequest) includesPart(p *Part) bool {
	return c.belongs == nil || c.belongs(p.enqueued())
}

// includesKey reports whether the slot of a key is asked for.
func (c releaseRequest) includesKey(key uint64) bool {
	slot := uint32(keyslot.Of(key))
	return c.slots == nil || slices.ContainsFunc(c.slots, func(r batch.Range) bool { return slot >= r.First && slot-r.First < r.Count })
}
