package oracle

import (
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// rowCodes are the codes of rows with their outcomes, as docs/outcomes.md lists them.
var rowCodes = map[string]batch.Outcome{
	"ROW_UNDECODABLE": batch.Dead, "MISSING_SHARD_KEY": batch.Dead, "ROW_TOO_LARGE": batch.Dead, "FUNCTION_ERROR": batch.Dead,
	"FUNCTION_PANIC": batch.Dead, "FUNCTION_TIMEOUT": batch.Dead, "ROW_TIMEOUT": batch.Dead, "LOAD_TIMEOUT": batch.Dead, "LOAD_MISSING": batch.Dead,
	"CONVERSION_FAILED": batch.Dead, "ROW_UNENCODABLE": batch.Dead, "SAVE_FAILED": batch.Dead, "LINEAGE_LOST": batch.Dead,
	"NEEDS_WHOLE_BATCH": batch.Dead, "STEP_LIMIT": batch.Dead, "POISON": batch.Dead, "MISSING_FIELD": batch.Dead,
	"DROPPED": batch.Filtered, "NOT_COMMITTED": batch.Filtered, "ABORTED": batch.Aborted,
	"NO_CAPABLE_WORKER": batch.Failed, "DEADLINE": batch.Failed, "CONNECTOR_UNAVAILABLE": batch.Failed, "BATCH_TOO_OLD": batch.Failed,
	"BATCH_GIVEN_UP": batch.Failed, "CANCELLED": batch.Failed, "SHUTDOWN": batch.Failed, "TOO_MANY_ROWS": batch.Failed, "BATCH_TOO_LARGE": batch.Failed,
	"LOG_SUPERSEDED": batch.Failed, "BEHIND_FAILED": batch.Failed, "PROTOCOL_MISMATCH": batch.Failed, "INTERNAL": batch.Failed,
}

// callCodes are the codes of calls, as docs/outcomes.md lists them.
var callCodes = []string{
	"UNKNOWN_FLOW", "FLOW_DISABLED", "FLOW_UNCOMPILABLE", "NO_CAPABLE_WORKER", "EMPTY_BATCH", "BAD_COLUMNS", "TOO_MANY_ROWS", "BATCH_TOO_LARGE",
	"MISSING_KEYS", "BAD_BATCH_ID", "BAD_MESSAGE", "PROTOCOL_MISMATCH", "REVISION_GONE", "REVISION_CHANGED", "OVERLOADED", "DEADLINE", "CANCELLED",
	"SHUTDOWN", "UNAVAILABLE", "BAD_DOCUMENT", "UNKNOWN_FUNCTION", "UNKNOWN_CONNECTOR", "NOT_FOUND", "CONFLICT", "UNAUTHENTICATED", "PERMISSION_DENIED",
	"BAD_POSITIONS", "LOG_REWOUND",
}

// Codes checks that every error has a code that docs/outcomes.md lists for its case, and a text.
//
// The promise: a row that is not done carries a code that belongs to its outcome, and a reason; a call that is refused carries a code of
// calls, and a message that says what to do next. INTERNAL is a defect of KisGrid, wherever it stands. Excused are rows without a reason in
// the answer to a call, as docs/outcomes.md says: when outcomes take half of the message, or output has used up the coordinator's budget,
// further outcomes go without reasons.
func Codes(l *Life) {
	for _, b := range l.Batches {
		for _, t := range b.Tries {
			if t.Err != "" && !t.Gone {
				l.callCode(Subject{Flow: b.Flow, Batch: t.ID}, t.Code, t.Err)
			}
			for _, o := range t.NotDone {
				l.checked(1)
				r := rowOf{b, int(o.Row)}
				outcome, known := rowCodes[o.Code.String()]
				switch {
				case o.Code == batch.CodeInternal:
					l.breach(r.subject(), "row %d ended with INTERNAL: %s", o.Row, cut(o.Reason))
				case !known || outcome != o.Outcome:
					l.breach(r.subject(), "row %d is %s with the code %s, which docs/outcomes.md does not list for that outcome: %s", o.Row, o.Outcome, o.Code, cut(o.Reason))
				case o.Reason == "" && t.Call && t.Code == batch.CodeBatchTooLarge && strings.Contains(t.Err, "--budget-bytes"):
					l.excused("no reason in the answer to a call, whose output used up the coordinator's budget")
				case o.Reason == "" && l.halfFull(t, o):
					l.excused("no reason, behind outcomes that take half of the answer to a call")
				case o.Reason == "":
					l.breach(r.subject(), "row %d is %s with the code %s, and no reason", o.Row, o.Outcome, o.Code)
				}
			}
		}
	}
	for _, c := range l.Calls {
		if c.Error != "" {
			l.callCode(Subject{}, c.Code, c.Verb+" "+c.Subject+": "+c.Error)
		}
	}
}

// halfFull reports whether the outcomes of a call's answer without that of one row take half of the largest answer that some coordinator
// sends. An outcome counts as 24 bytes beside its texts.
func (l *Life) halfFull(t *history.Try, without batch.RowOutcome) bool {
	if !t.Call {
		return false // a stream gets its outcomes in pieces
	}
	bytes := 0
	for _, o := range t.NotDone {
		if o.Row != without.Row {
			bytes += 24 + len(o.Function) + len(o.Reason)
		}
	}
	for _, life := range l.Lives {
		limits := batch.Limits{BatchBytes: life.Settings.BatchBytes, BatchRows: life.Settings.BatchRows}.WithDefaults()
		message := limits.BatchBytes*5/4 + 16*limits.BatchRows
		if life.Kind == history.Coordinator && bytes > message*7/16 {
			return true
		}
	}
	return false
}

// callCode checks the code and the text of a call's error.
func (l *Life) callCode(s Subject, code batch.Code, text string) {
	l.checked(1)
	switch {
	case code == batch.CodeInternal:
		l.breach(s, "a call ended with INTERNAL: %s", cut(text))
	case !slices.Contains(callCodes, code.String()):
		l.breach(s, "a call ended with the code %s, which docs/outcomes.md does not list for calls: %s", code, cut(text))
	case !advises(code, text):
		l.breach(s, "the text of a call's error does not say what to do next: %q", text)
	}
}

// adviceWords are words with which a text tells its reader what to do, or what will be done. One of them is enough.
var adviceWords = []string{
	"submit", "try", "tries", "send", "sent", "use", "check", "see ", "raise", "lower", "wait", "start", "apply", "write", "choose", "remove", "add ", "name", "make",
	"start", "run ", "split", "ask", "open", "close", "give", "set ", "retry", "again", "up to", "at most", "must", "should", "instead", "want", "upgrade", "draw", "count", "there are", "read", "define", "has to", "can",
}

// advises reports whether the text of an error says what to do. DEADLINE, CANCELLED and SHUTDOWN need no advice: the caller caused the first
// two, and the SDK acts on the third. The text of a connection that could not be made or that broke, or of a name that was not found, is
// gRPC's and the resolver's own: the command line adds its advice.
func advises(code batch.Code, text string) bool {
	switch {
	case code == batch.CodeDeadline || code == batch.CodeCancelled || code == batch.CodeShutdown:
		return text != ""
	case code == batch.CodeUnavailable && (strings.Contains(text, "connection error: desc = ") || strings.Contains(text, "keepalive ping failed") || strings.Contains(text, "look up ") || strings.HasPrefix(text, "wrong ")):
		return true
	}
	lower := strings.ToLower(text)
	return slices.ContainsFunc(adviceWords, func(word string) bool { return strings.Contains(lower, word) })
}

// NoPanic checks that no goroutine of KisGrid panicked, and that no process ended by an error of its own.
//
// The promise: a function's panic costs its own row; overload, input and documents kill nothing. Excused is a process that gave up its name to
// another one, or was told that it may not start so: its settings are wrong.
func NoPanic(l *Life) {
	l.checked(len(l.Lives))
	for _, e := range l.Events {
		if e.Kind == history.Panicked {
			l.breach(Subject{Process: e.Who}, "%s panicked at %s: %s", e.Who, e.At, cut(e.Text))
		}
	}
	for _, life := range l.Lives {
		if strings.Contains(life.Error, "panic") || strings.Contains(life.Error, batch.CodeInternal.String()) {
			l.breach(Subject{Process: life.Process}, "%s ended: %s", life.Process, cut(life.Error))
		}
		for _, line := range life.Logs {
			if strings.Contains(line.Text, "INTERNAL") || strings.Contains(line.Text, "goroutine ") && strings.Contains(line.Text, "panic") && !strings.Contains(line.Text, "asks for a panic") {
				l.breach(Subject{Process: life.Process}, "%s logged at %s: %s", life.Process, line.At, cut(line.Text))
			}
		}
	}
}
