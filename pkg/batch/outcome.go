package batch

import "slices"

// Outcome is how a row ended. The numbers are those of the wire.
type Outcome uint8

// The outcomes. Where a row has two, the later one in this list counts.
const (
	// Done: every function that the row was meant for has run.
	Done Outcome = 1 + iota
	// Filtered: a function dropped the row, or passed nothing on for it.
	Filtered
	// Aborted: a function aborted the run that the row was in.
	Aborted
	// Dead: the row itself or a function is at fault. To run the row again would give the same until one of them is mended.
	Dead
	// Failed: the cluster is at fault. It may be unknown which effects took place; the same batch may be submitted again.
	Failed
)

// outcomeNames has the names of the outcomes, by number.
var outcomeNames = [...]string{"", "done", "filtered", "aborted", "dead", "failed"}

// String returns the outcome's name, as metrics, the command line and documents spell it.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) && o != 0 {
		return outcomeNames[o]
	}
	return "unknown"
}

// RowOutcome says how one row ended, for a row whose outcome is not Done.
type RowOutcome struct {
	// Row is the row's place in its batch, from 0.
	Row      uint32
	Outcome  Outcome
	Code     Code
	Function string // the function that the row was in; "" means none
	Reason   string // why the row ended so, in words
	Attempts uint32 // how often the function was tried, the first time included
	// Kept says that a dead row is kept as a dead letter. For a dead row that is not, NotKept says why.
	Kept    bool
	NotKept NotKept
	// Letter is the id of the dead letter that keeps the row, as kisgrid dead list shows it. It is zero if the row is not kept, or if the
	// coordinator's build does not tell the id. If functions made several rows of it that died, it is the first one's letter.
	Letter StreamID
}

// Range is a range of Count consecutive numbers from First on, such as row numbers.
type Range struct{ First, Count uint32 }

// WholeBatch is the origin of an output row that was made of the whole batch instead of a single row.
const WholeBatch = ^uint32(0)

// Output is the rows that a flow's last function passed on.
type Output struct {
	Rows Columns
	// Origins has, for each output row, the place in the batch of the input row that it comes from, or WholeBatch.
	Origins []uint32
}

// Counts has the number of rows by outcome: Counts[Done] and so on.
type Counts [Failed + 1]uint64

// Total returns the number of rows of all outcomes.
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
	// Revision is the number of the flow's revision that the whole batch ran on.
	Revision int64
	// Rows is how many rows the batch had.
	Rows int
	// NotDone lists the rows that are not Done, by row. All other rows are Done.
	NotDone []RowOutcome
	// Output is empty unless it was asked for. Its rows stand in the order of their input rows in the batch; rows that come
	// from one input row stand in the order in which the function passed them on.
	Output Output
}

// Counts returns the number of the batch's rows by outcome.
func (r *Result) Counts() Counts {
	var c Counts
	for i := range r.NotDone {
		c[r.NotDone[i].Outcome]++
	}
	c[Done] = uint64(r.Rows - len(r.NotDone))
	return c
}

// Sort puts NotDone and the output rows into the batch's order. A caller that gathers a Result from several answers calls
// it once, at the end.
func (r *Result) Sort() {
	slices.SortFunc(r.NotDone, func(a, b RowOutcome) int { return int(a.Row) - int(b.Row) })
	r.Output = Merge([]Output{r.Output})
}
