//go:build linux

package chaos

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// lineID names a line: all rows of one key that one client sent.
type lineID struct{ client, key uint32 }

// line has the rows of one line and how they ran. Row i has the sequence i+1.
type line struct {
	sends      []*sent
	unordered  []bool
	executions [][]execution // by row: its executions, the earliest first
}

// first is the time of the first execution of row i, in nanoseconds since 1970; 0 means that it never ran.
func (l *line) first(i int) int64 {
	if len(l.executions[i]) == 0 {
		return 0
	}
	return l.executions[i][0].at
}

// verifier compares the ledgers of the clients with the records of the workers.
type verifier struct {
	workers    []string // names, by index
	events     []*event
	executions []execution // all executions, the earliest first
	lines      map[lineID]*line
	rows       int
	reruns     int
	late       []*sent // batches, the longest first
	breaches   []string
}

// breach notes that a promise of the cluster was broken, for the report.
func (v *verifier) breach(format string, args ...any) {
	v.breaches = append(v.breaches, fmt.Sprintf(format, args...))
}

// load sorts the batches of the clients' ledgers, and the executions that workers recorded, by line.
func (v *verifier) load(ledgers [][]*sent, executions []execution) {
	v.lines = map[lineID]*line{}
	for _, ledger := range ledgers {
		for _, s := range ledger {
			for i, r := range s.rows {
				id := lineID{r.Client, r.Key}
				l := v.lines[id]
				if l == nil {
					l = &line{}
					v.lines[id] = l
				}
				l.sends, l.unordered = append(l.sends, s), append(l.unordered, s.outOfOrder[i])
				l.executions = append(l.executions, nil)
				v.rows++
			}
			v.late = append(v.late, s)
		}
	}
	slices.SortFunc(v.late, func(a, b *sent) int { return cmp.Compare(b.answer.Sub(b.at), a.answer.Sub(a.at)) })
	slices.SortFunc(executions, func(a, b execution) int { return cmp.Compare(a.at, b.at) })
	v.executions = executions
	for _, e := range executions {
		l := v.lines[lineID{e.Client, e.Key}]
		if l == nil || e.Sequence == 0 || e.Sequence > uint64(len(l.sends)) {
			v.breach("%s executed %+v, which nobody sent", v.workers[e.worker], e.row)
			continue
		}
		l.executions[e.Sequence-1] = append(l.executions[e.Sequence-1], e)
	}
}

// check checks every line: each row ran before it was answered, rows ran in order, and all rows of a batch ran on one revision.
func (v *verifier) check() {
	revisions := map[*sent]int64{}
	for id, l := range v.lines {
		highest, before := int64(0), -1
		for i := range l.sends {
			s, at := l.sends[i], l.first(i)
			v.reruns += max(0, len(l.executions[i])-1)
			problem := ""
			switch {
			case at == 0 && s.answer.IsZero():
				problem = "has no answer, and was never executed"
			case at == 0:
				problem = "is done, and was never executed"
			case s.answer.IsZero():
				problem = "has no answer"
			case at > s.answer.UnixNano():
				problem = "was answered before it was executed"
			case at < highest && !l.unordered[i]:
				problem = fmt.Sprintf("was first executed before row %d", before+1)
			}
			for _, e := range l.executions[i] {
				if r := revisions[s]; r != 0 && r != e.revision {
					problem = fmt.Sprintf("ran on revision %d, and its batch on %d", e.revision, r)
				}
				revisions[s] = e.revision
			}
			if problem != "" {
				v.breach("client %d, key %d: row %d %s\n%s", id.client, id.key, i+1, problem, v.history(l, i))
				break // one breach of a line is enough
			}
			if !l.unordered[i] {
				highest, before = at, i
			}
		}
	}
}

