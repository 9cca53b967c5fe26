package decode

import (
	"encoding/json"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Host is the run that a Reader works for. It watches over the code of row types.
type Host interface {
	// Watched reports whether the code that runs now is watched: then At is to be called before each row.
	Watched() bool
	// At is told which row's type is asked next. It returns false if no further row is to be read, because the run is over.
	At(row int) bool
	// AtAll is told that a type is asked to read all rows at once. It returns false if rows are to be read one by one.
	AtAll() bool
	// Rows is told in which rows At counts from now on.
	Rows(rs *rows.Set)
	// End ends row i of rs in the step that reads it.
	End(rs *rows.Set, i uint32, o batch.RowOutcome)
}

// Source is the rows of a run as they came.
type Source struct {
	// Columns are the rows of the part, encoded. Values are these rows where they come from the same process, in place of Columns; nil
	// means that they do not.
	Columns *batch.Columns
	Values  []any
	// Rows has for each row of the run its place in the part. Nil means that they are the same.
	Rows []rows.PartRow
}

// Row is an encoded row as it came.
func (s *Source) Row(origin rows.RunRow) []byte {
	if s.Rows != nil {
		return s.Columns.Row(int(s.Rows[origin]))
	}
	return s.Columns.Row(int(origin))
}

// Reader makes the rows of a run readable. It belongs to the goroutine of the run, and is used again for the next one.
type Reader struct {
	Types  *Types
	Memory *rows.Memory
	Host   Host
	Source Source
	// Flow is the flow's name, for messages.
	Flow string
	// Start is the step at which the run began.
	Start int
	// KeepCame means that rows must be had later as they came to their step, for a dead letter or another goroutine.
	KeepCame bool
}

// Raw is rows as they came to a step, as values: encoded rows as strings.
func (r *Reader) Raw(rs *rows.Set) []any {
	raw := make([]any, rs.Len())
	for i := range raw {
		if rs.Vec != nil {
			raw[i] = rs.Vec.At(i)
		} else {
			raw[i] = string(r.source(rs, i))
		}
	}
	return raw
}

// newView is an empty vector for the i-th type that a step reads.
func (r *Reader) newView(in *Input, i int) kis.Vector {
	return r.Memory.Lend(in.Kinds[i], func() kis.Vector { return in.New(i) })
}

// ownRaw gives a function raw rows of its own if they must be had later as they came: what it changes in them it would change in the part.
func (r *Reader) ownRaw(in *Input, view kis.Vector) {
	if !r.mustCome(in) || elem(view.Type()) != rawType {
		return
	}
	for i := range view.Len() {
		row, ok := view.At(i).(*json.RawMessage)
		if !ok {
			row = &rawRows(view)[i]
		}
		*row = slices.Clone(*row)
	}
}

// mustCome reports whether rows must be had later as they came to the step: for another attempt, a dead letter, or a goroutine that goes on
// behind one which does not return.
func (r *Reader) mustCome(in *Input) bool { return in.Changes && (in.CalledAgain || r.KeepCame) }

// source is a row as it came to the flow.
func (r *Reader) source(rs *rows.Set, i int) []byte { return r.Source.Row(rs.Origins[i]) }
