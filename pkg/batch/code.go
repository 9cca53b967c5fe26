package batch

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Code says why a row or a call ended as it did. Numbers and names are stable and are those of the wire.
type Code uint16

// Codes of rows.
const (
	CodeRowUndecodable   Code = 1  // the row is not what its encoding or the function's type asks for
	CodeMissingShardKey  Code = 2  // the field that decides where the row goes is null, missing or not a scalar
	CodeRowTooLarge      Code = 3  // the row is over the limit for a row
	CodeFunctionError    Code = 4  // the function returned an error, on every try
	CodeFunctionPanic    Code = 5  // the function panicked, on every try
	CodeFunctionTimeout  Code = 6  // the function did not return in its time
	CodeRowTimeout       Code = 7  // the row, once begun, took longer than the flow's timeout
	CodeLoadTimeout      Code = 8  // the key that a Load waits for was not saved in time
	CodeLoadMissing      Code = 9  // the key is not there, and on_missing is dead
	CodeConversionFailed Code = 10 // the row does not fit the next function's type
	CodeRowUnencodable   Code = 11 // the output row can't be encoded
	CodeSaveFailed       Code = 12 // the connector refused the row's effect
	CodeLineageLost      Code = 13 // nobody can say which input row an output comes from
	CodeNeedsWholeBatch  Code = 14 // an action on the whole run, in a flow whose batches are split
	CodeStepLimit        Code = 15 // jumps went round too often
	CodePoison           Code = 16 // three workers died running it
	CodeDropped          Code = 17 // a function dropped it
	CodeNotCommitted     Code = 18 // a function passed nothing on for it
	CodeAborted          Code = 19 // a function aborted its run
	CodeMissingField     Code = 20 // a field that the function's source names as a must is missing
)

// Codes of batches and calls.
const (
	CodeInternal             Code = 64 // a defect of KisGrid
	CodeUnknownFlow          Code = 65 // no such flow
	CodeFlowDisabled         Code = 66 // the flow's status is 0
	CodeNoCapableWorker      Code = 67 // no live worker has all of the flow's functions
	CodeDeadline             Code = 68 // the caller's deadline passed
	CodeShutdown             Code = 69 // the process is shutting down
	CodeOverloaded           Code = 70 // a budget is used up: try again later
	CodeUnavailable          Code = 71 // something that the call needs is away: try again
	CodeEmptyBatch           Code = 72 // a batch without rows
	CodeBadColumns           Code = 73 // columns that don't fit together
	CodeBatchTooLarge        Code = 74 // over the limit of bytes
	CodeTooManyRows          Code = 75 // over the limit of rows
	CodeMissingKeys          Code = 76 // the encoding needs the client to fill in the keys
	CodeBadBatchID           Code = 77 // a malformed stream id or sequence
	CodeBatchIDReused        Code = 78 // the id was used before with other bytes
	CodeRevisionGone         Code = 79 // the revision that the batch first ran on is no longer kept
	CodeProtocolMismatch     Code = 80 // the two sides share no protocol version
	CodeBadMessage           Code = 81 // a message that the protocol does not allow here
	CodeCancelled            Code = 82 // the caller gave up
	CodeConnectorUnavailable Code = 83 // the connector's store is away
	CodeRevisionChanged      Code = 84 // a new batch names a revision that is not the active one
	CodeBatchTooOld          Code = 85 // nobody knows any more which effects of so old a batch took place
	CodeBatchGivenUp         Code = 86 // the batch lies below its stream's floor: its producer is through with it
)

// Codes of definitions.
const (
	CodeBadDocument      Code = 128 // a document that does not parse or check
	CodeUnknownFunction  Code = 129 // a flow names a function that nobody has
	CodeUnknownConnector Code = 130 // a function names a connector without a document
	CodeFlowUncompilable Code = 131 // the documents don't fit the registered functions
	CodeNotFound         Code = 132 // no such document
	CodeConflict         Code = 133 // somebody else changed it meanwhile
)

