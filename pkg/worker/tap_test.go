package worker

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// tapped is everything that a tap has told.
type tapped struct {
	rows []*pb.TappedRow
	last *pb.Tapped // the last message
}

// tap opens a tap.
func (b *boss) tap(m *pb.Tap) {
	b.t.Helper()
	b.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Tap{Tap: m}})
}

// tapped reads what taps tell for two seconds, by their numbers.
func (b *boss) tapped() map[uint64]*tapped {
	b.t.Helper()
	time.Sleep(2 * time.Second)
	b.catchUp()
	all := map[uint64]*tapped{}
	for _, m := range b.said {
		m := m.GetTapped()
		if m == nil {
			continue
		}
		of := all[m.GetNumber()]
		if of == nil {
			of = &tapped{}
			all[m.GetNumber()] = of
		}
		of.rows = append(of.rows, m.GetRows()...)
		of.last = m
	}
	b.said = nil
	return all
}

// TestTap shows a coordinator rows of a flow as they pass: also those that others have sent, and from the first run on of a flow that the worker
// gets later. The counts are of all rows.
func TestTap(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		one, two := r.dial(), r.dial()
		if w := one.hello("c-1", false); !w.GetTaps() {
			t.Errorf("Welcome %v", w)
		}
		two.hello("c-2", false)
		one.pump()
		two.pump()
		one.tap(&pb.Tap{Number: 1, Flow: "sharded"})
		one.tap(&pb.Tap{Number: 2, Flow: "sharded", Where: `text == "b" || id > "x"`})
		one.tap(&pb.Tap{Number: 3, Flow: "sharded", Where: `text == null`, Masks: []string{"text"}})
		one.tap(&pb.Tap{Number: 4, Flow: "sharded", HasKey: true, Key: slotOf(1)})
		one.tap(&pb.Tap{Number: 5, Flow: "sharded", Function: "another"})
		one.tap(&pb.Tap{Number: 6, Flow: "sharded", Where: "text +"})
		synctest.Wait()
		two.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Definition{Definition: &pb.Definition{Flow: "sharded", Revision: 5, Documents: documents("sharded", "id", "echo", 2)}}})
		synctest.Wait()
		two.sendPart(batchOf(1, "sharded", "a", "b", "c"))
		all := one.tapped()
		var texts []string
		for _, row := range all[1].rows {
			texts = append(texts, fmt.Sprintf("%s %d %s %s", row.GetFunction(), row.GetRow(), row.GetBefore().GetText(), row.GetBecame()))
			if row.GetWorker() != workerID || row.GetRevision() != 5 || row.GetBatch().GetSequence() != 1 || !row.GetUnchanged() {
				t.Errorf("a row is %v", row)
			}
		}
		if len(texts) != 3 || !strings.Contains(strings.Join(texts, "\n"), `echo 1 {"id":1,"text":"b"} passed`) {
			t.Errorf("shown were %q", texts)
		}
		if m := all[1].last; m.GetPassed() != 3 || m.GetUnmatched() != 0 {
			t.Errorf("counted was %v", m)
		}
		if m := all[2].last; m.GetPassed() != 3 || m.GetUnmatched() != 2 || m.GetFailed() != 2 || m.GetFailure() == "" || len(all[2].rows) != 1 {
			t.Errorf("an expression that fails for some rows: %v, and %v", m, all[2].rows)
		}
		if got := all[3].rows; len(got) != 3 || got[0].GetBefore().GetText() != fmt.Sprintf(`{"id":%d,"text":null}`, got[0].GetRow()) {
			t.Errorf("with a hidden field shown was %v", got)
		}
		if got := all[4].rows; len(got) != 1 || got[0].GetRow() != 1 || all[4].last.GetPassed() != 1 {
			t.Errorf("of one key shown was %v: %v", got, all[4].last)
		}
		if m := all[5].last; m.GetPassed() != 0 || len(all[5].rows) > 0 {
			t.Errorf("of a function that the flow does not have shown was %v", m)
		}
		if err := wire.ToError(all[6].last.GetEnded()); batch.CodeOf(err) != batch.CodeBadDocument {
			t.Errorf("a mistake in the expression: %v", err)
		}

		// A tap that has ended tells nothing more, and the lanes don't know of it.
		for n := uint64(1); n < 6; n++ {
			one.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Untap{Untap: &pb.Untap{Number: n}}})
		}
		one.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Untap{Untap: &pb.Untap{Number: 77}}})
		synctest.Wait()
		one.tapped()
		two.sendPart(batchOf(2, "sharded", "d"))
		if all := one.tapped(); len(all) > 0 || r.metric("kisgrid_worker_taps") != 0 {
			t.Errorf("after the end was told %v", all)
		}
	})
}

