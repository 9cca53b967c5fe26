package oracle

import (
	"time"

	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// OutcomeOnce checks that every row of an answered batch has exactly one outcome.
//
// The promise: each submitted row ends as done, filtered, aborted, dead or failed; an answer lists the rows that are not done, once each,
// and a row that is listed has another outcome than done. Nothing is excused. Answered checks that the answer comes at all.
func OutcomeOnce(l *Life) {
	for _, b := range l.Batches {
		for _, t := range b.Tries {
			if !t.Answered {
				continue
			}
			l.checked(len(b.Rows))
			last := -1
			for _, o := range t.NotDone {
				r := rowOf{b, int(o.Row)}
				switch {
				case int(o.Row) >= len(b.Rows):
					l.breach(Subject{Flow: b.Flow, Batch: t.ID}, "the answer has an outcome for row %d of a batch of %d rows", o.Row, len(b.Rows))
				case int(o.Row) <= last:
					l.breach(r.subject(), "the answer has a second outcome for row %d, or its rows are not in order", o.Row)
				case o.Outcome <= batch.Done || o.Outcome > batch.Failed:
					l.breach(r.subject(), "row %d is listed among the rows that are not done, with the outcome %d", o.Row, o.Outcome)
				case o.Outcome == batch.Dead && !o.Kept && o.NotKept == 0:
					l.breach(r.subject(), "row %d is dead, and the answer says neither that it is kept as a dead letter nor why not", o.Row)
				}
				last = int(o.Row)
			}
		}
	}
}

// LedgerAddsUp checks the counts that each coordinator exports.
//
// The promise: at every moment, for each flow and coordinator process, the rows in are the rows done, filtered, aborted, dead and failed and
// those in flight. Counts of one process never go back. At the end, the coordinators together have counted as done at least the rows that
// clients were told are done. Excused is the last sentence where a coordinator ended, since its counts end with it.
func LedgerAddsUp(l *Life) {
	type count struct{ in, ended float64 }
	done, ended := map[string]float64{}, false
	for _, life := range l.Lives {
		if life.Kind != history.Coordinator {
			continue
		}
		last := map[string]count{}
		snaps := life.Snaps
		if l.Final != nil && !l.over(life) {
			if s, ok := l.Final.Snaps[life.Process]; ok {
				snaps = append(snaps[:len(snaps):len(snaps)], s)
			}
		}
		ended = ended || l.over(life)
		for _, s := range snaps {
			now := map[string]count{}
			inFlight := map[string]float64{}
			for _, m := range s.Metrics {
				flow := m.Labels["flow"]
				c := now[flow]
				switch m.Name {
				case "kisgrid_rows_in_total":
					c.in += m.Value
				case "kisgrid_rows_ended_total":
					c.ended += m.Value
				case "kisgrid_rows_in_flight":
					inFlight[flow] = m.Value
				default:
					continue
				}
				now[flow] = c
			}
			for flow, c := range now {
				l.checked(1)
				subject := Subject{Flow: flow, Process: life.Process}
				if c.in != c.ended+inFlight[flow] || inFlight[flow] < 0 {
					l.breach(subject, "at %s, %g rows are in, %g ended and %g are in flight", s.At, c.in, c.ended, inFlight[flow])
				}
				if before, known := last[flow]; known && (c.in < before.in || c.ended < before.ended) && !l.forgotten(flow, s.At) {
					l.breach(subject, "at %s, the counts went back from %g in and %g ended to %g and %g", s.At, before.in, before.ended, c.in, c.ended)
				}
			}
			last = now
		}
		if l.Final != nil && !l.over(life) {
			s := l.Final.Snaps[life.Process]
			for _, m := range s.Metrics {
				if m.Name == "kisgrid_rows_ended_total" && m.Labels["outcome"] == batch.Done.String() {
					done[m.Labels["flow"]] += m.Value
				}
			}
		}
	}
	if l.Final == nil || len(l.Final.Snaps) == 0 {
		return
	}
	if ended {
		l.excused("a coordinator ended, with its counts")
		return
	}
	told := map[string]float64{}
	for _, b := range l.Batches {
		for _, t := range b.Tries {
			if t.Answered && t.Ended < l.Final.At {
				told[b.Flow] += float64(len(b.Rows) - len(t.NotDone))
			}
		}
	}
	for flow, n := range told {
		l.checked(1)
		switch {
		case done[flow] >= n:
		case l.forgotten(flow, l.Ended):
			l.excused("the flow was deleted, with its counts")
		default:
			l.breach(Subject{Flow: flow}, "clients were told that %g rows are done, and the coordinators counted %g", n, done[flow])
		}
	}
}

// forgotten reports whether the documents of a flow were gone for a while before a time: then coordinators may forget its counts.
func (l *Life) forgotten(flow string, at time.Duration) bool {
	for _, d := range l.Documents {
		if d.Kind == "flow" && d.Name == flow && (d.Deleted || d.Epoch > 1) && d.At <= at {
			return true
		}
	}
	for _, e := range l.Events {
		if e.Kind == history.EtcdLost && e.At <= at {
			return true
		}
	}
	return false
}

// NothingRan checks the claims that nothing of a batch ran.
//
// The promise: an error about a batch that does not match ErrUnanswered means that no row of the batch ever ran: in this call, in an earlier
// one, or later. So no run is recorded for a batch with this error as its last answer, and the store has nothing of it. And every run belongs
// to a batch that somebody submitted. Runs before the batch was sent in a first try and answered are not meant: an answer with outcomes makes
// no claim for earlier tries. Excused are runs of unknown batches in flows with dead letters that are run again, with clients that break the
// protocol, and with clients that went away before they learned an id.
func NothingRan(l *Life) {
	effects := l.effects()
	for _, b := range l.Batches {
		for i, t := range b.Tries {
			if !t.NothingRan() {
				continue
			}
			l.checked(1)
			if i > 0 && answeredBefore(b.Tries[:i]) {
				// The program knew the outcome of an earlier try. A refusal of the next one says that this one did nothing; runs of the
				// earlier one can't be told apart by their id.
				l.excused("answered before")
				continue
			}
			if t.ID.IsZero() {
				continue // runs of it would be runs of an unknown batch
			}
			for _, r := range l.runs[t.ID] {
				run := l.Runs[r]
				if i+1 < len(b.Tries) && run.At >= b.Tries[i+1].At {
					continue // it ran in a later try
				}
				l.breach(Subject{Flow: b.Flow, Batch: t.ID}, "the client was told that nothing ran (%s), but %s ran %s for row %d at %s", t.Err, run.Process, run.Function, run.ID.Row, run.At)
				break
			}
			if i+1 == len(b.Tries) {
				for place := range b.Rows {
					if n := len(effects[effectOf{t.ID, place}]); n > 0 {
						l.breach(rowOf{b, place}.subject(), "the client was told that nothing ran (%s), but the store has %d effects of row %d", t.Err, n, place)
						break
					}
				}
			}
		}
	}
	for id, runs := range l.runs {
		run := l.Runs[runs[0]]
		l.checked(1)
		if l.batches[id] != nil || l.flows[run.Flow] == nil {
			continue
		}
		if l.foreign(run.Flow) {
			l.excused("a batch of a redrive, or of a client that broke the protocol or went away")
			continue
		}
		l.breach(Subject{Flow: run.Flow, Batch: id}, "%s ran %s at %s for a batch that nobody submitted under this id", run.Process, run.Function, run.At)
	}
}

// answeredBefore reports whether one of the tries was answered with outcomes.
func answeredBefore(tries []*history.Try) bool {
	for _, t := range tries {
		if t.Answered {
			return true
		}
	}
	return false
}

// Answered checks that clients get their answers.
//
// The promise: while clients stay, every batch ends: with an outcome for each row, or with an error that says whether something may have run.
// After calm nothing is in the way of an answer, so all answers are there when calm is over. A batch with a deadline has its answer soon
// after it, also during faults. Excused are clients that went away; late answers while a fault was under way, or a process or the client's program was stopped; and
// answers after calm of rows that wait, for a key, a store or in their functions: rows of one key wait one after the other, each for the
// flow's timeout at the most; and where the client lost its coordinator meanwhile, each copy of the batch that it sent waits behind the one
// before; and answers that come while the flow's other rows end one after the other without a pause.
func Answered(l *Life) {
	if l.Calm == 0 {
		return
	}
	calm := l.Calm + l.Scenario.Calm
	for _, b := range l.Batches {
		if b.Client == Probe {
			continue // StatusTrue looks at it
		}
		for i, t := range b.Tries {
			if t.Gone && t.Ended < calm {
				l.excused("the client went away")
				continue
			}
			l.checked(1)
			subject := Subject{Flow: b.Flow, Batch: t.ID}
			switch {
			case (t.Ended == 0 || t.Gone) && l.mayWait(b, t, l.end(t)):
				l.excused("rows of one key wait one after the other, for longer than the record lasts")
			case t.Ended == 0 || t.Gone:
				l.breach(subject, "%s's batch %d, try %d, submitted at %s, has no answer at the end, %s after calm began", b.Client, b.Number, i+1, t.At, l.end(t)-l.Calm)
			case !t.Answered && t.Err == "":
				l.breach(subject, "%s's batch %d, try %d, ended with neither outcomes nor an error", b.Client, b.Number, i+1)
			case t.Ended > calm:
				if l.mayWait(b, t, t.Ended) {
					l.excused("rows of one key waited one after the other, or copies of a batch that was sent again did")
				} else if l.atWork(b, t) {
					l.excused("the flow's rows went on all the time: there was more to do than time")
				} else {
					l.breach(subject, "%s's batch %d, try %d, submitted at %s, was answered %s after calm began; its rows and those before them ask for waits of %s at the most",
						b.Client, b.Number, i+1, t.At, t.Ended-l.Calm, l.longestWait(b))
				}
			case t.Deadline > 0 && t.Ended > t.Deadline+lateness:
				switch {
				case l.fault(t.At, t.Ended, 2*l.lease(), anyFault):
					l.excused("late, during a fault")
				case l.client(b.Client).How == "slow":
					l.excused("late, because the client's program stood still")
				default:
					l.breach(subject, "%s's batch %d, try %d, was answered %s after its deadline", b.Client, b.Number, i+1, t.Ended-t.Deadline)
				}
			}
		}
	}
}

// lateness is how long after its deadline a batch may be answered.
const lateness = 5 * time.Second

// lease returns the longest lease of all processes.
func (l *Life) lease() time.Duration {
	longest := time.Duration(0)
	for _, life := range l.Lives {
		lease := life.Settings.Lease
		if lease == 0 {
			lease = defaultLease
		}
		longest = max(longest, lease)
	}
	return longest
}

// defaultLease is the default of the flag --lease.
const defaultLease = 10 * time.Second

// defaultNoWorker is the default of the coordinators' flag --no-worker.
const defaultNoWorker = 10 * time.Second
