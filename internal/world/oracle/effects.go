package oracle

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// effectOf names a row in the index of effects.
type effectOf struct {
	batch batch.ID
	place int
}

// effects returns the entries that lists in the stores have of each row.
func (l *Life) effects() map[effectOf][]history.Entry {
	all := map[effectOf][]history.Entry{}
	for _, s := range l.Stores {
		for _, list := range s.Lists {
			addEffects(all, list)
		}
	}
	return all
}

// lostEffects returns the entries of each row that Redis had taken, and lost.
func (l *Life) lostEffects() map[effectOf][]history.Entry {
	all := map[effectOf][]history.Entry{}
	for _, s := range l.Stores {
		addEffects(all, s.Lost)
	}
	return all
}

// addEffects adds the entries of a list to an index. Texts that are no entries are left out.
func addEffects(to map[effectOf][]history.Entry, list []string) {
	for _, text := range list {
		if e, err := history.ParseEntry(text); err == nil {
			of := effectOf{e.ID.Batch, int(e.ID.Row)}
			to[of] = append(to[of], e)
		}
	}
}

// keyOf splits a key of the store that ends with ":rows:<key>" or ":sum:<key>" into flow, kind and key.
func keyOf(stored string) (flow, kind, key string, ok bool) {
	flow, rest, ok := strings.Cut(stored, ":")
	if !ok {
		return "", "", "", false
	}
	kind, key, ok = strings.Cut(rest, ":")
	return flow, kind, key, ok && (kind == "rows" || kind == "sum")
}

// DoneMeansEffect checks that the effects of done rows are in the store.
//
// The promise: the acknowledgement comes after the effect. Every function ran for a row that is done, and each row that reached the Save has
// its entry in the list of its key. Excused is an effect that Redis had taken, as its journal says, and lost by a failover or because it came
// back without data. The memory connector's store is lost with its worker's process.
func DoneMeansEffect(l *Life) {
	effects, lost := l.effects(), l.lostEffects()
	hasMemory := slices.ContainsFunc(l.Stores, func(s history.Store) bool { return s.Kind == "memory" })
	for _, b := range l.Batches {
		f := l.flows[b.Flow]
		if f == nil {
			continue
		}
		for place := range b.Rows {
			r := rowOf{b, place}
			t, done := r.done()
			if !done {
				continue
			}
			l.checked(1)
			if missing := l.notRun(f, t.ID, place); missing != "" {
				l.breach(r.subject(), "row %d is done, but no worker ran %s for it", place, missing)
				continue
			}
			if f.saves == "" || f.declared || r.row().NoKey || len(l.Stores) == 0 {
				continue
			}
			want := f.outputs(r.row())
			have := distinct(effects[effectOf{t.ID, place}])
			if have >= want {
				continue
			}
			from, _, _ := l.saved(t.ID, place, f.saves, t.Ended)
			switch {
			case f.memory && (!hasMemory || l.workerEnded(from)):
				l.excused("the memory of its worker is gone")
			case distinct(append(slices.Clip(effects[effectOf{t.ID, place}]), lost[effectOf{t.ID, place}]...)) >= want:
				l.excused("Redis had taken the effect, and lost it")
			default:
				l.breach(r.subject(), "row %d (n %d, key %q) is done since %s, but the store has %d of its %d effects", place, r.row().N, r.row().Key, t.Ended, have, want)
			}
		}
	}
}

// notRun returns the name of a function with code that no worker ran for a row of a batch; empty when all of them ran.
func (l *Life) notRun(f *flow, id batch.ID, place int) string {
	ran := make([]bool, len(f.form.Steps))
	for _, i := range l.runs[id] {
		run := l.Runs[i]
		if int(run.ID.Row) == place {
			if stage, known := f.stages[run.Function]; known {
				ran[stage] = true
			}
		}
	}
	for stage, s := range f.form.Steps {
		if !s.Declared && !ran[stage] {
			return f.form.Function(f.Name, s.Stage)
		}
	}
	return ""
}

// workerEnded reports whether some worker's life ended at a time or later.
func (l *Life) workerEnded(from time.Duration) bool {
	return slices.ContainsFunc(l.Lives, func(life *history.Life) bool {
		return life.Kind == history.Worker && life.Ended >= from && life.Ended > 0
	})
}

