package flowexec

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"

	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Part is rows of one batch, for Lanes to run. It belongs to the lanes until Done was called for all of its rows.
type Part struct {
	// Plan is what the rows run on.
	Plan *Plan
	// Batch is the batch's id, BatchRows how many rows the whole batch has.
	Batch     batch.ID
	BatchRows int
	// Floor is the lowest sequence of the batch's stream that may still be submitted again: what lies below takes no effect
	// any more. Born is when the batch's producer first submitted it, by this process's clock; zero: when it got here.
	Floor uint64
	Born  time.Time
	// Rows has each row's place in the batch; nil: the part is the whole batch.
	Rows []uint32
	// Columns are the rows. They must not change any more. Enqueue takes them out of the part, as it does Values, so that
	// they can go before the part is done: rows that park are copied.
	Columns batch.Columns
	// Values are the rows where they come from the same process, in place of Columns: JSON as a string or []byte, a struct, or
	// whatever else JSON can hold. Not nil; without any the first function is entered all the same.
	Values []any
	// Output asks for what the last function passes on.
	Output bool
	// Start is the place in the flow of the function that the rows enter first; they are what it reads.
	Start int
	// KeepDead asks for dead rows of at most so many bytes as they entered their function. 0: for none.
	KeepDead int
	// Attempt counts from 1 how often the rows were sent to a worker.
	Attempt int
	// OneByOne: each row is a run of its own, where the flow has a shard key: what a row does to the process is its own fault.
	OneByOne bool
	// Trace is the span that the part belongs to; the zero value for none.
	Trace trace.SpanContext
	// Deadline is when what has not ended is failed with DEADLINE. Zero: never.
	Deadline time.Time
	// Enter is called before rows of the part run, and before parked ones go on; nil rows: all. It may hold the lane up; ctx ends
	// when the lanes are stopped. What it returns is called when those of the rows that have not ended run no more: they are
	// parked, or left behind by a function that does not return. Nil: nobody is asked.
	Enter func(ctx context.Context, rows []uint32) (leave func())
	// Grow is called when functions have made more of the rows of a run without keys than LanesConfig.RunBytes, once a run. It may
	// hold the lane up; ctx is done when the run is to end. Nil: nobody is asked.
	Grow func(ctx context.Context)
	// Piece is called before Done takes a piece of the output of a run without keys, of about so many bytes; left is how many bytes
	// of the run are still to go, the piece among them. It may hold the lane up, at nobody's cost; ctx ends when the lanes are
	// stopped. Nil: nobody is asked.
	Piece func(ctx context.Context, bytes, left int64)
	// Done is called once or more for each run, by goroutines of the lanes, possibly at the same time for several runs: each
	// call names rows that end with it, and each row is named once. Rows that park end in a later call than the others.
	Done func(RunResult)

	parkedFrom *Part // of parked rows: what the lanes were given; nil in that itself
}

// input is the rows of a part as they came: columns, or values. The lanes hold it, not the part, so that it goes with the
// last run that reads it.
type input struct {
	columns batch.Columns
	values  []any
}

// len is how many rows there are.
func (in *input) len() int {
	if in.values != nil {
		return len(in.values)
	}
	return in.columns.Len()
}

// Len is how many rows there are.
func (p *Part) Len() int {
	if p.Rows != nil {
		return len(p.Rows)
	}
	return p.BatchRows
}

// enqueued is the part as the lanes were given it.
func (p *Part) enqueued() *Part {
	if p.parkedFrom == nil {
		return p
	}
	return p.parkedFrom
}

// takeInput takes the rows out of the part.
func (p *Part) takeInput() input {
	in := input{p.Columns, p.Values}
	p.Columns, p.Values = batch.Columns{}, nil
	return in
}

// place is the place in the batch of the part's row i.
func (p *Part) place(i rows.PartRow) rows.BatchRow {
	if p.Rows == nil {
		return rows.BatchRow(i)
	}
	return rows.BatchRow(p.Rows[i])
}

// RunResult is how rows of a part that share a lane ended: all of them, or those that end together. Rows count within the part.
type RunResult struct {
	Part *Part
	// Rows are the rows that ended, ascending; nil: all rows of the part.
	Rows []uint32
	// NotDone are the rows that are not done, in the order of their rows.
	NotDone []batch.RowOutcome
	// Dead are the dead rows of NotDone as they entered their function, where the part asked for them, with rows within the
	// part. Outcomes of dead rows that are not here say why they are not.
	Dead []batch.DeadRow
	// Returned are those of Rows that have not begun, or were parked: no outcome, no attempt counted.
	Returned []uint32
	// Output is what the last function passed on, with origins within the part or batch.WholeBatch.
	Output batch.Output
	// Err is the first error that a function returned, or panicked with, and rows ended for. A run without rows, which has no
	// NotDone, has its failure here.
	Err error
}
