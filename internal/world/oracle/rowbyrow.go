package oracle

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// RowByRow checks that answers are those that a model of the flow gives for each row alone.
//
// The promise: an outcome says how the row's own functions ended, in the function that it names; a function's error, panic or timeout costs
// its own row only, in Batch and FaaS functions of a flow with a shard key the rows of its key; a Load that waits finds a key that was saved;
// a done row has as many outputs as its functions passed on, each of its own origin. Excused is an outcome that is the cluster's fault and has
// a cause in the history: failed with a code whose reason is there, a timeout while a process was stopped or a store was away, POISON after
// three deaths of workers, a row or an output over a limit, a Save that Redis refused with an error. Each excuse has its own name in the
// report.
func RowByRow(l *Life) {
	for _, b := range l.Batches {
		f := l.flows[b.Flow]
		if f == nil {
			continue
		}
		s := l.settingsOf(f)
		for _, t := range b.Tries {
			if !t.Answered {
				continue
			}
			l.rowsOf(f, s, b, t)
			if b.Results && t.Err == "" {
				l.outputsOf(f, b, t)
			}
		}
	}
}

// rowsOf checks the outcomes of one answer.
func (l *Life) rowsOf(f *flow, s settings, b *history.Batch, t *history.Try) {
	l.checked(len(b.Rows))
	next := 0
	packed := l.client(b.Client).Msgpack
	met := l.withoutRefused(f, b, t)
	for place, row := range b.Rows {
		row.Bad = row.Bad || row.NoKey && packed // the world writes its rows without a key in JSON only
		o := batch.RowOutcome{Row: uint32(place), Outcome: batch.Done}
		if next < len(t.NotDone) && int(t.NotDone[next].Row) == place {
			o = t.NotDone[next]
			next++
		}
		if o.Outcome == batch.Done && row.Do == "" && !row.Bad && !row.NoKey && !f.form.Whole && !f.form.LoadsOther {
			continue // the most common case, without a prediction
		}
		r := rowOf{b, place}
		p := f.predict(row, f.neighbours(met, place), s)
		if p.allows(o) {
			l.loadsRight(f, r, t, o)
			continue
		}
		if excuse := l.excuse(f, s, r, t, o); excuse != "" {
			l.excused(excuse)
			continue
		}
		l.breach(r.subject(), "row %d (n %d, key %q, do %q) is %s (%s in %q: %s), but should be %s", place, row.N, row.Key, row.Do, o.Outcome, o.Code, o.Function, cut(o.Reason), p)
	}
}

// withoutRefused returns a batch in which rows ask for nothing that the coordinator took for too large, so that no function met them.
func (l *Life) withoutRefused(f *flow, b *history.Batch, t *history.Try) *history.Batch {
	met := b
	for _, o := range t.NotDone {
		place := int(o.Row)
		if o.Code != batch.CodeRowTooLarge || o.Function != "" || place >= len(b.Rows) || !l.tooLarge(f, rowOf{b, place}) {
			continue
		}
		if met == b {
			other := *b
			other.Rows = slices.Clone(b.Rows)
			met = &other
		}
		met.Rows[place].Do = ""
	}
	return met
}

// loadsRight reports a row that waited in vain for a key that was saved before the row was submitted.
func (l *Life) loadsRight(f *flow, r rowOf, t *history.Try, o batch.RowOutcome) {
	if o.Code != batch.CodeLoadTimeout && o.Code != batch.CodeLoadMissing {
		return
	}
	saved, at := l.providedBefore(f, r.row().Key, r.Tries[0].At)
	switch {
	case !saved:
	case l.lost(at, t.Ended):
		l.excused("Redis lost the key that the row waited for")
	case l.fault(t.At, t.Ended, l.lease(), redisFault):
		l.excused("the store of the key was away")
	default:
		l.breach(r.subject(), "row %d ended with %s, but the key %q that it waited for was saved at %s, before the row was submitted at %s", r.place, o.Code, r.row().Key, at, t.At)
	}
}

// providedBefore reports whether a row that saves the key for which a flow's Load waits was done before a time, and when.
func (l *Life) providedBefore(f *flow, key string, before time.Duration) (bool, time.Duration) {
	for _, b := range l.Batches {
		if b.Flow != f.For {
			continue
		}
		for place, row := range b.Rows {
			if row.Key != key {
				continue
			}
			if t, done := (rowOf{b, place}).done(); done && t.Ended < before {
				return true, t.At
			}
		}
	}
	return false, 0
}