// distinct returns how many different effects the entries are of.
func distinct(entries []history.Entry) int {
	seen := map[history.Entry]bool{}
	for _, e := range entries {
		e.Mark = ""
		seen[e] = true
	}
	return len(seen)
}

// EffectsOnce checks that effects take place once.
//
// The promise: an effect through the connector happens once, also when a batch is sent again, split differently, or run by a worker that has
// been given up for dead, and when a redrive of a dead letter is cut off and begins again within the once-window. So a list has one entry for each effect; a sum
// has each row's number once; the store has nothing of rows that were dropped, or died in a function before the Save. Where Redis loses
// writes, records go with the data, so nothing is excused for that. A sum may differ from the list by rows that did not end as done, since
// commands of one row may be refused one by one.
func EffectsOnce(l *Life) {
	for _, s := range l.Stores {
		for stored, list := range s.Lists {
			flow, kind, key, ok := keyOf(stored)
			if !ok || kind != "rows" || l.flows[flow] == nil {
				continue
			}
			l.entriesOnce(l.flows[flow], key, list)
			if sum := s.Hashes[forms.SumKey(flow, key)]; sum != nil {
				l.sumAgrees(l.flows[flow], key, list, sum)
			}
		}
		for stored, sum := range s.Hashes {
			flow, kind, key, ok := keyOf(stored)
			f := l.flows[flow]
			if !ok || kind != "sum" || f == nil {
				continue
			}
			if f.declared {
				l.sumPossible(f, key, sum)
			} else if len(s.Lists[forms.ListKey(flow, key)]) == 0 && !l.partial(f, key) {
				l.breach(Subject{Flow: flow, Key: key}, "the key has a sum (%v), and no row in its list", sum)
			}
		}
	}
	l.deadHaveNone()
}

// entriesOnce reports entries that a list has twice, and entries of rows that have another key or belong to nobody.
func (l *Life) entriesOnce(f *flow, key string, list []string) {
	seen := map[history.Entry]string{}
	times := map[history.Entry]int{}
	redriven := map[int]map[batch.StreamID]bool{} // by the row's number: the streams of batches that no client submitted, and that have an effect
	for _, text := range list {
		l.checked(1)
		e, err := history.ParseEntry(text)
		if err != nil {
			l.breach(Subject{Flow: f.Name, Key: key}, "the list has %q, which no function wrote", text)
			continue
		}
		mark := e.Mark
		e.Mark = ""
		subject := Subject{Flow: f.Name, Batch: e.ID.Batch, Row: int(e.ID.Row), OneRow: true}
		times[e]++
		if first, twice := seen[e]; twice && l.batches[e.ID.Batch] == nil && l.foreign(f.Name) && times[e] <= l.redrivenApart(e.ID) {
			l.excused("of redrives of one letter, with more than the once-window between them")
		} else if twice && l.longUnderWay(f, e.ID) {
			l.excused("of copies of a batch, of which one was under way for longer than records are kept")
		} else if twice {
			l.breach(subject, "the effect of row %s (key %q) took place twice: with the marks %q and %q", e.ID, key, first, mark)
		}
		seen[e] = mark
		b := l.batches[e.ID.Batch]
		switch {
		case b == nil && l.foreign(f.Name):
			l.excused("of a redrive, or of a client that broke the protocol or went away")
			if n, known := l.numberOf(e.ID); known && !f.form.Expands {
				if redriven[n] == nil {
					redriven[n] = map[batch.StreamID]bool{}
				}
				redriven[n][e.ID.Batch.Stream] = true // a letter's id; a function may make several rows of its one, and an edited letter has another sequence
			}
		case b == nil:
			l.breach(Subject{Flow: f.Name, Key: key}, "the store has an effect of row %s (key %q) of a batch that nobody submitted", e.ID, key)
		case int(e.ID.Row) >= len(b.Rows) || b.Rows[e.ID.Row].Key != key:
			l.breach(subject, "the store has an effect of row %s under the key %q, which is not the row's", e.ID, key)
		}
	}
	l.redrivenOnce(f, key, redriven)
}

// redrivenApart returns how many redrives of a letter there were with at least the once-window between one and the next: effects of each of
// them may be there.
func (l *Life) redrivenApart(id batch.RowID) int {
	redrives, last := 0, time.Duration(0)
	for _, i := range l.runs[id.Batch] { // in the order in which they began
		if run := &l.Runs[i]; run.ID.Row == id.Row {
			if redrives == 0 || run.At-last >= l.onceWindow() {
				redrives++
			}
			last = run.At
		}
	}
	return redrives
}

