package kis

import "fmt"

// Signal is the error behind Drop, Abort and Jump: it says what becomes of a row, and is never a failure.
type Signal struct {
	Kind   SignalKind
	Reason string // of Drop and Abort
	Target string // the function that Jump goes to
}

// SignalKind is what a Signal asks for.
type SignalKind uint8

// The kinds of signals.
const (
	SignalDrop SignalKind = 1 + iota
	SignalAbort
	SignalJump
)

// Error makes Signal an error.
func (s *Signal) Error() string {
	switch s.Kind {
	case SignalDrop:
		return "drop: " + s.Reason
	case SignalAbort:
		return "abort: " + s.Reason
	default:
		return "jump to " + s.Target
	}
}

// Drop ends the row as filtered, with a reason in the manner of fmt.Sprintf: no retry, no dead letter. In Batch and FaaS it
// ends all rows of the call.
func Drop(format string, args ...any) error {
	return &Signal{Kind: SignalDrop, Reason: fmt.Sprintf(format, args...)}
}

// Abort ends all rows of the batch that are still under way as aborted: none goes further than this function. It needs a
// flow without shard_key, whose batches are not split; in a flow with one the row that says it, or in Batch and FaaS the
// rows of the call, are dead with NEEDS_WHOLE_BATCH.
func Abort(format string, args ...any) error {
	return &Signal{Kind: SignalAbort, Reason: fmt.Sprintf(format, args...)}
}

// Jump sends the row (in Batch and FaaS all rows of the call) to the function of that name in the same flow. Back, or to
// the function itself, the row enters it as it did before; forward, as it entered the function that jumps. A row that
// jumps too often is dead with STEP_LIMIT.
func Jump(function string) error {
	return &Signal{Kind: SignalJump, Target: function}
}
