package flowexec

import (
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
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
func (r *run) identity(s *step, rs *rows.Set, i int) (row uint32, path uint64, visit uint32) {
	if origin := rs.Origins[i]; origin == rows.WholeBatch {
		row = rows.At(rs.Nth, i)
	} else {
		row = uint32(r.place(origin))
	}
	// A function that stands in the flow several times is visited several times on one trip.
	places := r.plan.places[s.Name]
	visit = rows.At(rs.Trips, i) * uint32(len(places))
	for _, place := range places {
		if place < s.Index {
			visit++
		}
	}
	return row, rows.At(rs.Paths, i), visit
}

// pathOfAll is the path of rows that a function makes of the whole batch. It tells them apart from rows that were made when other rows came to
// the same step: by the first row that they were made of.
func (r *run) pathOfAll(rs *rows.Set, born int) uint64 {
	path := rows.Mix(uint64(born), uint64(r.empty))
	if rs.Len() > 0 {
		first := uint64(r.place(rs.Origins[0]))<<32 | uint64(rows.At(rs.Nth, 0))
		path = rows.Mix(rows.Mix(rows.Mix(path, first), rows.At(rs.Paths, 0)), uint64(rows.At(rs.Trips, 0)))
	}
	return path
}