// longUnderWay reports whether the Save ran for a row twice with more time in between than records are kept, while a fault held messages up: a
// message says how old its batch is when it is sent, and its time under way does not count.
func (l *Life) longUnderWay(f *flow, id batch.RowID) bool {
	last := time.Duration(-1)
	for _, i := range l.runs[id.Batch] {
		run := &l.Runs[i]
		if run.ID != id || run.Function != f.saves {
			continue
		}
		if last >= 0 && run.At-last >= l.onceWindow()*5/4 && l.fault(last, run.At, 0, func(f history.Fault) bool { return linkFault(f) || pause(f) }) {
			return true
		}
		last = run.At
	}
	return false
}

// numberOf returns the number of a row that some function got under an id, also if no client submitted its batch.
func (l *Life) numberOf(id batch.RowID) (n int, known bool) {
	for _, i := range l.runs[id.Batch] {
		if run := &l.Runs[i]; run.ID == id {
			return run.N, true
		}
	}
	return 0, false
}

// redrivenOnce reports rows that took effect in redrives of more letters than there are rows with the number and key. redriven has the
// ids of letters that have an effect, by the row's number. Excused is a row whose Save the store refuses in part: a letter of an earlier
// function dies once more in the Save when it is redriven, and that letter is another one, whose redrive repeats the part that the store took.
func (l *Life) redrivenOnce(f *flow, key string, redriven map[int]map[batch.StreamID]bool) {
	if len(redriven) == 0 {
		return
	}
	submitted, inPart := map[int]int{}, map[int]int{}
	for _, b := range l.Batches {
		if b.Flow == f.Name {
			for _, row := range b.Rows {
				if row.Key == key {
					submitted[row.N]++
				}
				if row.Key == key && slices.ContainsFunc(forms.ParseActions(row.Do), func(a forms.Action) bool { return a.Kind == "misfit" }) {
					inPart[row.N]++
				}
			}
		}
	}
	for n, effects := range redriven {
		l.checked(1)
		switch most := submitted[n]; {
		case most == 0 || len(effects) <= most:
		case len(effects) <= most+inPart[n]:
			l.excused("a Save that the store refused in part, repeated by the redrive of another letter of the row")
		default:
			l.breach(Subject{Flow: f.Name, Key: key}, "a row with number %d took effect as %d dead letters, and clients submitted %d rows with this number and key", n, len(effects), most)
		}
	}
}

// sumAgrees reports a sum that has other rows than the list of its key.
func (l *Life) sumAgrees(f *flow, key string, list []string, sum map[string]string) {
	l.checked(1)
	count, want := 0, 0
	for _, text := range list {
		e, err := history.ParseEntry(text)
		if err != nil {
			return // reported
		}
		b := l.batches[e.ID.Batch]
		if b == nil || int(e.ID.Row) >= len(b.Rows) {
			l.excused("the list has rows of unknown batches")
			return
		}
		count++
		want += b.Rows[e.ID.Row].N
	}
	if sum["n"] == strconv.Itoa(want) && sum["count"] == strconv.Itoa(count) {
		return
	}
	if l.partial(f, key) {
		l.excused("a row of the key did not end as done")
		return
	}
	l.breach(Subject{Flow: f.Name, Key: key}, "the list of key %q has %d rows with the sum %d, but the sum's record says %s rows with the sum %s", key, count, want, sum["count"], sum["n"])
}

// partial reports whether a row of a key reached the Save and did not end as done in every try, so that some of its commands may have taken
// place without the others.
func (l *Life) partial(f *flow, key string) bool {
	for _, b := range l.Batches {
		if b.Flow != f.Name {
			continue
		}
		for place, row := range b.Rows {
			if row.Key != key {
				continue
			}
			if _, done := (rowOf{b, place}).done(); done {
				continue
			}
			for _, t := range b.Tries {
				if _, _, ran := l.saved(t.ID, place, f.saves, 0); ran {
					return true
				}
			}
		}
	}
	return l.foreign(f.Name)
}