// excuse returns why an outcome that the model does not predict is allowed, or "".
func (l *Life) excuse(f *flow, s settings, r rowOf, t *history.Try, o batch.RowOutcome) string {
	// after is how long after a fault its consequences may be seen.
	after := 2*l.lease() + 10*time.Second
	until := l.end(t)
	fault := func(match func(history.Fault) bool) bool { return l.fault(t.At, until, after, match) }
	switch o.Outcome {
	case batch.Failed:
		return l.excuseFailed(f, s, r, t, o, fault)
	case batch.Dead:
	default:
		return ""
	}
	switch o.Code {
	case batch.CodeRowTimeout:
		lasted := until - r.Tries[0].At
		switch {
		case lasted < s.flowTimeout*9/10:
			return ""
		case f.usesStore() && (fault(redisFault) || l.changed(t.At, until, after, f.Name)):
			return "ROW_TIMEOUT while a store or the network was in trouble"
		case fault(pause) || fault(linkFault):
			return "ROW_TIMEOUT while a process was stopped or cut off"
		case l.waits(f, r, s) >= s.flowTimeout*8/10:
			return "ROW_TIMEOUT of a row that asks to wait"
		}
	case batch.CodeFunctionTimeout:
		if fault(pause) {
			return "FUNCTION_TIMEOUT while a process was stopped"
		}
	case batch.CodePoison:
		if l.deaths(r.Tries[0].At-after, until) >= 3 {
			return "POISON after three deaths of workers"
		}
	case batch.CodeRowTooLarge:
		if l.tooLarge(f, r) {
			return "the row, or its output, is over a limit"
		}
	case batch.CodeFunctionError:
		if f.form.Name == "expressions" && l.grownTo(r) > expressionText {
			return "an expression would make more text than it may"
		}
	case batch.CodeSaveFailed:
		if fault(redisErrors) {
			return "SAVE_FAILED while Redis answered with errors"
		}
	case batch.CodeConversionFailed:
		if fault(redisErrors) {
			return "CONVERSION_FAILED while Redis answered with errors"
		}
	}
	return ""
}

// excuseFailed returns which cause in the history allows a row to have failed, or "".
func (l *Life) excuseFailed(f *flow, s settings, r rowOf, t *history.Try, o batch.RowOutcome, fault func(func(history.Fault) bool) bool) string {
	until := l.end(t)
	after := 2*l.lease() + 10*time.Second
	changed := l.changed(t.At, until, after, f.Name)
	lives := l.lifeChanged(t.At, until, after+time.Minute)
	switch o.Code {
	case batch.CodeDeadline:
		if t.Deadline > 0 && until >= t.Deadline-100*time.Millisecond {
			return "failed with DEADLINE after its deadline"
		}
	case batch.CodeNoCapableWorker:
		if changed || lives || fault(anyFault) {
			return "failed with NO_CAPABLE_WORKER while workers or documents changed"
		}
	case batch.CodeConnectorUnavailable:
		if f.usesStore() && (fault(redisFault) || l.changed(0, until, after, f.Name)) {
			return "failed with CONNECTOR_UNAVAILABLE while Redis was in trouble"
		}
		if f.usesStore() && until-t.At >= s.flowTimeout*9/10 {
			return "failed with CONNECTOR_UNAVAILABLE when its time was over"
		}
	case batch.CodeBatchTooOld:
		if r.Older+until-r.Tries[0].At >= l.onceWindow() {
			return "failed with BATCH_TOO_OLD, and older than the once-window"
		}
	case batch.CodeBatchGivenUp:
		if r.GaveUp > 0 || len(r.Tries) > 1 || l.client(r.Client).How == "producer" {
			return "failed with BATCH_GIVEN_UP after it was given up, or sent again by its producer"
		}
	case batch.CodeCancelled:
		if t.Gone || t.Deadline > 0 {
			return "failed with CANCELLED, as its client asked"
		}
	case batch.CodeShutdown, batch.CodeUnavailable:
		if lives {
			return "failed while a process ended"
		}
	case batch.CodeTooManyRows, batch.CodeBatchTooLarge:
		if l.overLimits(r.Batch) && !f.form.Sharded {
			return "failed because the batch, which can't be divided, is over the limits of workers"
		}
	case batch.CodeFlowDisabled, batch.CodeUnknownFlow, batch.CodeRevisionGone:
		if changed {
			return "failed while its flow was switched off, deleted or changed"
		}
	}
	return ""
}

// onceWindow returns the shortest once-window that the connector's document had.
func (l *Life) onceWindow() time.Duration {
	window := l.Scenario.Redis.OnceWindow
	if window == 0 {
		window = time.Hour
	}
	for _, c := range l.Changes {
		if c.Kind == "once-window" {
			window = min(window, time.Duration(c.N)*time.Second)
		}
	}
	return window
}

