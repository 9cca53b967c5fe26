package rows

// Each effect of a row has a name that never changes: it follows from the row's origin, its path, and the visit that it pays a function. All
// three follow from the row's own lineage, never from the other rows of its run. So the name is the same however a batch is split, when rows
// are retried, and on every rerun; and an effect that took place is known by it.
//
// A path is the way by which a row came of its origin: at each function that made several rows of one, and on which of the row's trips, its
// number among these. The first one keeps its parent's path. Two rows part where one function made both, so no two rows that come to
// the same function on the same trip have the same path. A path is kept as a hash of 64 bits, on which workers of all builds must agree.

// paths returns the paths of the rows that a step made of the rows of s: row i was made of row parents[i] of s. A nil list means that all
// paths are 0.
func (m *Memory) paths(s *Set, parents []uint32, step int) []uint64 {
	once := true
	for i := 1; i < len(parents) && once; i++ {
		once = parents[i-1] < parents[i]
	}
	if once {
		return Pick(s.Paths, parents)
	}
	paths, seen := make([]uint64, len(parents)), m.numbers.take(s.Len())
	for i, p := range parents {
		paths[i] = fork(At(s.Paths, int(p)), step, At(s.Trips, int(p)), seen[p])
		seen[p]++
	}
	return paths
}

// fork returns the path of the n-th row, from 0, that a step made of one row. path is the path of that row, trip the number of times that it
// has jumped.
func fork(path uint64, step int, trip, n uint32) uint64 {
	if n == 0 {
		return path
	}
	return Mix(Mix(path, uint64(step)<<32|uint64(trip)), uint64(n))
}

// Mix returns a hash of hash and one more number n. It is the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom
// Number Generators, 2014).
func Mix(hash, n uint64) uint64 {
	hash = (hash ^ n) + 0x9e3779b97f4a7c15
	hash = (hash ^ hash>>30) * 0xbf58476d1ce4e5b9
	hash = (hash ^ hash>>27) * 0x94d049bb133111eb
	return hash ^ hash>>31
}
