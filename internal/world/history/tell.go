package history

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// line is one line of a story.
type line struct {
	at   time.Duration
	text string
}

// story gathers lines about one subject.
type story struct{ lines []line }

// add adds a line of a moment.
func (s *story) add(at time.Duration, format string, args ...any) {
	s.lines = append(s.lines, line{at, fmt.Sprintf(format, args...)})
}

// text returns the lines in order of time.
func (s *story) text() string {
	slices.SortStableFunc(s.lines, func(a, b line) int { return int(a.at - b.at) })
	var b strings.Builder
	for _, l := range s.lines {
		fmt.Fprintf(&b, "%10s  %s\n", l.at.Round(time.Millisecond/10), l.text)
	}
	return b.String()
}

// KeyStory tells in order of time what happened to the rows of one key of a flow: their batches, the functions that ran for them, their
// answers, and the faults and lives of processes meanwhile. It ends with what the stores have of the key. An empty key means all rows.
func (h *History) KeyStory(flow, key string) string {
	return h.rowsStory(func(b *Batch, place int) bool {
		return b.Flow == flow && (key == "" || b.Rows[place].Key == key)
	}, func(run Run) bool { return run.Flow == flow && (key == "" || run.Key == key) }, key)
}

// BatchStory tells in order of time what happened to one batch.
func (h *History) BatchStory(id batch.ID) string {
	return h.rowsStory(func(b *Batch, _ int) bool { return b.Has(id) }, func(run Run) bool { return run.ID.Batch == id }, "")
}

// RowStory tells in order of time what happened to one row of a batch.
func (h *History) RowStory(id batch.ID, row int) string {
	return h.rowsStory(func(b *Batch, place int) bool { return b.Has(id) && place == row },
		func(run Run) bool { return run.ID.Batch == id && int(run.ID.Row) == row }, "")
}

// Has reports whether one of the batch's tries had this id.
func (b *Batch) Has(id batch.ID) bool {
	return slices.ContainsFunc(b.Tries, func(t *Try) bool { return t.ID == id })
}

// RevisionStory tells in order of time how the documents of a flow changed, and on which revisions its batches ran.
func (h *History) RevisionStory(flow string) string {
	var s story
	h.tellDocuments(&s)
	h.tellSurroundings(&s, 0, h.Ended)
	type seen struct {
		revision int64
		mark     string
		function string
	}
	first := map[seen]bool{}
	for _, run := range h.Runs {
		k := seen{run.Revision, run.Mark, run.Function}
		if run.Flow == flow && !first[k] {
			first[k] = true
			s.add(run.At, "%s.%d runs %s with mark %q on revision %d for the first time: batch %s", run.Process, run.Life, run.Function, run.Mark, run.Revision, run.ID.Batch)
		}
	}
	last := int64(-1)
	for _, b := range h.Batches {
		for _, t := range b.Tries {
			if b.Flow == flow && t.Answered && t.Revision != last {
				last = t.Revision
				s.add(t.Ended, "%s's batch %d is answered on revision %d", b.Client, b.Number, t.Revision)
			}
		}
	}
	for _, c := range h.Calls {
		if strings.HasSuffix(c.Subject, "/"+flow) {
			s.add(c.At, "%s %s at %s: %s%s", c.Verb, c.Subject, c.Coordinator, c.Error, short(c.Answer, 200))
		}
	}
	return s.text()
}

// Surroundings tells in order of time of faults, changes of documents, and lives of processes.
func (h *History) Surroundings() string {
	var s story
	h.tellSurroundings(&s, 0, h.Ended)
	return s.text()
}

// rowsStory tells of the rows and runs that the functions choose. key is the key whose content in the stores is told; empty means none.
func (h *History) rowsStory(rows func(b *Batch, place int) bool, runs func(Run) bool, key string) string {
	var s story
	first, last := h.Ended, time.Duration(0)
	mark := func(at time.Duration) { first, last = min(first, at), max(last, at) }
	for _, b := range h.Batches {
		var places []int
		for i := range b.Rows {
			if rows(b, i) {
				places = append(places, i)
			}
		}
		if len(places) == 0 {
			continue
		}
		for i, t := range b.Tries {
			mark(t.At)
			s.add(t.At, "%s submits batch %d (%s), try %d: %s", b.Client, b.Number, t.ID, i+1, b.describe(places))
			if t.Ended == 0 {
				continue
			}
			mark(t.Ended)
			s.add(t.Ended, "%s's batch %d, try %d: %s", b.Client, b.Number, i+1, t.describe(places))
		}
		if b.GaveUp > 0 {
			s.add(b.GaveUp, "%s gives batch %d up", b.Client, b.Number)
		}
	}
	for _, run := range h.Runs {
		if runs(run) {
			mark(run.At)
			s.add(run.At, "%s.%d runs %s (mark %q, revision %d) for row %s, n %d, key %q, attempt %d", run.Process, run.Life, run.Function, run.Mark, run.Revision, run.ID, run.N, run.Key, run.Attempt)
		}
	}
	h.tellSurroundings(&s, first-5*time.Second, last+5*time.Second)
	text := s.text()
	if key != "" {
		text += h.storesStory(key)
	}
	return text
}