// TestTapEndsWithSession: nobody looks any more.
func TestTapEndsWithSession(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		one := r.dial()
		one.hello("c-1", false)
		one.define("sharded")
		one.tap(&pb.Tap{Number: 1, Flow: "sharded"})
		synctest.Wait()
		if n := r.metric("kisgrid_worker_taps"); n != 1 {
			t.Errorf("%v taps are open", n)
		}
		one.hangUp()
		synctest.Wait()
		r.server.flows.mu.Lock()
		left := len(r.server.flows.taps)
		r.server.flows.mu.Unlock()
		if n := r.metric("kisgrid_worker_taps"); n != 0 || left > 0 {
			t.Errorf("after the session %v taps are open, and %d flows have some", n, left)
		}
	})
}

// TestTapLimits: a tap sends a bounded number of rows in a second, and counts the others; a flow has a bounded number of taps.
func TestTapLimits(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		one := r.dial()
		one.hello("c-1", false)
		one.define("sharded")
		one.pump()
		for n := uint64(1); n <= tapsPerFlow+1; n++ {
			one.tap(&pb.Tap{Number: n, Flow: "sharded"})
		}
		synctest.Wait()
		words := make([]string, 1000)
		for i := range words {
			words[i] = "w"
		}
		for n := uint64(1); n <= 20; n++ {
			one.sendPart(batchOf(n, "sharded", words...))
			time.Sleep(50 * time.Millisecond)
		}
		all := one.tapped()
		if err := wire.ToError(all[tapsPerFlow+1].last.GetEnded()); batch.CodeOf(err) != batch.CodeOverloaded {
			t.Errorf("one tap too many: %v", err)
		}
		for n := uint64(1); n <= tapsPerFlow; n++ {
			shown := len(all[n].rows)
			if passed := all[n].last.GetPassed(); passed != 20_000 || shown == 0 || shown > 4*tapRows+tapRing { // taps whose ticks coincide share the messages that wait
				t.Errorf("tap %d showed %d of %d rows within three seconds", n, shown, passed)
			}
		}
	})
}

// TestTapBudget: taps use their share of the time, and make up for a row that took more.
func TestTapBudget(t *testing.T) {
	var b tapBudget
	now := time.Unix(0, 0)
	b.refill(now)
	if got := time.Duration(b.left.Load()); got != tapSaved {
		t.Errorf("at first there is %v", got)
	}
	b.spend(15 * time.Millisecond)
	for range 4 {
		now = now.Add(tapTick)
		b.refill(now)
		if b.left.Load() > 0 {
			t.Fatalf("after %v there is %v", now.Sub(time.Unix(0, 0)), time.Duration(b.left.Load()))
		}
	}
	now = now.Add(2 * tapTick)
	b.refill(now)
	if got := time.Duration(b.left.Load()); got != time.Millisecond {
		t.Errorf("after 600ms there is %v, not 1ms", got)
	}
	b.refill(now.Add(-time.Hour)) // a clock that goes back gives nothing
	b.refill(now.Add(-time.Hour))
	b.refill(now.Add(time.Hour))
	if got := time.Duration(b.left.Load()); got != tapSaved {
		t.Errorf("after hours there is %v", got)
	}
	tap := &tap{budget: &b}
	tap.leave.Store(5)
	if n := tap.admit(3); n != 3 {
		t.Errorf("%d of 3 rows are copied", n)
	}
	if n := tap.admit(10); n != 2 {
		t.Errorf("%d of 10 rows are copied", n)
	}
	b.spend(time.Second)
	tap.leave.Store(5)
	if n := tap.admit(1); n != 0 || tap.passed.Load() != 14 {
		t.Errorf("without time %d rows are copied, and %d counted", n, tap.passed.Load())
	}
}

