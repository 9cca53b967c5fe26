package batch

// DeadRow is a row that died in a function, as it was when it entered the function: the content of a dead letter. One row
// of a batch may have become several rows, each of which may die.
type DeadRow struct {
	// Row is the place in the batch of the input row that this row is or comes from.
	Row uint32
	// Function is where the row died. A flow may use the function at several places: Use says at which one, counted from 0.
	Function string
	Use      uint32
	// Path tells the rows apart that came from one input row; it is 0 for the first. Visit is how often this row had
	// jumped.
	Path     uint64
	Visit    uint32
	Code     Code
	Reason   string
	Attempts uint32
	Encoding string // Data is the row, and Encoding says how it is encoded; "" means JSON.
	Data     []byte
}

// NotKept says why a dead row is not kept as a dead letter. The numbers are those of the wire.
type NotKept uint8

// The reasons why a dead row is not kept.
const (
	// NoStore: no store for dead letters is configured.
	NoStore NotKept = 1 + iota
	// ReportOnly: the submission of the row asked for a report only.
	ReportOnly
	// StoreFull: the flow has as many dead letters as it may have.
	StoreFull
	// StoreAway: the store did not answer in time.
	StoreAway
	// KeptOnce: the batch went through the function as a whole, and the dead letter of another of its rows stands for all.
	KeptOnce
	// TooLarge: the row had become larger than a batch may be.
	TooLarge
	// Unwritable: the value that the row had become can't be written as JSON.
	Unwritable
	// Held: a function that never returned still has the row.
	Held
	// NothingLeft: there is no row to keep, because every function had run, or because no row was in the function.
	NothingLeft
)

// notKept has the texts of the reasons, by number.
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

// notKeptNames has the names of the reasons, by number.
var notKeptNames = [...]string{
	"", "no_store", "report_only", "store_full", "store_away", "kept_once", "too_large", "unwritable", "held", "nothing_left",
}

// Name returns the reason in one word, as metrics and JSON have it; "" for a row that is kept.
func (n NotKept) Name() string {
	if int(n) < len(notKeptNames) {
		return notKeptNames[n]
	}
	return "unknown"
}

// String returns the reason as a sentence, with what to do next where something can be done; "" for a row that is kept.
func (n NotKept) String() string {
	if int(n) < len(notKept) {
		return notKept[n]
	}
	return "for a reason that this build has no name for"
}
