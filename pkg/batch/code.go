package batch

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Code says why a row or a call ended as it did. Numbers and names are stable, and are those of the wire.
type Code uint16

// Codes of rows.
const (
	CodeRowUndecodable   Code = 1  // the row is not valid in its encoding, or does not fit the function's type
	CodeMissingShardKey  Code = 2  // the field that the flow's shard_key names is missing, null, an object or an array
	CodeRowTooLarge      Code = 3  // the row is larger than a row may be
	CodeFunctionError    Code = 4  // the function returned an error, on every try
	CodeFunctionPanic    Code = 5  // the function panicked, on every try
	CodeFunctionTimeout  Code = 6  // the function did not return before its timeout
	CodeRowTimeout       Code = 7  // from its beginning the row took longer than the flow's timeout
	CodeLoadTimeout      Code = 8  // a Load waited for a key that nobody saved in time
	CodeLoadMissing      Code = 9  // a Load found nothing under its key, and its option on_missing is dead
	CodeConversionFailed Code = 10 // the row does not fit the next function's type, or a Load can't read the value of a key
	CodeRowUnencodable   Code = 11 // the output row can't be encoded
	CodeSaveFailed       Code = 12 // the connector refused the row's effect
	CodeLineageLost      Code = 13 // KisGrid can't tell which input row an output row comes from
	CodeNeedsWholeBatch  Code = 14 // a function asked for an action on its whole run, such as an abort, in a flow with a shard_key, which divides batches
	CodeStepLimit        Code = 15 // the row jumped back to earlier functions too often
	CodePoison           Code = 16 // three workers died while they ran the row
	CodeDropped          Code = 17 // a function dropped the row
	CodeNotCommitted     Code = 18 // a function passed nothing on for the row
	CodeAborted          Code = 19 // a function aborted its run
	CodeMissingField     Code = 20 // a field that the function's source requires is missing
)

// Codes of batches and calls. The number 78 stays reserved: it was BATCH_ID_REUSED, which no build has ever given.
const (
	CodeInternal             Code = 64 // a defect of KisGrid
	CodeUnknownFlow          Code = 65 // there is no such flow
	CodeFlowDisabled         Code = 66 // the flow's status is 0
	CodeNoCapableWorker      Code = 67 // no worker can run the flow: no live worker is ready that has all of its functions
	CodeDeadline             Code = 68 // the caller's deadline passed
	CodeShutdown             Code = 69 // the process is shutting down
	CodeOverloaded           Code = 70 // a budget of memory is used up: try again later
	CodeUnavailable          Code = 71 // the call needs something that can't be reached: try again
	CodeEmptyBatch           Code = 72 // the batch has no rows
	CodeBadColumns           Code = 73 // the columns of the batch contradict each other
	CodeBatchTooLarge        Code = 74 // the batch has more bytes than a batch may have
	CodeTooManyRows          Code = 75 // the batch has more rows than a batch may have
	CodeMissingKeys          Code = 76 // the rows came without the hashes of their keys, which the flow needs from the client for this encoding
	CodeBadBatchID           Code = 77 // the batch's id is malformed, or the batch can't be submitted now or to this flow
	CodeRevisionGone         Code = 79 // the revision that the batch first ran on is no longer kept
	CodeProtocolMismatch     Code = 80 // the two sides have no protocol version in common
	CodeBadMessage           Code = 81 // the protocol does not allow the message here
	CodeCancelled            Code = 82 // the caller gave up
	CodeConnectorUnavailable Code = 83 // the connector's store can't be reached
	CodeRevisionChanged      Code = 84 // a new batch names a revision that is not the active one
	CodeBatchTooOld          Code = 85 // the batch is so old that nobody knows any more which of its effects took place
	CodeBatchGivenUp         Code = 86 // the batch is below its stream's floor: its producer had said that it is done with the batch
	CodeUnauthenticated      Code = 87 // it is not known who calls: no token or certificate, or one that is wrong or has expired
	CodePermissionDenied     Code = 88 // the caller lacks the right that the call needs
	CodeLogSuperseded        Code = 89 // a later term of the log has begun: another reader has it
	CodeBadPositions         Code = 90 // the positions of the batch's rows break a rule
	CodeLogRewound           Code = 91 // a reader begins below the floor of the log, where rows are settled already
	CodeBehindFailed         Code = 92 // the row has not begun, because an earlier row of its key, from the same log, failed
)

