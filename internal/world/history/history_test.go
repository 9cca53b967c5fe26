package history

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// TestEntry shows that ParseEntry reads back each entry that String writes, and refuses other texts.
func TestEntry(t *testing.T) {
	id := batch.RowID{Batch: batch.ID{Stream: batch.NewStreamID(), Sequence: 70}, Row: 12, Output: 0xfedcba9876543210, Visit: 3}
	for _, e := range []Entry{{ID: id, Function: "save", Mark: "m12"}, {ID: batch.RowID{Batch: id.Batch}, Function: "f", Mark: ""}} {
		got, err := ParseEntry(e.String())
		if err != nil || got != e {
			t.Errorf("ParseEntry(%q) = %+v, %v; want %+v", e.String(), got, err, e)
		}
	}
	good := Entry{ID: id, Function: "save", Mark: "m12"}.String()
	for _, bad := range []string{"", "x", good[1:], strings.Replace(good, "#", "/", 1), strings.Replace(good, "@", "", 1), strings.Replace(good, "/12#", "/-1#", 1)} {
		if _, err := ParseEntry(bad); err == nil {
			t.Errorf("ParseEntry(%q) reports no error", bad)
		}
	}
}

// TestStory shows that the stories of a key, a batch, a row and a flow's revisions have what concerns them, in order of time, and no other
// rows.
func TestStory(t *testing.T) {
	now := time.Duration(0)
	r := NewAt(scenario.Scenario{}, func() time.Duration { return now })
	at := func(d time.Duration) { now = d }
	id := batch.ID{Stream: batch.NewStreamID(), Sequence: 1}
	worker := r.Began(Worker, scenario.Process{Name: "w1"}, "")
	r.Wrote(Document{Epoch: 1, Revision: 5, Kind: "func", Name: "save", Mark: "m1"})
	at(time.Second)
	b := r.Made(&Batch{Client: "c1", Flow: "F", Number: 1, Rows: []Row{{Key: "k1", N: 1}, {Key: "k2", N: 2}}})
	try := r.Submitting(b, false, time.Minute)
	r.Sent(try, id)
	at(2 * time.Second)
	r.Ran(Run{Process: "w1", Life: 1, Flow: "F", Function: "save", Mark: "m1", Revision: 5, ID: batch.RowID{Batch: id}, Key: "k1", N: 1, Attempt: 1})
	r.Ran(Run{Process: "w1", Life: 1, Flow: "F", Function: "save", Mark: "m1", Revision: 5, ID: batch.RowID{Batch: id, Row: 1}, Key: "k2", N: 2, Attempt: 1})
	f := r.FaultBegan(scenario.Fault{Kind: "kill", Who: "w1"})
	at(3 * time.Second)
	r.EndedLife(worker, Killed, nil)
	r.FaultEnded(f, "killed")
	at(4 * time.Second)
	r.Answered(try, id, &batch.Result{BatchID: id, Revision: 5, Rows: 2, NotDone: []batch.RowOutcome{{Row: 0, Outcome: batch.Failed, Code: batch.CodeDeadline}}}, nil, nil, false)
	r.CalmBegan()
	r.Finished(&Final{}, []Store{{Connector: "redis", Lists: map[string][]string{"log:k1": {"an entry"}, "log:k2": {"another entry"}}}})
	h := r.History()

	wantInOrder(t, "key", h.KeyStory("F", "k1"), "w1.1 begins", "c1 submits batch 1", `runs save (mark "m1", revision 5)`, "FAULT kill w1", "w1.1 ends: killed", "[0: failed DEADLINE", "an entry")
	if story := h.KeyStory("F", "k1"); strings.Contains(story, "k2") || strings.Contains(story, "another entry") {
		t.Errorf("the story of k1 tells of k2:\n%s", story)
	}
	wantInOrder(t, "batch", h.BatchStory(id), "c1 submits batch 1", "n 1", "n 2", "[0: failed DEADLINE", "[1: done]")
	wantInOrder(t, "row", h.RowStory(id, 1), "c1 submits batch 1", "n 2, key \"k2\"", "[1: done]")
	if story := h.RowStory(id, 1); strings.Contains(story, "n 1,") {
		t.Errorf("the story of row 1 tells of row 0:\n%s", story)
	}
	wantInOrder(t, "revision", h.RevisionStory("F"), "func/save is written", "w1.1 runs save", "is answered on revision 5")
}

// wantInOrder reports an error unless the text has all pieces, one after the other.
func wantInOrder(t *testing.T, name, text string, pieces ...string) {
	t.Helper()
	rest := text
	for _, piece := range pieces {
		_, after, found := strings.Cut(rest, piece)
		if !found {
			t.Errorf("the story of the %s has no %q in its place:\n%s", name, piece, text)
			return
		}
		rest = after
	}
}

// TestRecorder shows that many goroutines may record at the same time, that nothing gets lost, that lives are numbered by process, and how
// errors and clients that go away are recorded.
func TestRecorder(t *testing.T) {
	r := New(scenario.Scenario{Seed: 7})
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			life := r.Began(Worker, scenario.Process{Name: "w"}, "")
			for i := range 100 {
				b := r.Made(&Batch{Client: "c", Flow: "F", Number: i, Rows: make([]Row, 1)})
				try := r.Submitting(b, true, 0)
				r.Ran(Run{Process: "w", Life: life.Number, N: g*100 + i})
				r.Answered(try, batch.ID{}, nil, nil, batch.Errorf(batch.CodeOverloaded, "no room"), false)
			}
			r.EndedLife(life, Drained, errors.New("late"))
		})
	}
	group.Wait()
	h := r.History()
	if len(h.Batches) != 800 || len(h.Runs) != 800 || len(h.Lives) != 8 || h.Scenario.Seed != 7 {
		t.Fatalf("the history has %d batches, %d runs, %d lives", len(h.Batches), len(h.Runs), len(h.Lives))
	}
	numbers := map[int]bool{}
	for _, l := range h.Lives {
		numbers[l.Number] = true
		if l.How != Drained || l.Error != "late" || l.Ended == 0 {
			t.Errorf("life %d ended as %q, error %q, at %s", l.Number, l.How, l.Error, l.Ended)
		}
	}
	if len(numbers) != 8 {
		t.Errorf("8 lives of one process have %d numbers", len(numbers))
	}
	for _, b := range h.Batches {
		if try := b.Last(); !try.NothingRan() || try.Code != batch.CodeOverloaded {
			t.Fatalf("a refused batch is recorded as %+v", try)
		}
	}
}

// TestUp shows when a life counts as running during a time.
func TestUp(t *testing.T) {
	l := &Life{Began: 10, Ended: 100, Pauses: []Pause{{From: 40, Until: 50}}}
	for _, c := range []struct {
		from, until time.Duration
		want        bool
	}{{10, 39, true}, {5, 20, false}, {20, 45, false}, {45, 60, false}, {51, 100, true}, {51, 101, false}} {
		if got := l.Up(c.from, c.until); got != c.want {
			t.Errorf("Up(%d, %d) = %t", c.from, c.until, got)
		}
	}
}
