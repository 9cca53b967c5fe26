package worker

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// ending is how a row of a part ended, put together from all its results.
type ending struct {
	outcome  batch.Outcome
	code     batch.Code
	returned bool
	output   []string
}

// limit is the largest message of smallServer: what may not be split, and what goes with it.
const limit = 8<<10 + 4<<10

// gatherEndings does what a coordinator does: a row ends once, and brings its output with it.
func gatherEndings(t fataler, results []*pb.Result, rows, limit int) (endings map[uint32]ending, whole []string) {
	endings = map[uint32]ending{}
	for i, r := range results {
		now := map[uint32]ending{}
		end := func(row uint32, e ending) {
			if before, twice := endings[row]; twice {
				t.Fatalf("row %d ends twice: %v and %v", row, before, e)
			}
			now[row] = e
		}
		for _, o := range r.GetNotDone() {
			end(o.GetRow(), ending{outcome: batch.Outcome(o.GetOutcome()), code: batch.Code(o.GetCode())})
		}
		for _, row := range rowsOf(r.GetReturned()) {
			end(row, ending{returned: true})
		}
		for _, row := range rowsOf(r.GetFinished()) {
			if _, not := now[row]; !not {
				end(row, ending{outcome: batch.Done})
			}
		}
		if last := i == len(results)-1; r.GetLast() != last {
			t.Fatalf("result %d of %d: last is %v", i, len(results), r.GetLast())
		} else if last {
			for row := range uint32(rows) {
				if _, before := endings[row]; !before {
					if _, not := now[row]; !not {
						end(row, ending{outcome: batch.Done})
					}
				}
			}
		}
		c := wire.ToColumns(r.GetOutput().GetRows())
		for i, origin := range r.GetOutput().GetOrigins() {
			if origin == batch.WholeBatch {
				whole = append(whole, string(c.Row(i)))
				continue
			}
			e, ends := now[origin]
			if !ends {
				t.Fatalf("output of row %d comes without its ending", origin)
			}
			e.output = append(e.output, string(c.Row(i)))
			now[origin] = e
		}
		maps.Copy(endings, now)
		if size := proto.Size(r); size > limit {
			t.Fatalf("a result of %d bytes, of at most %d", size, limit)
		}
	}
	return endings, whole
}

type fataler interface {
	Fatalf(format string, args ...any)
}

// smallServer splits results of 1 KiB, and takes no row whose output is over 8 KiB.
func smallServer() *server {
	return &server{config: serverConfig{Limits: batch.Limits{BatchBytes: 8 << 10}.WithDefaults(), ResultBytes: 1 << 10}}
}

// smallPart is a part of a coordinator, and a client, that take as much as smallServer sends.
func smallPart(rows int) *heldPart {
	return &heldPart{number: 1, size: amount{rows: int64(rows)}, maxOutputPerRow: 8 << 10, maxOutputRow: 8 << 10}
}

// TestResultsTellEverything makes results of random runs of a part, in random order, and reads them as a coordinator does: one that
// takes what the worker does or less, for a client that takes less still.
func TestResultsTellEverything(t *testing.T) {
	s := smallServer()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "rows")
		lanes := rapid.IntRange(1, 4).Draw(t, "lanes")
		large := rapid.SampledFrom([]int{10, 10, 200, 3000}).Draw(t, "largest output")
		takes := rapid.SampledFrom([]int{8 << 10, 8 << 10, 4 << 10, 700}).Draw(t, "the coordinator takes")
		oneRow := min(takes, rapid.SampledFrom([]int{8 << 10, 8 << 10, 2 << 10, 100}).Draw(t, "one row for the client"))
		runs := make([]flowexec.RunResult, lanes)
		want := map[uint32]ending{}
		for row := range uint32(n) {
			run := &runs[rapid.IntRange(0, lanes-1).Draw(t, "lane")]
			run.Rows = append(run.Rows, row)
			e := ending{outcome: batch.Done}
			switch rapid.IntRange(0, 9).Draw(t, "end") {
			case 0:
				e = ending{outcome: batch.Dead, code: batch.CodeFunctionError}
				run.NotDone = append(run.NotDone, batch.RowOutcome{Row: row, Outcome: e.outcome, Code: e.code, Reason: strings.Repeat("r", rapid.IntRange(0, 3000).Draw(t, "reason"))})
			case 1:
				e = ending{returned: true}
				run.Returned = append(run.Returned, row)
			}
			if !e.returned {
				total, longest := 0, 0
				for range rapid.IntRange(0, 3).Draw(t, "outputs") {
					out := strings.Repeat("o", rapid.IntRange(0, large).Draw(t, "size"))
					run.Output.Rows.Append([]byte(out))
					run.Output.Origins = append(run.Output.Origins, row)
					e.output = append(e.output, out)
					total, longest = total+len(out)+outputRowBytes, max(longest, len(out))
				}
				if total > takes || longest > oneRow {
					e.output = nil
					if e.outcome == batch.Done {
						e.outcome, e.code = batch.Dead, batch.CodeRowTooLarge
					}
				}
			}
			want[row] = e
		}
		runs = slices.DeleteFunc(runs, func(r flowexec.RunResult) bool { return len(r.Rows) == 0 })
		part := smallPart(n)
		part.maxOutputPerRow, part.maxOutputRow = takes, oneRow
		cut := rapid.IntRange(0, len(runs)-1).Draw(t, "reported before")
		var results []*pb.Result
		if cut > 0 {
			results = s.resultMessages(part, runs[:cut], false)
		}
		results = append(results, s.resultMessages(part, runs[cut:], true)...)
		got, _ := gatherEndings(t, results, n, limit)
		for row, w := range want {
			if g := got[row]; g.outcome != w.outcome || g.code != w.code || g.returned != w.returned || !slices.Equal(g.output, w.output) {
				t.Fatalf("row %d: %v %v returned %v with %d outputs, want %v %v returned %v with %d", row,
					g.outcome, g.code, g.returned, len(g.output), w.outcome, w.code, w.returned, len(w.output))
			}
		}
	})
}