// waits returns how long a row may have to wait because it, or a row in its run, asks for it or loads a key.
func (l *Life) waits(f *flow, r rowOf, s settings) time.Duration {
	var total time.Duration
	rows := append(f.neighbours(r.Batch, r.place), r.row())
	for _, row := range rows {
		for _, a := range forms.ParseActions(row.Do) {
			switch a.Kind {
			case "slow", "sleep":
				total += a.Lasts
			case "hang", "block":
				total += s.longestTimeout
			case "error", "mutate", "panic", "odd":
				for _, n := range s.retries {
					total = max(total, time.Duration(n+1)*forms.RetryPause*4)
				}
			case "poison":
				total += s.flowTimeout
			}
		}
	}
	for _, step := range f.form.Steps {
		if step.Mode == definition.ModeLoad && step.OnMissing == definition.OnMissingWait {
			total += s.wait
		}
	}
	return total
}

// added is by how many bytes the output of a row may be larger than its input, because it has more fields.
const added = 64

// expressionText is how many bytes of text one evaluation of an expression may make (docs/expressions.md).
const expressionText = 4 << 20

// grown returns how large the rows are that a row asks its functions to make of it, and how many there are.
func grown(row history.Row) (size, many int) {
	size, many = row.Bytes, 1
	for _, a := range forms.ParseActions(row.Do) {
		switch a.Kind {
		case "grow":
			many = a.N
		case "wide":
			size += a.N
		}
	}
	return size, many
}

// grownTo returns how many bytes the rows have together that functions make of a row.
func (l *Life) grownTo(r rowOf) int {
	size, many := grown(r.row())
	return (size + added) * many
}

// tooLarge reports whether a row or what its functions make of it may be over a limit of some process.
func (l *Life) tooLarge(f *flow, r rowOf) bool {
	row := r.row()
	rowBytes, batchBytes := 1<<20, 8<<20
	for _, life := range l.Lives {
		if n := life.Settings.RowBytes; n > 0 {
			rowBytes = min(rowBytes, n)
		}
		if n := life.Settings.BatchBytes; n > 0 {
			batchBytes = min(batchBytes, n)
		}
	}
	size, many := grown(row)
	if lost := lostOutput(r.Batch, added); lost > batchBytes || lost > 4<<20 {
		return true
	}
	return row.Bytes > rowBytes || (size+added)*many > min(batchBytes, 4<<20) || size+added > rowBytes
}

// lostOutput returns the most bytes that the outputs of a run can have together, in which a row asks to lose the lineage: the run passes on
// its rows and one of them once more, and they may stand behind a single row. It returns 0 where no row of the batch asks for that. added is
// by how many bytes an output is larger than its row.
func lostOutput(b *history.Batch, added int) int {
	lose, total, largest := false, 0, 0
	for _, row := range b.Rows {
		total += row.Bytes + added
		largest = max(largest, row.Bytes+added)
		for _, a := range forms.ParseActions(row.Do) {
			lose = lose || a.Kind == "lose"
		}
	}
	if !lose {
		return 0
	}
	return total + largest
}

// overLimits reports whether a batch has more rows or bytes than some worker takes.
func (l *Life) overLimits(b *history.Batch) bool {
	bytes := 0
	for _, row := range b.Rows {
		bytes += row.Bytes
	}
	for _, life := range l.Lives {
		if n := life.Settings.BatchRows; life.Kind == history.Worker && n > 0 && len(b.Rows) > n {
			return true
		}
		if n := life.Settings.BatchBytes; life.Kind == history.Worker && n > 0 && bytes > n {
			return true
		}
	}
	return false
}

// outputsOf checks the output rows of one answer.
func (l *Life) outputsOf(f *flow, b *history.Batch, t *history.Try) {
	if f.form.Name == "lost" {
		return // a run that loses its lineage passes on other rows
	}
	got := make([]int, len(b.Rows))
	for _, out := range t.Outputs {
		if int(out.Origin) >= len(b.Rows) {
			l.breach(Subject{Flow: b.Flow, Batch: t.ID}, "an output row comes from row %d of a batch of %d rows", out.Origin, len(b.Rows))
			continue
		}
		r := rowOf{b, int(out.Origin)}
		var row forms.Row
		if err := json.Unmarshal([]byte(out.Row), &row); err != nil {
			l.breach(r.subject(), "the output of row %d is no row: %v", out.Origin, err)
			continue
		}
		if row.Key != r.row().Key || row.N != r.row().N {
			l.breach(r.subject(), "the output of row %d has the key %q and the number %d, but the row has %q and %d", out.Origin, row.Key, row.N, r.row().Key, r.row().N)
		}
		if row.Part != got[out.Origin] && f.form.Expands {
			l.breach(r.subject(), "output %d of row %d is the one with part %d", got[out.Origin], out.Origin, row.Part)
		}
		got[out.Origin]++
	}
	for place, n := range got {
		r := rowOf{b, place}
		o := t.Outcome(place)
		want := 0
		if o.Outcome == batch.Done {
			want = f.outputs(r.row())
		}
		if n != want && (o.Outcome == batch.Done || !f.form.Expands) {
			l.breach(r.subject(), "row %d is %s and has %d output rows, want %d", place, o.Outcome, n, want)
		}
	}
}

