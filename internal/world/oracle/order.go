package oracle

import (
	"cmp"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// orderKey is a sequence of rows that have an order: those of one key in one stream and flow. subject is the function that ran them, or the
// store that has their effects.
type orderKey struct {
	stream  batch.StreamID
	flow    string
	key     string
	subject string
}

// place is a row's position in its stream.
type place struct {
	sequence uint64
	row      uint32
}

// before reports whether p comes before q.
func (p place) before(q place) bool {
	return p.sequence < q.sequence || p.sequence == q.sequence && p.row < q.row
}

// OrderPerKey checks the order of the rows of each shard key.
//
// The promise: rows of one client stream that have the same shard key are first executed, and take effect, in the order in which they were
// submitted, whatever workers join, leave or die. This holds for each function: a row that waits holds back later rows of its key. Calls of
// Submit have no order, nor have rows without a shard key. Aside are rows that failed, and those of batches that were refused, unanswered or
// submitted again. Functions are assumed to decide the same when they run again, so excused are rows of which a second copy ran and which
// may end otherwise then, because a wait or a timeout decides: the first copy ended dead, or failed because a store was away for longer than
// its time, its answer was lost, and the second one took effect after later rows. Excused are rows on revisions with different shard keys,
// when the world changed the flow's shard key: they do not have the same shard key.
func OrderPerKey(l *Life) {
	resharded := l.resharded()
	l.runsInOrder(resharded)
	l.effectsInOrder(resharded)
}

// resharded returns the flows of which the world changed the shard key, or may have changed it back.
func (l *Life) resharded() map[string]bool {
	flows := map[string]bool{}
	for _, c := range l.Changes {
		if c.Kind == "shard-key" || c.Kind == "put-back" || c.Kind == "undo" {
			flows[c.Flow] = true
		}
	}
	return flows
}

// last is the latest row of a sequence so far.
type last struct {
	at       place
	revision int64
}

// ordered returns the row that a run or an effect is of, if its order is promised.
func (l *Life) ordered(id batch.RowID, flow string) (r rowOf, ok bool) {
	b := l.batches[id.Batch]
	f := l.flows[flow]
	if b == nil || f == nil || !f.form.Sharded || int(id.Row) >= len(b.Rows) {
		return rowOf{}, false
	}
	r = rowOf{b, int(id.Row)}
	return r, r.settled() && !b.Tries[0].Call && r.row().Key != ""
}

// unsure reports whether a row may have ended in one way when it ran first, and in another when a copy of its batch ran: because it waits
// for a key or blocks, there was no worker for a time and its stream moved to another coordinator, a process was stopped meanwhile, Redis
// answered with errors that blame the row, or it was away for as long as the row's time lasts, or because processes differ in their limits or
// row types.
func (l *Life) unsure(f *flow, r rowOf) bool {
	t := r.Tries[0]
	timed := slices.ContainsFunc(forms.ParseActions(r.row().Do), func(a forms.Action) bool {
		return a.Kind == "block" || a.Kind == "slow" || a.Kind == "sleep"
	})
	waits := slices.ContainsFunc(f.form.Steps, func(s forms.Step) bool {
		return s.Mode == definition.ModeLoad && s.OnMissing != definition.OnMissingNull
	})
	if waits { // a function with a Load is not called for a row that waits in vain, so copies can't be counted
		return true
	}
	if l.refusedByOne(f, r) || l.nobodyThere(t) && (l.comingsAndGoings(t.At, l.end(t)) > 0 || l.fault(t.At, l.end(t), 2*l.lease(), linkFault)) {
		return true
	}
	first := f.form.Steps[0]
	// A function with a Load is not called for a row whose time was up before the connector had answered.
	copied := first.Mode == definition.ModeLoad || l.runsOf(t.ID, r.place, f.form.Function(f.Name, first.Stage)) > 1
	// In a Batch function, the rows that happen to share a call may decide.
	return copied && (timed || f.form.Whole || l.fault(t.At, l.end(t), 2*l.lease(), pause) ||
		l.fault(t.At, l.end(t), 2*l.lease(), redisErrors) || l.timeOver(f, t))
}

// timeOver reports whether a row's time may have been over while it waited for a store that was away, or slow: then its first copy did not end
// as done.
func (l *Life) timeOver(f *flow, t *history.Try) bool {
	return f.usesStore() && l.end(t)-t.At >= l.settingsOf(f).flowTimeout*9/10 &&
		(l.Scenario.Redis.Delay > 0 || l.fault(t.At, l.end(t), 2*l.lease(), redisFault))
}

// nobodyThere reports whether there was no worker for so long while a try was under way that rows of it may have failed for that (NO_WORKER).
// The answer with them is lost when the client's stream moves to another coordinator meanwhile; then they run behind rows that came later.
func (l *Life) nobodyThere(t *history.Try) bool {
	patience := time.Duration(-1)
	for _, life := range l.Lives {
		if life.Kind != history.Coordinator {
			continue
		}
		if own := cmp.Or(life.Settings.NoWorker, defaultNoWorker); patience < 0 || own < patience {
			patience = own
		}
	}
	type span struct{ from, until time.Duration }
	var there []span
	for _, life := range l.Lives {
		if life.Kind != history.Worker {
			continue
		}
		until := l.Ended
		for _, at := range []time.Duration{life.Asked, life.Ended} {
			if at > 0 {
				until = min(until, at)
			}
		}
		there = append(there, span{life.Began, until})
	}
	slices.SortFunc(there, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	last := time.Duration(0)
	for _, s := range append(there, span{l.Ended, l.Ended}) {
		if from, until := max(last, t.At), min(s.from, l.end(t)); until-from >= patience {
			return true
		}
		last = max(last, s.until)
	}
	return false
}

// runsInOrder reports rows that a function ran for the first time after a later row of their key.
func (l *Life) runsInOrder(resharded map[string]bool) {
	latest := map[orderKey]last{}
	ran := map[orderKey]map[place]bool{}
	for _, run := range l.Runs {
		r, ok := l.ordered(run.ID, run.Flow)
		if !ok || run.ID.Visit > 0 {
			continue
		}
		key := orderKey{run.ID.Batch.Stream, run.Flow, r.row().Key, run.Function}
		at := place{run.ID.Batch.Sequence, run.ID.Row}
		if ran[key][at] {
			continue // not its first execution
		}
		if ran[key] == nil {
			ran[key] = map[place]bool{}
		}
		ran[key][at] = true
		l.checked(1)
		before, known := latest[key]
		switch {
		case !known || before.at.before(at):
			latest[key] = last{at, run.Revision}
		case resharded[run.Flow] && before.revision != run.Revision:
			l.excused("the shard key changed between the two rows")
		case l.unsure(l.flows[run.Flow], r):
			l.excused("the row may end otherwise when a further copy of its batch runs")
		default:
			l.breach(Subject{Flow: run.Flow, Key: key.key}, "%s first ran row %d/%d of key %q at %s on %s, after row %d/%d of the same stream",
				run.Function, at.sequence, at.row, key.key, run.At, run.Process, before.at.sequence, before.at.row)
		}
	}
}

// effectsInOrder reports effects that stand in their key's list behind those of later rows.
func (l *Life) effectsInOrder(resharded map[string]bool) {
	lost, all := l.lostEffects(), l.effects()
	for _, s := range l.Stores {
		for stored, list := range s.Lists {
			flow, kind, _, ok := keyOf(stored)
			if !ok || kind != "rows" {
				continue
			}
			here := map[effectOf][]history.Entry{}
			addEffects(here, list)
			latest := map[orderKey]last{}
			for _, text := range list {
				e, err := history.ParseEntry(text)
				if err != nil {
					continue // EffectsOnce reports it
				}
				r, ok := l.ordered(e.ID, flow)
				if !ok {
					continue
				}
				l.checked(1)
				key := orderKey{e.ID.Batch.Stream, flow, r.row().Key, ""}
				at := place{e.ID.Batch.Sequence, e.ID.Row}
				before, known := latest[key]
				revision := r.Tries[0].Revision
				switch {
				case !known || !at.before(before.at):
					latest[key] = last{at, revision}
				case resharded[flow] && before.revision != revision:
					l.excused("the shard key changed between the two rows")
				case len(lost[effectOf{e.ID.Batch, int(e.ID.Row)}]) > 0: // it took place in order, and again when a copy of its batch ran
					l.excused("Redis lost the row's first effect")
				case s.Kind == "memory" && len(all[effectOf{e.ID.Batch, int(e.ID.Row)}]) > len(here[effectOf{e.ID.Batch, int(e.ID.Row)}]): // its batch ran again
					l.excused("the row took effect in the memory of another process, too")
				case l.unsure(l.flows[flow], r):
					l.excused("the row may end otherwise when a further copy of its batch runs")
				default:
					l.breach(Subject{Flow: flow, Key: key.key}, "the effect of row %d/%d of key %q stands behind that of row %d/%d of the same stream", at.sequence, at.row, key.key, before.at.sequence, before.at.row)
				}
			}
		}
	}
}

// refusedByOne reports whether a copy of a row's batch ran, and the row is too large for one process and not for another of its kind, or fits
// the row type of one worker's build and not that of another's: the first copy of it may have been dead before it came to a function, or to a
// Save.
func (l *Life) refusedByOne(f *flow, r rowOf) bool {
	t := r.Tries[0]
	return l.limitsDiffer() && l.tooLarge(f, r) && l.copies(r.Batch, t) > 1 || l.fitsOne(f, r, t)
}

// limitsDiffer reports whether two coordinators have other limits for the bytes of a row or a batch, or two workers for those of a batch.
func (l *Life) limitsDiffer() bool {
	type limits struct {
		kind       history.Kind
		row, batch int
	}
	first := map[history.Kind]limits{}
	for _, life := range l.Lives {
		own := limits{kind: life.Kind, batch: life.Settings.BatchBytes}
		if life.Kind == history.Coordinator {
			own.row = life.Settings.RowBytes
		}
		if other, known := first[life.Kind]; known && other != own {
			return true
		}
		first[life.Kind] = own
	}
	return false
}

// fitsOne reports whether a Calculate function got a row of a try in one copy of its batch and not in another, and the builds of workers differ
// in the row type of such functions.
func (l *Life) fitsOne(f *flow, r rowOf, t *history.Try) bool {
	at := slices.IndexFunc(f.form.Steps, func(s forms.Step) bool { return s.Mode == definition.ModeCalculate && !s.Declared })
	if at < 0 || !l.settingsOf(f).otherRows {
		return false
	}
	ran := l.runsOf(t.ID, r.place, f.form.Function(f.Name, f.form.Steps[at].Stage))
	return 0 < ran && ran < l.copies(r.Batch, t)
}