func TestWhatTheWholeBatchStandsBehind(t *testing.T) {
	s := smallServer()
	run := flowexec.RunResult{NotDone: []batch.RowOutcome{{Row: 7, Outcome: batch.Filtered, Code: batch.CodeDropped}}}
	for range 5 {
		run.Output.Rows.Append(make([]byte, 1<<10))
		run.Output.Origins = append(run.Output.Origins, batch.WholeBatch)
	}
	part := smallPart(100)
	got, whole := gatherEndings(t, s.resultMessages(part, []flowexec.RunResult{run}, true), 100, limit)
	if len(whole) != 5 || got[7].outcome != batch.Filtered || got[8].outcome != batch.Done {
		t.Errorf("%d output rows, row 7 %v, row 8 %v", len(whole), got[7], got[8])
	}
	for range 5 {
		run.Output.Rows.Append(make([]byte, 1<<10))
		run.Output.Origins = append(run.Output.Origins, batch.WholeBatch)
	}
	got, whole = gatherEndings(t, s.resultMessages(part, []flowexec.RunResult{run}, true), 100, limit)
	if len(whole) != 0 || got[7].outcome != batch.Filtered || got[8].outcome != batch.Dead || got[8].code != batch.CodeRowTooLarge {
		t.Errorf("over the limit: %d output rows, row 7 %v, row 8 %v", len(whole), got[7], got[8])
	}
}

func TestOutputsOfDifferentEncodingsDoNotMix(t *testing.T) {
	var runs []flowexec.RunResult
	for i, encoding := range []string{"", "msgpack", "", "msgpack"} {
		run := flowexec.RunResult{Rows: []uint32{uint32(i)}}
		run.Output.Rows.Append([]byte(encoding + fmt.Sprint(i)))
		run.Output.Rows.Encoding, run.Output.Origins = encoding, []uint32{uint32(i)}
		runs = append(runs, run)
	}
	results := smallServer().resultMessages(smallPart(4), runs, true)
	if len(results) != 2 {
		t.Fatalf("%d results", len(results))
	}
	for _, r := range results {
		c := wire.ToColumns(r.GetOutput().GetRows())
		for i := range c.Len() {
			if row := string(c.Row(i)); !strings.HasPrefix(row, c.Encoding) || len(row) != len(c.Encoding)+1 {
				t.Errorf("row %q in columns encoded as %q", row, c.Encoding)
			}
		}
	}
	if got, _ := gatherEndings(t, results, 4, limit); len(got) != 4 {
		t.Errorf("endings %v", got)
	}
}

// A defect in results fails rows; it must not take the process with it.
func TestResultsThatPanic(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		run := flowexec.RunResult{Rows: []uint32{0, 99}, NotDone: []batch.RowOutcome{{Row: 99, Reason: strings.Repeat("x", 1<<20)}}}
		run.Output.Rows.Append(make([]byte, 2<<20))
		run.Output.Origins = []uint32{5000}
		p := smallPart(2)
		p.flow = &flow{name: "f"}
		results := r.server.resultMessagesSafely(p, []flowexec.RunResult{run}, true)
		if len(results) != 1 || len(results[0].GetNotDone()) != 2 || results[0].GetNotDone()[0].GetCode() != pb.Code_CODE_INTERNAL {
			t.Errorf("results %v", results)
		}
	})
}

func TestLargeOutputOverTheWire(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("repeat")
		b.sendPart(batchOf(1, "repeat", words(50, 5000)...)) // row i comes out i times: 6 MB
		var results []*pb.Result
		for len(results) == 0 || !results[len(results)-1].GetLast() {
			results = append(results, b.result())
		}
		if len(results) < 5 {
			t.Errorf("%d results", len(results))
		}
		got, _ := gatherEndings(t, results, 50, (&transport.Config{}).MessageBytes())
		for row := range uint32(50) {
			if len(got[row].output) != int(row) {
				t.Errorf("row %d has %d output rows", row, len(got[row].output))
			}
		}
		b.ack()
	})
}