// sumPossible reports the sum of a declared Save that has a done row not at all, or some row more than once.
func (l *Life) sumPossible(f *flow, key string, sum map[string]string) {
	l.checked(1)
	sure, possible := 0, 0
	for _, b := range l.Batches {
		if b.Flow != f.Name {
			continue
		}
		for place, row := range b.Rows {
			if row.Key != key || row.NoKey || row.Bad {
				continue
			}
			r := rowOf{b, place}
			t, done := r.done()
			switch {
			case done && !l.lost(t.At, t.Ended):
				sure += row.N
				possible += row.N
			case !l.neverSaved(f, r):
				possible += row.N
			}
		}
	}
	n, err := strconv.Atoi(sum["n"])
	if err != nil || n < sure || n > possible {
		if l.foreign(f.Name) {
			l.excused("of a redrive, or of a client that broke the protocol or went away")
			return
		}
		l.breach(Subject{Flow: f.Name, Key: key}, "the sum of key %q is %q: done rows have %d, and all rows that may have been saved %d", key, sum["n"], sure, possible)
	}
}

// neverSaved reports whether nothing of a row can have been saved: it has no batch id, or its answer says that it was dropped or that a
// function refused it.
func (l *Life) neverSaved(f *flow, r rowOf) bool {
	for _, t := range r.Tries {
		switch {
		case t.NothingRan():
		case t.Answered && t.Outcome(r.place).Code == batch.CodeRowUndecodable && l.fitsOne(f, r, t):
			l.excused("the row fits the row type of one worker and not that of another, and copies of it ran")
			return false
		case t.Answered && waitedInVain(t.Outcome(r.place)) && l.copyRan(f, r, t):
			l.excused("the row waited in vain, and another copy of it ran where a key came later")
			return false
		case t.Answered && refused(f, t.Outcome(r.place)) && !(f.form.Whole && f.form.Sharded && l.runsOf(t.ID, r.place, f.form.Function(f.Name, "batch")) > 1): // another run had other neighbours
		default:
			return false
		}
	}
	return true
}

// waitedInVain reports whether an outcome says that the key of a Load did not come in time.
func waitedInVain(o batch.RowOutcome) bool {
	return o.Code == batch.CodeLoadTimeout || o.Code == batch.CodeLoadMissing
}

// copyRan reports whether more than one copy of a row ran, at a time at which processes were cut off, stopped, or came and went: a worker that
// was given up may be alive, and run the row that its successor runs too (docs/promises.md: nothing is fenced). A function ran for the row
// after its answer, or its first function ran more than once.
func (l *Life) copyRan(f *flow, r rowOf, t *history.Try) bool {
	from, until := t.At, l.end(t)
	if !l.fault(from, until, 2*l.lease(), linkFault) && !l.fault(from, until, 2*l.lease(), pause) && !l.lifeChanged(from, until, 0) {
		return false
	}
	for _, i := range l.runs[t.ID] {
		if run := l.Runs[i]; int(run.ID.Row) == r.place && t.Answered && run.At > t.Ended {
			return true
		}
	}
	return l.runsOf(t.ID, r.place, f.form.Function(f.Name, f.form.Steps[0].Stage)) > 1
}

// refused reports whether an outcome says that a row ended before the Save, or that the Save's function itself refused it.
func refused(f *flow, o batch.RowOutcome) bool {
	switch o.Code {
	case batch.CodeDropped, batch.CodeNotCommitted, batch.CodeAborted, batch.CodeFunctionError, batch.CodeFunctionPanic,
		batch.CodeRowUndecodable, batch.CodeMissingShardKey, batch.CodeLoadMissing, batch.CodeLoadTimeout, batch.CodeNeedsWholeBatch, batch.CodeLineageLost:
		return !f.form.Expands // an Expand's other outputs may be saved
	}
	return false
}

// deadHaveNone reports effects of rows that ended before the Save.
func (l *Life) deadHaveNone() {
	effects := l.effects()
	for _, b := range l.Batches {
		f := l.flows[b.Flow]
		if f == nil || f.declared {
			continue
		}
		for place := range b.Rows {
			r := rowOf{b, place}
			id := r.id()
			if entries := effects[effectOf{id, place}]; len(entries) > 0 && !id.IsZero() && l.neverSaved(f, r) {
				o := b.Last().Outcome(place)
				l.breach(r.subject(), "row %d (key %q) is %s in %s with %s, but the store has %d effects of it", place, r.row().Key, o.Outcome, o.Function, o.Code, len(entries))
			}
		}
	}
}
