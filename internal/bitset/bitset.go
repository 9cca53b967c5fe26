// Package bitset holds a set of small numbers, such as the rows of a part, in one bit for each number.
package bitset

// Set is a set of small numbers, from 0 up to the size that New was given. A nil Set has room for no number. Methods panic for
// a number that is beyond the size, rounded up to a multiple of 64. A Set is not safe for concurrent use.
type Set []uint64

// New makes an empty set with room for the numbers 0 to size-1. The size is rounded up to a multiple of 64.
func New(size int) Set { return make(Set, (size+63)/64) }

// Has reports whether n is in the set.
func (s Set) Has(n uint32) bool { return s[n/64]&(1<<(n%64)) != 0 }

// Add puts n into the set, and reports whether it was not in it before.
func (s Set) Add(n uint32) bool {
	word, bit := &s[n/64], uint64(1)<<(n%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

// Remove takes n out of the set. It does nothing where n is not in the set.
func (s Set) Remove(n uint32) { s[n/64] &^= 1 << (n % 64) }

// HasAnyNear reports whether the set has any number of the 64 that share a word of memory with n: those from n&^63 to n|63. So
// a loop over a sparse set can skip 64 numbers at a time.
func (s Set) HasAnyNear(n uint32) bool { return s[n/64] != 0 }
