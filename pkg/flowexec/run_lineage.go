package flowexec

import (
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// What a row does is identified for ever by its origin, its path, and the visit that it pays a function. All three follow from
// the row's lineage alone: never from the other rows of its run, so that they are the same however a batch is split, when
// rows are retried, and on every rerun.
//
// A path is the way by which a row came of its origin: at each function that made several rows of one, and on which of the
// row's trips, the how-manieth it was. The first keeps its parent's path. Two rows part where one function made both, so no
// two that come to the same function on the same trip have the same path. It is kept as a hash of 64 bits, which workers of
// all builds must agree on.

// identity is what names row i of rs in a step: the input row as its place in the batch, or where the whole batch stands
// behind it the row's own place, its path, and its visit.
func (r *run) identity(s *step, rs *rowset, i int) (row uint32, path uint64, visit uint32) {
	if row = rs.origin[i]; row == batch.WholeBatch {
		row = at(rs.nth, i)
	} else {
		row = r.place(row)
	}
	// A function that stands in the flow several times is visited several times on one trip.
	places := r.plan.places[s.name]
	visit = at(rs.trip, i) * uint32(len(places))
	for _, place := range places {
		if place < s.index {
			visit++
		}
	}
	return row, at(rs.path, i), visit
}

// paths are those of rows that a step made of the parents named.
func (x *executor) paths(rs *rowset, parents []uint32, step int) []uint64 {
	once := true
	for i := 1; i < len(parents) && once; i++ {
		once = parents[i-1] < parents[i]
	}
	if once {
		return picked(rs.path, parents)
	}
	paths, seen := make([]uint64, len(parents)), x.words.take(rs.len())
	for i, p := range parents {
		paths[i] = fork(at(rs.path, int(p)), step, at(rs.trip, int(p)), seen[p])
		seen[p]++
	}
	return paths
}

// fork is the path of the n-th row that a step made of one.
func fork(path uint64, step int, trip, n uint32) uint64 {
	if n == 0 {
		return path
	}
	return mix(mix(path, uint64(step)<<32|uint64(trip)), uint64(n))
}

// mix takes one more number into a hash.
func mix(hash, n uint64) uint64 {
	hash = (hash ^ n) + 0x9e3779b97f4a7c15
	hash = (hash ^ hash>>30) * 0xbf58476d1ce4e5b9
	hash = (hash ^ hash>>27) * 0x94d049bb133111eb
	return hash ^ hash>>31
}

// orphans are rows behind which the whole batch stands. What tells them apart from others, made when other rows came to the
// same step, is the first row that they were made of.
func (r *run) orphans(rs *rowset, out kis.Vector, born int) *rowset {
	first := mix(uint64(born), uint64(r.empty))
	if rs.len() > 0 {
		first = mix(mix(mix(first, uint64(r.place(rs.origin[0]))<<32|uint64(at(rs.nth, 0))), at(rs.path, 0)), uint64(at(rs.trip, 0)))
	}
	made := &rowset{born: born, vec: out, origin: r.x.words.take(out.Len()), nth: r.x.words.take(out.Len()), path: make([]uint64, out.Len())}
	for i := range made.origin {
		made.origin[i], made.nth[i], made.path[i] = batch.WholeBatch, uint32(i), first
	}
	return made
}