// history describes the rows around row i of a line, and the events at that time.
func (v *verifier) history(l *line, i int) string {
	var b strings.Builder
	from, to := max(0, i-6), min(len(l.sends), i+7)
	for j := from; j < to; j++ {
		s := l.sends[j]
		fmt.Fprintf(&b, "    row %d, batch %s: sent %s", j+1, s.batch.ID(), clock(s.at))
		if s.tries > 1 {
			fmt.Fprintf(&b, ", %d times", s.tries)
		}
		if l.unordered[j] {
			b.WriteString(", out of order")
		}
		if !s.answer.IsZero() {
			fmt.Fprintf(&b, ", done %s", clock(s.answer))
		}
		for _, e := range l.executions[j] {
			fmt.Fprintf(&b, "; %s on %s", clock(time.Unix(0, e.at)), v.workers[e.worker])
		}
		b.WriteByte('\n')
	}
	for _, e := range v.events {
		if e.until.After(l.sends[from].at.Add(-3*time.Second)) && e.at.Before(l.sends[to-1].at.Add(3*time.Second)) {
			fmt.Fprintf(&b, "    %s to %s: %s %s\n", clock(e.at), clock(e.until), e.kind, e.what)
		}
	}
	return b.String()
}

// clock is a time of day with microseconds.
func clock(t time.Time) string { return t.Format("15:04:05.000000") }

// pauses returns for how long an event delayed rows: for each affected key the time of the row that it delayed most, sorted. The
// time counts from the event, or from when the row was sent if that was later, to the first execution of the row.
func (v *verifier) pauses(e *event) []time.Duration {
	byKey := map[uint32]time.Duration{}
	owners := v.owners(e.at)
	for id, l := range v.lines {
		if owner, known := owners[id.key]; e.worker >= 0 && (!known || owner != e.worker) {
			continue
		}
		for i, s := range l.sends {
			first := time.Unix(0, l.first(i))
			if l.unordered[i] || l.first(i) == 0 || first.Before(e.at) || s.at.After(e.until.Add(time.Second)) {
				continue
			}
			from := s.at
			if from.Before(e.at) {
				from = e.at
			}
			byKey[id.key] = max(byKey[id.key], first.Sub(from))
		}
	}
	all := make([]time.Duration, 0, len(byKey))
	for _, d := range byKey {
		all = append(all, d)
	}
	slices.Sort(all)
	return all
}

// owners is, by key, the worker that executed a row of the key last, in the ten seconds before a time.
func (v *verifier) owners(before time.Time) map[uint32]int {
	end := before.UnixNano()
	owners := map[uint32]int{}
	for _, e := range v.executions {
		switch {
		case e.at >= end:
			return owners
		case e.at > end-int64(10*time.Second):
			owners[e.Key] = e.worker
		}
	}
	return owners
}

// alone reports whether no other event was under way from a second before an event until a second after it.
func (v *verifier) alone(e *event) bool {
	for _, o := range v.events {
		if o != e && o.until.Add(time.Second).After(e.at) && o.at.Before(e.until.Add(time.Second)) {
			return false
		}
	}
	return true
}

// report prints the figures.
func (v *verifier) report(to io.Writer) {
	type figures struct {
		events, alone int
		keys          []time.Duration // delays of keys by events that were alone
		longest       time.Duration
	}
	kinds := map[string]*figures{}
	for _, e := range v.events {
		f := kinds[e.kind]
		if f == nil {
			f = &figures{}
			kinds[e.kind] = f
		}
		f.events++
		pauses := v.pauses(e)
		if len(pauses) > 0 {
			f.longest = max(f.longest, pauses[len(pauses)-1])
		}
		if v.alone(e) {
			f.alone++
			f.keys = append(f.keys, pauses...)
		}
	}
	fmt.Fprintf(to, "%-18s %6s %6s %7s %8s %8s %8s %8s\n", "pause of keys", "events", "alone", "keys", "p50", "p99", "longest", "any")
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f := kinds[name]
		slices.Sort(f.keys)
		at := func(q float64) string {
			if len(f.keys) == 0 {
				return "-"
			}
			return milliseconds(f.keys[int(q*float64(len(f.keys)-1))])
		}
		fmt.Fprintf(to, "%-18s %6d %6d %7d %8s %8s %8s %8s\n", name, f.events, f.alone, len(f.keys), at(0.5), at(0.99), at(1), milliseconds(f.longest))
	}
}

// milliseconds is a duration in whole milliseconds.
func milliseconds(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
