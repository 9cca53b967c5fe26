package flowexec

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// Part is rows of one batch that Lanes runs. From Enqueue on it belongs to the lanes, until Done has been called for all of its rows.
type Part struct {
	// Plan is the compiled flow that the rows run through.
	Plan *Plan
	// Batch is the batch's id. BatchRows is how many rows the whole batch has.
	Batch     batch.ID
	BatchRows int
	// Floor is the lowest sequence of the batch's stream that may still be submitted again: a store refuses the effects of batches below.
	Floor uint64
	// Log is the log in which the rows stand, whose positions Columns has; nil means in none. The effects of such a row take place once for
	// its position, and not once for its place in the batch.
	Log *batch.Positions
	// Born is when the batch was first submitted, by this process's clock. The zero value means when
	// Enqueue got the part.
	Born time.Time
	// Rows has, for each row, the row's place in the batch. nil means that the part is the whole batch.
	Rows []uint32
	// Columns are the rows, encoded. Their bytes must not change any more. Enqueue takes Columns and Values out of the part, so that the
	// memory of the rows can be freed before the part has ended: rows that park are copied.
	Columns batch.Columns
	// Values are the rows where they come from this process, in place of Columns. A value is JSON as a string or []byte, a struct, or
	// anything else that can be written as JSON. It is not nil then, even if there are no rows: the first function is called all the same.
	Values []any
	// Output says that the caller wants the output: the rows that the last function passes on.
	Output bool
	// Start is the place in the flow of the function that the rows enter first, from 0. The rows are of the type that this function reads.
	Start int
	// KeepDead is how many bytes a dead row may have for RunResult.Dead to have it, as it entered its function. 0 means that the caller wants
	// no dead rows.
	KeepDead int
	// Attempt is how often the rows were sent to a worker, this time included.
	Attempt int
	// OneByOne says that each row with a key is a run of its own, so that it is known which row was running when the process dies.
	OneByOne bool
	// Trace is the span to which the spans of the part's runs belong. The zero value means that the part is not traced.
	Trace trace.SpanContext
	// Deadline is when rows that have not ended fail with DEADLINE. The zero value means never.
	Deadline time.Time
	// Enter is called before rows of the part run, and again before parked rows go on. nil rows means all rows of the part. It may block, which
	// holds up the lane; ctx ends when the lanes are stopped. The lane calls the returned function, unless that is nil, when the rows run no
	// more: they have ended, parked or rest, or their function does not return. Enter may be nil.
	Enter func(ctx context.Context, rows []uint32) (leave func())
	// Grow is called once for a run without keys, when functions have made more than LanesConfig.RunBytes of its rows. It may block, which
	// holds up the lane; ctx ends when the run is to end. Grow may be nil.
	Grow func(ctx context.Context)
	// Piece is called before Done gets a piece of the output of a run without keys. bytes is about the size of the piece; left is how many
	// bytes of the run's output are still to go, this piece included. It may block; no row's timeout goes on meanwhile. ctx ends when the
	// lanes are stopped. Piece may be nil.
	Piece func(ctx context.Context, bytes, left int64)
	// Done gets the results. Each call names rows that have ended together, and each row of the part is named once. Goroutines of the
	// lanes call it, several at the same time. Rows that park end in a later call than the other rows of their run.
	Done func(RunResult)

	// parkedFrom is nil in a part that Enqueue was given. A parcel makes a part of its rows alone: there parkedFrom is the part that Enqueue
	// was given.
	parkedFrom *Part
}

// input is the rows of a part as Enqueue was given them: columns, or values. Works refer to it, and the part does not, so that its memory is
// free after the last run that reads it.
type input struct {
	columns batch.Columns
	values  []any
}

// len returns the number of rows in the input.
func (in *input) len() int {
	if in.values != nil {
		return len(in.values)
	}
	return in.columns.Len()
}

// Len returns the number of rows in the part.
func (p *Part) Len() int {
	if p.Rows != nil {
		return len(p.Rows)
	}
	return p.BatchRows
}

// BatchRow converts a row of the part to its place in the batch.
func (p *Part) BatchRow(row uint32) uint32 { return uint32(p.place(rows.PartRow(row))) }

// place does the same as BatchRow, for typed row numbers.
func (p *Part) place(i rows.PartRow) rows.BatchRow {
	if p.Rows == nil {
		return rows.BatchRow(i)
	}
	return rows.BatchRow(p.Rows[i])
}

// enqueued returns the part that Enqueue was given. A parcel's part is another one, made for its rows; for that, enqueued returns the part
// that the rows came with.
func (p *Part) enqueued() *Part {
	if p.parkedFrom == nil {
		return p
	}
	return p.parkedFrom
}

// takeInput takes Columns and Values out of the part, and returns them.
func (p *Part) takeInput() input {
	in := input{p.Columns, p.Values}
	p.Columns, p.Values = batch.Columns{}, nil
	return in
}

// RunResult is how rows of a part have ended: the rows of one run, or only some of them if the others have parked or the output comes in
// pieces. All row numbers are numbers in the part.
type RunResult struct {
	// Part is the part that Enqueue was given.
	Part *Part
	// Rows are the rows that have ended, ascending; nil means all rows of the part.
	Rows []uint32
	// NotDone has the outcomes of rows that are not done, in the order of the rows.
	NotDone []batch.RowOutcome
	// Dead has the dead rows of NotDone, as they entered their function, if Part.KeepDead asks for them. If a dead row is missing here, its
	// outcome says why.
	Dead []batch.DeadRow
	// Returned are the rows of Rows that have not begun, or were parked, and were given back. They have no outcome, and their attempt does
	// not count.
	Returned []uint32
	// Output has the rows that the last function passed on, if Part.Output is set. Their origins are rows of the part, or batch.WholeBatch.
	Output batch.Output
	// Err is the first error that ended rows: an error that a function returned, or a panic. A run of a part without rows has no NotDone;
	// its failure is here.
	Err error
}
