package flowexec

import (
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// identity returns the name of row i of rs in a step. The name is the same whenever the batch runs (see rows/path.go). row is its input row, as a
// place in the batch, or the row's own number if it was made of the whole batch; path is its path; visit is how often the row has come to this
// function before.
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

// place returns the place in the batch of an input row of the run. rows.WholeBatch stays as it is.
func (r *run) place(origin rows.RunRow) rows.BatchRow {
	if origin == rows.WholeBatch {
		return rows.BatchRow(origin)
	}
	return r.part.place(r.work.row(origin))
}

// pathOfAll returns the path of rows that a function makes of all rows of rs at once; born is the step behind the function. The first row of rs
// goes into the path, because the function may be called again for other rows that come to the same step.
func (r *run) pathOfAll(rs *rows.Set, born int) uint64 {
	path := rows.Mix(uint64(born), uint64(r.jumpsWithout))
	if rs.Len() > 0 {
		first := uint64(r.place(rs.Origins[0]))<<32 | uint64(rows.At(rs.Nth, 0))
		path = rows.Mix(rows.Mix(rows.Mix(path, first), rows.At(rs.Paths, 0)), uint64(rows.At(rs.Trips, 0)))
	}
	return path
}

// rowID returns the name of row i of rs in a step, as functions see it: by the position of its input row, if that stands in a log.
func (r *run) rowID(s *step, rs *rows.Set, i int) batch.RowID {
	id := batch.RowID{Batch: r.part.Batch}
	if at, ok := r.position(rs, i); ok {
		id = r.part.Log.Log.RowID(at)
		_, id.Output, id.Visit = r.identity(s, rs, i)
		return id
	}
	id.Row, id.Output, id.Visit = r.identity(s, rs, i)
	return id
}

// position returns the position in the log of the input row that row i of rs comes from. ok is false if the rows stand in no log. A run of
// rows with positions has no rows that were made of the whole batch.
func (r *run) position(rs *rows.Set, i int) (at uint64, ok bool) {
	if r.part.Log == nil || rs.Origins[i] == rows.WholeBatch {
		return 0, false
	}
	return r.work.in.columns.Positions[r.work.row(rs.Origins[i])], true
}
