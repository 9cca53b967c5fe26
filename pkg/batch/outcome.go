package batch

import "slices"

// Outcome is how a row ended. Numbers are those of the wire.
type Outcome uint8

// The outcomes, in the order in which the worse of two wins.
const (
	// Done: every function that wanted the row has seen it.
	Done Outcome = 1 + iota
	// Filtered: a function dropped it.
	Filtered
	// Aborted: a function aborted its run.
	Aborted
	// Dead: the row's own fault; running it again gives the same.
	Dead
	// Failed: the cluster's fault; effects may be unknown, the same batch may be submitted again.
	Failed
)

var outcomeNames = [...]string{"", "done", "filtered", "aborted", "dead", "failed"}

// String is the outcome's name, as metrics, the command line and documents spell it.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) && o != 0 {
		return outcomeNames[o]
	}
	return "unknown"
}

// RowOutcome says how a row that is not done ended.
type RowOutcome struct {
	// Row is the row's place in its batch, from 0.
	Row      uint32
	Outcome  Outcome
	Code     Code
	Function string // the function that the row was in; empty for none
	Reason   string
	Attempts uint32 // how often the function was tried, the first time included
	// Kept: a dead row that is kept as a dead letter. Else NotKept says why it is not, for dead rows only.
	Kept    bool
	NotKept NotKept
}

// Range is Count consecutive rows from First.
type Range struct{ First, Count uint32 }

// WholeBatch is the origin of an output row behind which the whole batch stands.
const WholeBatch = ^uint32(0)

// Output is what a flow's last function passed on.
type Output struct {
	Rows Columns
	// Origins names for each output row the input row that it comes from, or WholeBatch.
	Origins []uint32
}

// Counts are rows by outcome: Counts[Done] and so on.
type Counts [Failed + 1]uint64

// Total is the rows of all outcomes.
func (c *Counts) Total() uint64 {
	var n uint64
	for _, v := range c {
		n += v
	}
	return n
}

// Result says how each row of a batch ended.
type Result struct {
	BatchID ID
	// Revision of the flow that the whole batch ran on.
	Revision int64
	// Rows is how many rows the batch had.
	Rows int
	// NotDone lists the rows that are not done, by row. All others are.
	NotDone []RowOutcome
	// Output is there when it was asked for. Rows that come from one input row stand in the order in which its function
	// passed them on; input rows stand in the batch's order.
	Output Output
}

// Counts counts the batch's rows by outcome.
func (r *Result) Counts() Counts {
	var c Counts
	for i := range r.NotDone {
		c[r.NotDone[i].Outcome]++
	}
	c[Done] = uint64(r.Rows - len(r.NotDone))
	return c
}

// Sort puts NotDone and the output rows into the batch's order. Whoever gathers a Result from several answers calls it once.
func (r *Result) Sort() {
	slices.SortFunc(r.NotDone, func(a, b RowOutcome) int { return int(a.Row) - int(b.Row) })
	r.Output = Merge([]Output{r.Output})
}
