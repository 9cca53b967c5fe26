package decode

import (
	"encoding/json"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowcopy"
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
	Columns batch.Columns
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

// RunsOwnCode reports whether making rows readable for a step may run code of row types.
func (r *Reader) RunsOwnCode(in *Input, rs *rows.Set) bool {
	switch {
	case in.OwnCode || rs.Vec == nil:
		return in.OwnCode
	case len(in.Must) == 0 && (len(in.Types) == 0 || len(in.Types) == 1 && rows.KindOf(rs.Vec) == in.Kinds[0]):
		return false // the rows are what the step reads
	}
	return r.Types.HasOwnCode(rs.Vec.Type())
}

// Read makes rows readable as each of the types that a step reads. It returns the rows that can be read, and appends their vectors to views, one
// for each type. Rows that can't be read have ended.
func (r *Reader) Read(in *Input, rs *rows.Set, views []kis.Vector) (*rows.Set, []kis.Vector) {
	if rs.Vec == nil {
		rs = r.readEncoded(in, rs)
	}
	if !r.mustWhenRead(in, rs) {
		rs = r.requireFields(in, rs)
	}
	first := len(views)
	for i := 0; i < len(in.Types); i++ {
		view, bad := r.View(in, rs, i)
		if len(bad) > 0 {
			// The rows that are left are read again, as each type.
			rs = r.Memory.Keep(rs, bad)
			r.Host.Rows(rs)
			views, i = views[:first], -1
			continue
		}
		views = append(views, view)
	}
	if in.Changes && rs.Vec != nil {
		r.keepCame(in, rs)
	}
	r.Host.Rows(rs)
	return rs, views
}

// mustCome reports whether rows must be had later as they came to the step: for another attempt, a dead letter, or a goroutine that goes on
// behind one which does not return.
func (r *Reader) mustCome(in *Input) bool { return in.Changes && (in.CalledAgain || r.KeepCame) }

// keepCame copies rows that a function made before the step's function may change them.
func (r *Reader) keepCame(in *Input, rs *rows.Set) {
	if rs.Came == nil && r.mustCome(in) && rowcopy.For(rs.Vec.Type()).Deep() {
		rs.Came = rows.CopyOf(rs.Vec)
	}
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

// source is a row as it came to the flow.
func (r *Reader) source(rs *rows.Set, i int) []byte { return r.Source.Row(rs.Origins[i]) }

// newView is an empty vector for the i-th type that a step reads.
func (r *Reader) newView(in *Input, i int) kis.Vector {
	return r.Memory.Lend(in.Kinds[i], func() kis.Vector { return in.New(i) })
}
