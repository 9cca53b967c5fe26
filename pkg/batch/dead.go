package batch

// DeadRow is a row that died in a function, as it was when it entered that function: what a dead letter keeps. One row of a
// batch may become several, each of which may die.
type DeadRow struct {
	// Row is the input row behind it, as its place in the batch.
	Row uint32
	// Function is where it died, Use which of the function's places in the flow that was, counted from 0.
	Function string
	Use      uint32
	// Path tells apart the rows that came of one input row, 0 for the first; Visit is how often this one had jumped.
	Path     uint64
	Visit    uint32
	Code     Code
	Reason   string
	Attempts uint32
	// Data is the row in Encoding; "" means JSON.
	Encoding string
	Data     []byte
}

// NotKept says why a dead row is not kept as a dead letter. Numbers are those of the wire.
type NotKept uint8

// The reasons.
const (
	// NoStore: nothing is configured that keeps dead letters.
	NoStore NotKept = 1 + iota
	// ReportOnly: whoever submitted the row asked so.
	ReportOnly
	// StoreFull: the flow has as many dead letters as it may.
	StoreFull
	// StoreAway: the store did not answer in time.
	StoreAway
	// KeptOnce: the batch went through the function as a whole, and its letter is that of another of its rows.
	KeptOnce
	// TooLarge: what the row had become is over the limit for a batch.
	TooLarge
	// Unwritable: what the row had become can't be written, as JSON has no word for it.
	Unwritable
	// Held: the function that never returned still has the row.
	Held
	// NothingLeft: there is no row to keep, as each function had run, or as it was none that died.
	NothingLeft
)

var notKept = [...]string{
	"",
	"there is no store for dead letters: --dead-letters of the coordinators names one",
	"it was to be reported only",
	"the flow has as many dead letters as it may: redrive or drop some, or raise --dead-letters-max",
	"the store for dead letters did not answer in time",
	"the whole batch stands behind the row that died, and its letter is that of another row of the batch",
	"what the row had become is over the limit for a batch",
	"what the row had become can't be written as JSON",
	"the function that never returned still has the row",
	"there is no row to keep: each function had run, or no row was in the function",
}

var notKeptNames = [...]string{
	"", "no_store", "report_only", "store_full", "store_away", "kept_once", "too_large", "unwritable", "held", "nothing_left",
}

// Name is the reason in a word, as metrics and JSON have it; empty for a row that is kept.
func (n NotKept) Name() string {
	if int(n) < len(notKeptNames) {
		return notKeptNames[n]
	}
	return "unknown"
}

// String says it in words, and what to do next where something can be done; empty for a row that is kept.
func (n NotKept) String() string {
	if int(n) < len(notKept) {
		return notKept[n]
	}
	return "for a reason that this build has no name for"
}