// Codes of definitions.
const (
	CodeBadDocument      Code = 128 // the document can't be read, or breaks a rule
	CodeUnknownFunction  Code = 129 // the flow names a function that no worker has
	CodeUnknownConnector Code = 130 // the function names a connector that has no document
	CodeFlowUncompilable Code = 131 // the documents don't fit the registered functions
	CodeNotFound         Code = 132 // there is no document, worker or other thing of this name
	CodeConflict         Code = 133 // somebody else has changed or taken the thing in the meantime
)

// codeNames has the name of each code.
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
	CodeMissingKeys: "MISSING_KEYS", CodeBadBatchID: "BAD_BATCH_ID",
	CodeRevisionGone: "REVISION_GONE", CodeProtocolMismatch: "PROTOCOL_MISMATCH", CodeBadMessage: "BAD_MESSAGE",
	CodeCancelled: "CANCELLED", CodeConnectorUnavailable: "CONNECTOR_UNAVAILABLE",
	CodeRevisionChanged: "REVISION_CHANGED", CodeBatchTooOld: "BATCH_TOO_OLD", CodeBatchGivenUp: "BATCH_GIVEN_UP",
	CodeUnauthenticated: "UNAUTHENTICATED", CodePermissionDenied: "PERMISSION_DENIED",
	CodeLogSuperseded: "LOG_SUPERSEDED", CodeBadPositions: "BAD_POSITIONS", CodeLogRewound: "LOG_REWOUND", CodeBehindFailed: "BEHIND_FAILED",
	CodeBadDocument: "BAD_DOCUMENT", CodeUnknownFunction: "UNKNOWN_FUNCTION", CodeUnknownConnector: "UNKNOWN_CONNECTOR",
	CodeFlowUncompilable: "FLOW_UNCOMPILABLE", CodeNotFound: "NOT_FOUND", CodeConflict: "CONFLICT",
}

// String returns the code's name, or its number where this build does not know the code.
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return strconv.Itoa(int(c))
}

// CodeNames returns the names of all codes, sorted.
func CodeNames() []string { return slices.Sorted(maps.Values(codeNames)) }

// Error is the project's error type. It has a stable code, and a message which says what was being done, what is wrong,
// and what to do next.
type Error struct {
	Code    Code
	Message string
	// RetryAfter is after which time it may help to try again; 0 where that is unknown.
	RetryAfter time.Duration
	cause      error // nil means none
}

// Errorf makes an Error whose message is formatted as by fmt.Errorf. If the format has exactly one %w, that error becomes
// the cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), cause: errors.Unwrap(err)}
}

// Error returns the code's name and the message.
func (e *Error) Error() string { return e.Code.String() + ": " + e.Message }

// Unwrap returns the error that caused this one; nil means none.
func (e *Error) Unwrap() error { return e.cause }

// CodeOf returns the code of the first *Error in the chain of err. It returns CodeInternal where there is none, and 0 for
// nil.
func CodeOf(err error) Code {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// Retryable reports whether the same call may succeed later although nobody has changed anything: true for codes of a
// temporary state, such as CodeOverloaded.
func (c Code) Retryable() bool {
	switch c {
	case CodeNoCapableWorker, CodeShutdown, CodeOverloaded, CodeUnavailable, CodeConnectorUnavailable, CodeRevisionChanged:
		return true
	}
	return false
}