// storesStory tells what the stores have of the keys that contain a row's key.
func (h *History) storesStory(key string) string {
	var b strings.Builder
	for _, store := range h.Stores {
		for k, list := range store.Lists {
			if strings.HasSuffix(k, key) {
				fmt.Fprintf(&b, "  %s%s list %s: %s\n", store.Connector, in(store.Worker), k, short(strings.Join(list, " "), 4000))
			}
		}
		for k, hash := range store.Hashes {
			if strings.HasSuffix(k, key) {
				fmt.Fprintf(&b, "  %s%s hash %s: %v\n", store.Connector, in(store.Worker), k, hash)
			}
		}
	}
	return b.String()
}

// in returns " in" and the name of a worker; empty for no worker.
func in(worker string) string {
	if worker == "" {
		return ""
	}
	return " in " + worker
}

// tellDocuments adds lines for all writes of documents.
func (h *History) tellDocuments(s *story) {
	for _, d := range h.Documents {
		what := "is written"
		switch {
		case d.Deleted:
			what = "is deleted"
		case d.Restored:
			what = "came back from a snapshot"
		}
		s.add(d.At, "etcd (data %d) at revision %d: %s/%s %s, mark %q", d.Epoch, d.Revision, d.Kind, d.Name, what, d.Mark)
	}
}

// tellSurroundings adds lines for faults, changes, events and lives in a time.
func (h *History) tellSurroundings(s *story, from, until time.Duration) {
	within := func(at time.Duration) bool { return from <= at && at <= until }
	for _, f := range h.Faults {
		if f.At <= until && (f.Until == 0 || f.Until >= from) {
			s.add(f.At, "FAULT %s %s %s %s for %s", f.Kind, f.Who, f.Whom, f.Arg, f.For)
			if f.Until > 0 {
				s.add(f.Until, "fault %s %s %s is over: %s", f.Kind, f.Who, f.Whom, f.Note)
			}
		}
	}
	for _, c := range h.Changes {
		if within(c.At) {
			s.add(c.At, "CHANGE %s %s by %s, mark %q, good %t %s", c.Kind, c.Flow, c.By, c.Mark, c.Good, c.Err)
		}
	}
	for _, e := range h.Events {
		if within(e.At) {
			s.add(e.At, "%s: %s %s", e.Kind, e.Who, short(e.Text, 300))
		}
	}
	for _, l := range h.Lives {
		if within(l.Began) {
			s.add(l.Began, "%s.%d begins (%s)", l.Process, l.Number, l.ID)
		}
		if l.Asked > 0 && within(l.Asked) {
			s.add(l.Asked, "%s.%d is asked to end", l.Process, l.Number)
		}
		if l.Ended > 0 && within(l.Ended) {
			s.add(l.Ended, "%s.%d ends: %s %s", l.Process, l.Number, l.How, l.Error)
		}
		for _, p := range l.Pauses {
			if within(p.From) {
				s.add(p.From, "%s.%d is stopped until %s", l.Process, l.Number, p.Until)
			}
		}
	}
	if h.Calm > 0 && within(h.Calm) {
		s.add(h.Calm, "CALM begins")
	}
}

// describe returns the rows at some places of the batch as text; at most five of them.
func (b *Batch) describe(places []int) string {
	var t strings.Builder
	fmt.Fprintf(&t, "%d rows, of these", len(b.Rows))
	for i, p := range places {
		if i == 5 {
			fmt.Fprintf(&t, " and %d more", len(places)-i)
			break
		}
		fmt.Fprintf(&t, " [%d: n %d key %q do %q]", p, b.Rows[p].N, b.Rows[p].Key, b.Rows[p].Do)
	}
	return t.String()
}

// describe returns the end of a try as text, with the outcomes of the rows at some places, at most five of them.
func (t *Try) describe(places []int) string {
	switch {
	case t.Gone:
		return "the client goes away"
	case !t.Answered:
		return fmt.Sprintf("error, unanswered %t: %s", t.Unanswered, t.Err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "answered on revision %d %s", t.Revision, t.Err)
	for i, p := range places {
		if i == 5 {
			fmt.Fprintf(&b, " and %d more", len(places)-i)
			break
		}
		o := t.Outcome(p)
		fmt.Fprintf(&b, " [%d: %s", p, o.Outcome)
		if o.Outcome != batch.Done {
			fmt.Fprintf(&b, " %s in %q after %d: %s", o.Code, o.Function, o.Attempts, short(o.Reason, 120))
		}
		b.WriteString("]")
	}
	return b.String()
}

// short cuts a text that is longer than most.
func short(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