// OneAfterTheOther checks that rows of one key go through a stretch one after the other.
//
// The promise: in a flow with a shard key that uses a connector in several steps, each row finds the values that the rows of its key before it
// saved, and none that later rows saved. So in a flow that loads the last number of its key and then saves its own, the number that a row
// found is that of the row before it in the list of the key. Excused is a row that ran more than once, since it may find its own value; a
// list of which Redis lost writes; a key of which a row was saved in part; a row behind one that failed at first and may have been saved
// late; neighbours on revisions with different shard keys, when the world changed the flow's shard key; and neighbours of two streams, or of
// calls, while workers came, went or were cut off, since coordinators that reach other workers send rows of one key to two of them.
func OneAfterTheOther(l *Life) {
	resharded := l.resharded()
	for _, s := range l.Stores {
		for stored, list := range s.Lists {
			flow, kind, key, ok := keyOf(stored)
			if f := l.flows[flow]; !ok || kind != "rows" || f == nil || !f.form.Stretch {
				continue
			}
			before := (*history.Entry)(nil)
			for _, text := range list {
				e, err := history.ParseEntry(text)
				if err != nil {
					return // EffectsOnce reports it
				}
				l.foundRight(flow, key, resharded[flow], before, e)
				before = &e
			}
		}
	}
}

// foundRight checks the number that one row of a key found. before is the entry before the row's own in the list of the key, or nil.
// resharded says that the world changed the flow's shard key.
func (l *Life) foundRight(flow, key string, resharded bool, before *history.Entry, e history.Entry) {
	b := l.batches[e.ID.Batch]
	if b == nil || !b.Results || int(e.ID.Row) >= len(b.Rows) {
		return
	}
	r := rowOf{b, int(e.ID.Row)}
	t, done := r.done()
	if !done {
		return
	}
	for _, out := range t.Outputs {
		if out.Origin != e.ID.Row {
			continue
		}
		var row forms.Row
		if json.Unmarshal([]byte(out.Row), &row) != nil {
			return // RowByRow reports it
		}
		l.checked(1)
		want, sameStream, late, sameRevision := "nothing", true, false, true
		if before != nil {
			other := l.batches[before.ID.Batch]
			if other == nil || int(before.ID.Row) >= len(other.Rows) {
				l.excused("the row before is of an unknown batch")
				return
			}
			want, sameStream = fmt.Sprint(other.Rows[before.ID.Row].N), before.ID.Batch.Stream == e.ID.Batch.Stream && !t.Call
			late, sameRevision = len(other.Tries) > 1, other.Tries[0].Revision == t.Revision
		}
		found := "nothing"
		if row.Found != nil {
			found = fmt.Sprint(*row.Found)
		}
		switch {
		case found == want:
		case l.runsOf(e.ID.Batch, r.place, l.flows[flow].saves) > 1:
			l.excused("the row ran more than once")
		case l.lost(0, t.Ended):
			l.excused("Redis lost writes")
		case late: // its Save may have taken place after its answer: that of a failed row is not known
			l.excused("the row before was submitted again")
		case resharded && !sameRevision:
			l.excused("the shard key changed between the two rows")
		case l.partial(l.flows[flow], key): // its commands take place one by one, or are refused
			l.excused("a row of the key did not end as done")
		case !sameStream && (l.lifeChanged(t.At, t.Ended, 2*l.lease()) || l.fault(t.At, t.Ended, 2*l.lease(), anyFault)):
			l.excused("rows of two streams or calls, while workers came, went or were cut off")
		default:
			l.breach(Subject{Flow: flow, Key: key}, "row %s (n %d) of key %q found %s, but the row before it saved %s", e.ID, r.row().N, key, found, want)
		}
		return
	}
}

// runsOf returns how often a function ran for a row.
func (l *Life) runsOf(id batch.ID, place int, function string) int {
	n := 0
	for _, i := range l.runs[id] {
		if run := l.Runs[i]; int(run.ID.Row) == place && run.Function == function {
			n++
		}
	}
	return n
}

// String writes the predicted endings, for messages.
func (p prediction) String() string {
	var parts []string
	for _, e := range p {
		text := e.outcome.String()
		if e.code != 0 {
			text += " " + e.code.String()
		}
		if e.function != "" {
			text += " in " + e.function
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", or ")
}

// cut shortens a text for a message.
func cut(text string) string {
	if len(text) > 160 {
		return text[:160] + "…"
	}
	return text
}