// TestTapViewer: what a viewer sees of rows that are hidden in part, cut, malformed or have no text.
func TestTapViewer(t *testing.T) {
	row := func(before string, size int) *flowexec.TappedRow {
		return &flowexec.TappedRow{
			Before: flowexec.TappedText{Data: []byte(before), Size: size}, Became: flowexec.Ended,
			Outcome: batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionError, Reason: "secret"},
		}
	}
	whole := func(before string) *flowexec.TappedRow { return row(before, len(before)) }
	for name, c := range map[string]struct {
		row    *flowexec.TappedRow
		where  string
		masks  []string
		wants  tapWish
		text   string
		cut    uint32
		reason string
	}{
		"everything":                            {whole(`{"a":9007199254740993}`), "a == 9007199254740993", nil, wanted, `{"a":9007199254740993}`, 0, "secret"},
		"a hidden field, in any spelling":       {whole(`{"A":1,"b":{"c":2}}`), "a == null && b.c == null", []string{"a", "b.c"}, wanted, `{"A":null,"b":{"c":null}}`, 0, ""},
		"no JSON":                               {whole(`{"a":`), "", nil, wanted, `{"a":`, 0, "secret"},
		"no JSON, hidden":                       {whole(`{"a":`), "", []string{"a"}, wanted, "", 0, ""},
		"no UTF-8":                              {whole("\xff"), "", nil, wanted, "\uFFFD", 0, "secret"},
		"a large row":                           {row(`{"a":1,"b`, 1000), "", nil, wanted, `{"a":1,"b`, 1000, "secret"},
		"a large row for an expression":         {row(`{"a":1,"b`, 1000), "a == 1", nil, unread, `{"a":1,"b`, 1000, "secret"},
		"a large row, hidden":                   {row(`{"a":1,"b`, 1000), "", []string{"b"}, wanted, "", 0, ""},
		"an expression that is false":           {whole(`{"a":1}`), "a == 2", nil, unwanted, `{"a":1}`, 0, "secret"},
		"an expression that can't be looked at": {whole(`[1]`), "a == 2", nil, unwanted, `[1]`, 0, "secret"},
	} {
		v := tapViewer{masks: c.masks}
		if err := v.compile(c.where); err != nil {
			t.Fatal(err)
		}
		if got, _ := v.wants(c.row); got != c.wants {
			t.Errorf("%s: %s is %v, not %v", name, c.where, got, c.wants)
		}
		m, size := v.show(c.row)
		if m.GetBefore().GetText() != c.text || m.GetBefore().GetCutFrom() != c.cut || m.GetReason() != c.reason || m.GetBecame() != "dead" || size < len(c.text) {
			t.Errorf("%s: shown was %v of %d bytes", name, m, size)
		}
		if withheld := m.GetBefore().GetWithheld() != ""; withheld != (c.text == "") {
			t.Errorf("%s: withheld is %t", name, withheld)
		}
	}
	after := &flowexec.TappedRow{Became: flowexec.Passed}
	for range 5 {
		after.After = append(after.After, flowexec.TappedText{Data: []byte(strings.Repeat("x", 60_000)), Size: 60_000})
	}
	if m, _ := new(tapViewer).show(after); len(m.GetAfter()) != 2 || m.GetMore() != 3 {
		t.Errorf("of large rows behind a function %d are shown, and %d counted", len(m.GetAfter()), m.GetMore())
	}
	if err := new(tapViewer).compile("a ++"); batch.CodeOf(err) != batch.CodeBadDocument {
		t.Errorf("a mistake in an expression: %v", err)
	}
}
