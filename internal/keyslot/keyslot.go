// Package keyslot maps the hashes of shard keys to slots: 65,536 buckets. A coordinator gives each slot to one worker, and that
// worker gives it to one of its lanes. All processes must agree on the mapping, so it is a part of the protocol and never changes.
package keyslot

// Count is the number of slots.
const Count = 1 << 16

// Of returns the slot of a shard key's hash: its lowest 16 bits.
func Of(hash uint64) uint16 { return uint16(hash) }
