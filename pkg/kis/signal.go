package kis

import "fmt"

// Signal is the error that Drop, Abort and Jump return. It says how a row goes on, and does not count as a failure: the function
// is not tried again.
type Signal struct {
	Kind   SignalKind
	Reason string // for Drop and Abort
	Target string // for Jump: the function to go to
}

// SignalKind says which function made a Signal: Drop, Abort or Jump.
type SignalKind uint8

// The kinds of signals: those that Drop, Abort and Jump make.
const (
	SignalDrop SignalKind = 1 + iota
	SignalAbort
	SignalJump
)

// Error returns the kind of the signal and its reason or target, such as "drop: too old".
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

// Drop returns an error that ends the row as filtered, without retry and without dead letter. The reason is formatted as by
// fmt.Sprintf; the client sees it. In Batch and FaaS functions it ends all rows of the call.
func Drop(format string, args ...any) error {
	return &Signal{Kind: SignalDrop, Reason: fmt.Sprintf(format, args...)}
}

// Abort returns an error that ends all rows of the batch that are still under way, as aborted: none goes further than this
// function. The reason is formatted as by fmt.Sprintf.
//
// Abort needs a flow without shard_key, because only there a batch stays together. In a flow with a shard_key the row that
// returns it (in Batch and FaaS functions all rows of the call) is dead with NEEDS_WHOLE_BATCH.
func Abort(format string, args ...any) error {
	return &Signal{Kind: SignalAbort, Reason: fmt.Sprintf(format, args...)}
}

// Jump returns an error that sends the row to another function of the same flow; in Batch and FaaS functions it sends all rows of
// the call. If that function comes earlier in the flow, or is the function that jumps, the row enters it with the same content as
// the first time. If it comes later, it gets the row that the function which jumps was given. A row that jumps too often is dead
// with STEP_LIMIT.
func Jump(function string) error {
	return &Signal{Kind: SignalJump, Target: function}
}