var codeNames = map[Code]string{
	CodeRowUndecodable: "ROW_UNDECODABLE", CodeMissingShardKey: "MISSING_SHARD_KEY", CodeRowTooLarge: "ROW_TOO_LARGE",
	CodeFunctionError: "FUNCTION_ERROR", CodeFunctionPanic: "FUNCTION_PANIC", CodeFunctionTimeout: "FUNCTION_TIMEOUT",
	CodeRowTimeout: "ROW_TIMEOUT", CodeLoadTimeout: "LOAD_TIMEOUT", CodeLoadMissing: "LOAD_MISSING",
	CodeConversionFailed: "CONVERSION_FAILED", CodeRowUnencodable: "ROW_UNENCODABLE", CodeSaveFailed: "SAVE_FAILED",
	CodeLineageLost: "LINEAGE_LOST", CodeNeedsWholeBatch: "NEEDS_WHOLE_BATCH", CodeStepLimit: "STEP_LIMIT",
	CodePoison: "POISON", CodeDropped: "DROPPED", CodeNotCommitted: "NOT_COMMITTED", CodeAborted: "ABORTED",
	CodeMissingField: "MISSING_FIELD",
	CodeInternal:     "INTERNAL", CodeUnknownFlow: "UNKNOWN_FLOW", CodeFlowDisabled: "FLOW_DISABLED",
	CodeNoCapableWorker: "NO_CAPABLE_WORKER", CodeDeadline: "DEADLINE", CodeShutdown: "SHUTDOWN",
	CodeOverloaded: "OVERLOADED", CodeUnavailable: "UNAVAILABLE", CodeEmptyBatch: "EMPTY_BATCH",
	CodeBadColumns: "BAD_COLUMNS", CodeBatchTooLarge: "BATCH_TOO_LARGE", CodeTooManyRows: "TOO_MANY_ROWS",
	CodeMissingKeys: "MISSING_KEYS", CodeBadBatchID: "BAD_BATCH_ID", CodeBatchIDReused: "BATCH_ID_REUSED",
	CodeRevisionGone: "REVISION_GONE", CodeProtocolMismatch: "PROTOCOL_MISMATCH", CodeBadMessage: "BAD_MESSAGE",
	CodeCancelled: "CANCELLED", CodeConnectorUnavailable: "CONNECTOR_UNAVAILABLE",
	CodeRevisionChanged: "REVISION_CHANGED", CodeBatchTooOld: "BATCH_TOO_OLD", CodeBatchGivenUp: "BATCH_GIVEN_UP",
	CodeBadDocument: "BAD_DOCUMENT", CodeUnknownFunction: "UNKNOWN_FUNCTION", CodeUnknownConnector: "UNKNOWN_CONNECTOR",
	CodeFlowUncompilable: "FLOW_UNCOMPILABLE", CodeNotFound: "NOT_FOUND", CodeConflict: "CONFLICT",
}

// String is the code's name; a number for a code that this build does not know.
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return strconv.Itoa(int(c))
}

// Error is the project's one error type: a stable code, and a message that says what was being done to what, what went
// wrong, and what to do next.
type Error struct {
	Code    Code
	Message string
	// RetryAfter is when trying again may help, where that is known.
	RetryAfter time.Duration
	cause      error
}

// Errorf makes an Error; a %w in the format becomes its cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), cause: errors.Unwrap(err)}
}

// Error is the message with the code's name in front.
func (e *Error) Error() string { return e.Code.String() + ": " + e.Message }

// Unwrap is the error that caused this one, if any.
func (e *Error) Unwrap() error { return e.cause }

// CodeOf finds the code of the first *Error in err's chain; CodeInternal for any other error, 0 for nil.
func CodeOf(err error) Code {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// Retryable reports whether the same call may succeed later without anybody changing anything.
func (c Code) Retryable() bool {
	switch c {
	case CodeNoCapableWorker, CodeShutdown, CodeOverloaded, CodeUnavailable, CodeConnectorUnavailable, CodeRevisionChanged:
		return true
	}
	return false
}
