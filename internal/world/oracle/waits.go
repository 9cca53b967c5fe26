package oracle

import (
	"slices"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/forms"
	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// mayWait reports whether rows of a try may wait until a time: because rows of a key wait one after the other, or copies of a batch do that
// was sent again. Faults and changes may keep a row from beginning its wait; after the last of them it does.
func (l *Life) mayWait(b *history.Batch, t *history.Try, until time.Duration) bool {
	f := l.flows[b.Flow]
	copies := 1 // those of which no function has noted a run: rows that wait for a connector may not have come to a function yet
	if f != nil && l.storeAway(f, b) {
		copies += l.comingsAndGoings(t.At, until) + l.moves(t) + l.coordinatorsStopped(t.At, until)
		if l.badConnector() {
			copies *= copies // the rows before it, and those behind which these wait, were sent again as often
		}
	}
	if time.Duration(copies)*l.longestWait(b) > until-l.undisturbed(t.At) {
		return true
	}
	return f != nil && f.form.Stretch && l.patience(f) > until-t.At // its rows' round trips, one after the other
}

// stillWaits reports whether workers may have rows that wait when the record looks at the processes for the last time, although nobody waits
// for their answers any more.
func (l *Life) stillWaits() bool {
	return slices.ContainsFunc(l.Batches, l.waitsAtTheEnd)
}

// stillWaitsIn reports the same for the rows of one flow.
func (l *Life) stillWaitsIn(flow string) bool {
	return slices.ContainsFunc(l.Batches, func(b *history.Batch) bool { return b.Flow == flow && l.waitsAtTheEnd(b) })
}

// waitsAtTheEnd reports it for the rows of one batch.
func (l *Life) waitsAtTheEnd(b *history.Batch) bool {
	return b.Client != Probe && slices.ContainsFunc(b.Tries, func(t *history.Try) bool { return l.mayWait(b, t, l.Final.At) && unwaited(t) })
}

// unwaited reports whether rows of a try may still be at a worker although nobody waits for their answers any more.
func unwaited(t *history.Try) bool {
	return t.Ended == 0 || t.Gone || !t.Answered || slices.ContainsFunc(t.NotDone, func(o batch.RowOutcome) bool { return o.Outcome == batch.Failed })
}

// lanesHeldUp reports whether rows for which nobody waits any more may hold up the lanes of a flow at a time after calm began, because their
// functions do not return: one after the other, each for as long as it asks for, or for the function's timeout. Functions that block return
// when calm begins.
func (l *Life) lanesHeldUp(flow string, at time.Duration) bool {
	f := l.flows[flow]
	if f == nil {
		return false
	}
	s := l.settingsOf(f)
	busy := time.Duration(0)
	for _, b := range l.Batches {
		if b.Flow != flow || b.Client == Probe || !slices.ContainsFunc(b.Tries, unwaited) {
			continue
		}
		copies := len(b.Tries)
		for _, t := range b.Tries {
			copies = max(copies, l.copies(b, t))
		}
		for _, row := range b.Rows {
			for _, a := range forms.ParseActions(row.Do) {
				switch a.Kind {
				case "hang":
					busy += time.Duration(copies) * (s.longestTimeout + time.Second) // a call is left behind a second after its timeout
				case "slow", "sleep":
					busy += time.Duration(copies) * a.Lasts
				}
			}
		}
	}
	return busy > at-l.Calm
}

// copies returns how often the first function ran for some row of a batch at most: how many copies of the batch workers had, one after the
// other. Runs beyond those that the tries of its client, faults, coordinators that came and went, and three deaths of workers by each poisoned
// row explain do not count: a row that goes on killing its workers excuses nothing.
func (l *Life) copies(b *history.Batch, t *history.Try) int {
	counts := map[uint32]int{}
	most := 0
	f := l.flows[b.Flow]
	if f == nil {
		return 0
	}
	for _, i := range l.runs[t.ID] {
		run := l.Runs[i]
		if f.stages[run.Function] == 0 && run.Attempt == 1 && run.ID.Visit == 0 {
			counts[run.ID.Row]++
			most = max(most, counts[run.ID.Row])
		}
	}
	return min(most, l.mostCopies(b))
}

// mostCopies returns how many copies of a batch workers may have had.
func (l *Life) mostCopies(b *history.Batch) int {
	if l.repeats == 0 {
		l.repeats = len(l.Faults) + l.comingsAndGoings(0, l.Ended) + 10 // connections break by themselves, too, where a client stands still
		for _, other := range l.Batches {
			for _, row := range other.Rows {
				if strings.Contains(row.Do, "poison") {
					l.repeats += 3
				}
			}
		}
	}
	return l.repeats + len(b.Tries)
}

// undisturbed returns the time from which on no fault and no change is in the way of a batch that is submitted at a time. It is not after the
// calm began.
func (l *Life) undisturbed(from time.Duration) time.Duration {
	last := from
	for _, f := range l.Faults {
		last = max(last, min(l.until(f), l.Calm))
	}
	for _, c := range l.Changes {
		last = max(last, min(c.At, l.Calm))
	}
	return last
}

// comingsAndGoings returns how many coordinators ended or began within a time. When one ends, its clients send unanswered batches again; when
// one begins, streams move to it, and their clients do so too, after five seconds.
func (l *Life) comingsAndGoings(from, until time.Duration) int {
	n := 0
	for _, life := range l.Lives {
		if life.Kind != history.Coordinator {
			continue
		}
		for _, at := range []time.Duration{life.Began, life.Ended} {
			if from < at && at < until {
				n++
			}
		}
	}
	return n
}

// coordinatorsStopped returns how often a coordinator was stopped within a time, for so long that its clients may have given their streams up.
// They send unanswered batches again then.
func (l *Life) coordinatorsStopped(from, until time.Duration) int {
	n := 0
	for _, f := range l.Faults {
		if pause(f) && l.until(f)-f.At >= time.Second && f.At < until && l.until(f) > from && slices.ContainsFunc(l.Lives, func(life *history.Life) bool {
			return life.Kind == history.Coordinator && life.Process == f.Who
		}) {
			n++
		}
	}
	return n
}

// movePatience is the least time between two moves of a stream. Coordinators ask for them so that each has its share of streams.
const movePatience = 8 * time.Second

// moves returns how often the stream of a try may have moved to another coordinator while rows wait for a connector with a wrong address.
// Each time, the client sends unanswered batches again. Streams move when others come and go, as clients with faults do.
func (l *Life) moves(t *history.Try) int {
	if t.Call || len(l.Scenario.Coordinators) < 2 || !l.badConnector() {
		return 0
	}
	return int((l.undisturbed(t.At) - t.At) / movePatience)
}

// storeAway reports whether the flow of a batch uses Redis, and it was in trouble, or had a wrong address, from the batch's first try to the
// end of its last one.
func (l *Life) storeAway(f *flow, b *history.Batch) bool {
	from, until := l.span(b)
	return f.usesStore() && (l.fault(from, until, 2*l.lease(), redisFault) || l.badConnector())
}

// longestWait returns how long the rows of one key, of those in a batch, may take one after the other: the flow's timeout for each copy of a
// row of the key that was submitted until then and waits for something, after the functions of the flow's rows that take long. Rows of a
// flow that uses Redis may wait for it, too, if it was in trouble.
func (l *Life) longestWait(b *history.Batch) time.Duration {
	f := l.flows[b.Flow]
	if f == nil {
		return 0
	}
	s := l.settingsOf(f)
	_, until := l.span(b)
	away := l.storeAway(f, b)
	waiting := map[string]int{}
	busy := time.Duration(0) // lanes are shared: a function that does not return holds up rows of other keys, too
	for _, other := range l.Batches {
		if other.Flow != b.Flow || len(other.Tries) == 0 || other.Tries[0].At > until {
			continue
		}
		copies := len(other.Tries)
		for _, t := range other.Tries {
			copies = max(copies, l.copies(other, t))
		}
		for place, row := range other.Rows {
			for _, a := range forms.ParseActions(row.Do) {
				switch a.Kind {
				case "block", "hang":
					busy += time.Duration(copies) * s.longestTimeout
				case "slow", "sleep":
					busy += time.Duration(copies) * a.Lasts
				}
			}
			if away || l.waits(f, rowOf{other, place}, s) > 0 {
				waiting[row.Key] += copies
			}
		}
	}
	most := 0
	for _, row := range b.Rows {
		most = max(most, waiting[row.Key])
	}
	return busy + time.Duration(most)*s.flowTimeout
}

// badConnector reports whether the world gave the connector a wrong address for a time.
func (l *Life) badConnector() bool {
	return slices.ContainsFunc(l.Changes, func(c history.Change) bool { return c.Kind == "bad-connector" })
}

// atWork reports whether other rows of a flow came forward all the time until a late answer: there was more to do than time. Rows of a key
// take one round trip to the store after the other, and one of them takes a second where a Save waits for a replica that lags.
//
// A row comes forward when a function gets it for the first time, or when its batch is answered for the first time. Runs in which rows are
// repeated do not count, so rows that stand still while a poisoned row of theirs kills worker after worker are not excused. Nor are rows
// that stay behind when the others have ended.
func (l *Life) atWork(b *history.Batch, t *history.Try) bool {
	f := l.flows[b.Flow]
	if f == nil {
		return false
	}
	pause := l.longestPause(f, b)
	at := l.undisturbed(t.At)
	for _, next := range l.steps(f.Name) {
		switch {
		case next < at:
		case next > t.Ended:
			return t.Ended-at <= pause
		case next-at > pause:
			return false
		default:
			at = next
		}
	}
	return t.Ended-at <= pause
}

// longestPause returns how long no row of a flow may come forward while one of them takes its time: the timeouts of a row and of a function,
// and ten seconds for a worker to be replaced. When the store is away, each row of a batch waits for it on its own.
func (l *Life) longestPause(f *flow, b *history.Batch) time.Duration {
	s := l.settingsOf(f)
	waits := 1
	if l.storeAway(f, b) {
		for _, other := range l.Batches {
			if other.Flow == f.Name {
				waits = max(waits, len(other.Rows))
			}
		}
	}
	return time.Duration(waits)*s.flowTimeout + s.longestTimeout + 10*time.Second
}

// steps returns when rows of a flow came forward, in order.
func (l *Life) steps(flow string) []time.Duration {
	if known, ok := l.forward[flow]; ok {
		return known
	}
	type call struct {
		row      batch.RowID
		function string
	}
	var all []time.Duration
	seen := map[call]bool{}
	for _, r := range l.Runs {
		if c := (call{r.ID, r.Function}); r.Flow == flow && !seen[c] {
			seen[c] = true
			all = append(all, r.At)
		}
	}
	for _, b := range l.Batches {
		if i := slices.IndexFunc(b.Tries, func(t *history.Try) bool { return t.Answered }); b.Flow == flow && i >= 0 {
			all = append(all, b.Tries[i].Ended)
		}
	}
	slices.Sort(all)
	l.forward[flow] = all
	return all
}
