package decode

import (
	"encoding/json"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Host is the part of a run that a Reader calls back: it watches the time that code of row types takes, and takes the outcomes of rows that
// can't be read.
type Host interface {
	// Watched reports whether the Host watches the code that runs now. If so, the Reader calls At before each row.
	Watched() bool
	// At is called before code of the type of a row may run; row is its place in the Set that Rows named last. It returns false if no further row
	// is to be read, because the run is over.
	At(row int) bool
	// AtAll is called before code of a type reads all rows at once. It returns false if rows are to be read one by one.
	AtAll() bool
	// Rows tells the Host of which Set the rows are that later calls of At name.
	Rows(rs *rows.Set)
	// End ends row i of rs, in the step that reads it, with the outcome o.
	End(rs *rows.Set, i uint32, o batch.RowOutcome)
}

// Source has the rows of a run as they came to the worker, or as the program gave them to package flowexec.
type Source struct {
	// Columns are the rows of the part, encoded. Values are these rows as Go values, if the same process gave them; nil means that the rows are in
	// Columns.
	Columns *batch.Columns
	Values  []any
	// Rows has for each row of the run its place in the part. nil means that row i of the run is row i of the part.
	Rows []rows.PartRow
}

// Row returns an encoded row of the run as it came. The slice belongs to Columns. origin is the place of the row in the run.
func (s *Source) Row(origin rows.RunRow) []byte {
	if s.Rows != nil {
		return s.Columns.Row(int(s.Rows[origin]))
	}
	return s.Columns.Row(int(origin))
}

// Reader makes the rows of a run readable for the functions of the flow. It belongs to the goroutine of the run, and is used again for the next
// run.
type Reader struct {
	Types  *Types
	Memory *rows.Memory
	Host   Host
	Source Source
	// Flow is the flow's name, for messages.
	Flow string
	// Start is the step at which the run began.
	Start int
	// KeepCame means that the run may need rows later as they came to their step, for a dead letter or another goroutine.
	KeepCame bool
}

// Raw returns rows as Go values, as they are before their step reads them; rows that are still encoded become strings. FaaS functions get them
// from Flow.Input.
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

// newView lends an empty vector for the i-th type that a step reads, until the end of the run.
func (r *Reader) newView(in *Input, i int) kis.Vector {
	return r.Memory.Lend(in.Kinds[i], func() kis.Vector { return in.New(i) })
}

// ownRaw replaces the rows of a view of json.RawMessage by copies, if the rows must be had later as they came (mustCome): the bytes lie in the
// memory of the part, and the function might change them there.
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

// mustCome reports whether the run may need rows later as they came to this step, although the step's function may change them: for another
// attempt, a dead letter, or a goroutine that goes on in place of one whose function does not return.
func (r *Reader) mustCome(in *Input) bool { return in.Changes && (in.CalledAgain || r.KeepCame) }

// source returns the encoded input row that row i of rs comes from, as it came to the flow.
func (r *Reader) source(rs *rows.Set, i int) []byte { return r.Source.Row(rs.Origins[i]) }
