package coordinator

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// testSnapshot has flow S, sharded by id, and flow W.
func testSnapshot() *flowstate.Snapshot {
	keys := batch.NewKeyField("id")
	c := &flowstate.Snapshot{Flows: map[string]*flowstate.Flow{}}
	for name, r := range map[string]*flowstate.Revision{
		"S": {Number: 5, Enabled: true, ShardKey: "id", Keys: &keys},
		"W": {Number: 6, Enabled: true},
	} {
		c.Flows[name] = &flowstate.Flow{Name: name, Active: r, Revisions: flowstate.Revisions{r}}
	}
	return c
}

var testLimits = batch.Limits{RowBytes: 64, BatchBytes: 1 << 10, BatchRows: 16}

func TestNewSubmission(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	large := rows(1)
	large.Data = append(large.Data, `{"id":2,"x":"`+strings.Repeat("x", 100)+`"}`...)
	large.Ends = append(large.Ends, uint32(len(large.Data)))
	ended := func(want ...batch.Code) func(*testing.T, *submission) {
		return func(t *testing.T, s *submission) {
			t.Helper()
			var got []batch.Code
			for i, o := range s.Ended {
				got = append(got, o.Code)
				if i > 0 && s.Ended[i-1].Row >= o.Row {
					t.Errorf("rows that ended are out of order: %v", s.Ended)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("rows ended with %v, want %v", got, want)
			}
		}
	}
	for name, c := range map[string]struct {
		flow  string
		in    *pb.Submission
		code  batch.Code // refused
		says  string
		check func(*testing.T, *submission)
	}{
		"no sequence":    {"S", &pb.Submission{Rows: rows(1)}, batch.CodeBadBatchID, "count a stream's batches from 1", nil},
		"no rows at all": {"S", &pb.Submission{Sequence: 1}, batch.CodeEmptyBatch, "at least one", nil},
		"too many rows":  {"S", &pb.Submission{Sequence: 1, Rows: sequence(17)}, batch.CodeTooManyRows, "limit of 16 rows", nil},
		"too many bytes": {"W", &pb.Submission{Sequence: 1, Rows: &pb.Columns{Data: make([]byte, 1<<10+1), Ends: []uint32{1<<10 + 1}}}, batch.CodeBatchTooLarge, "limit of 1024 bytes", nil},
		"bad columns":    {"W", &pb.Submission{Sequence: 1, Rows: &pb.Columns{Data: []byte("ab"), Ends: []uint32{1}}}, batch.CodeBadColumns, "byte 1 of 2", nil},
		"too few keys":   {"S", &pb.Submission{Sequence: 1, Rows: &pb.Columns{Data: []byte("ab"), Ends: []uint32{1, 2}, Keys: []uint64{1}}}, batch.CodeBadColumns, "1 keys for 2 rows", nil},
		"an encoding that only the client can read": {
			"S", &pb.Submission{Sequence: 1, Rows: &pb.Columns{Data: []byte("ab"), Ends: []uint32{2}, Encoding: "avro"}}, batch.CodeMissingKeys, `"avro"`, nil,
		},
		"that encoding with keys of another field": {
			"S", &pb.Submission{Sequence: 1, ShardKey: "old", Rows: &pb.Columns{Data: []byte("ab"), Ends: []uint32{2}, Keys: []uint64{9}, Encoding: "avro"}}, batch.CodeMissingKeys, "sharded by id", nil,
		},
		"that encoding with its keys": {
			"S", &pb.Submission{Sequence: 1, ShardKey: "id", Rows: &pb.Columns{Data: []byte("ab"), Ends: []uint32{2}, Keys: []uint64{9}, Encoding: "avro"}}, 0, "",
			func(t *testing.T, s *submission) {
				t.Helper()
				if !slices.Equal(s.Keys, []uint64{9}) {
					t.Errorf("keys are %v", s.Keys)
				}
			},
		},
		"keys of the producer's own": {
			"S", &pb.Submission{Sequence: 1, Rows: &pb.Columns{Data: []byte("ab"), Ends: []uint32{2}, Keys: []uint64{8}}}, 0, "",
			func(t *testing.T, s *submission) {
				t.Helper()
				if !slices.Equal(s.Keys, []uint64{8}) {
					t.Errorf("keys are %v", s.Keys)
				}
			},
		},
		"keys of another field": {
			"S", &pb.Submission{Sequence: 1, ShardKey: "old", Rows: &pb.Columns{Data: []byte(`{"id":1}{"id":1}`), Ends: []uint32{8, 16}, Keys: []uint64{8, 9}}}, 0, "",
			func(t *testing.T, s *submission) {
				t.Helper()
				if s.Keys[0] != s.Keys[1] || s.Keys[0] == 8 {
					t.Errorf("keys are %v", s.Keys)
				}
			},
		},
		"keys where none are needed": {
			"W", &pb.Submission{Sequence: 1, Rows: &pb.Columns{Data: []byte("ab"), Ends: []uint32{2}, Keys: []uint64{8}}}, 0, "",
			func(t *testing.T, s *submission) {
				t.Helper()
				if s.Keys != nil {
					t.Errorf("keys are %v", s.Keys)
				}
			},
		},
		"rows without the shard key": {
			"S", &pb.Submission{Sequence: 1, Rows: &pb.Columns{Data: []byte(`{"id":1}{}{"id":null}`), Ends: []uint32{8, 10, 21}}}, 0, "", ended(batch.CodeMissingShardKey, batch.CodeMissingShardKey),
		},
		"a row over the limit": {"W", &pb.Submission{Sequence: 1, Rows: large}, 0, "", ended(batch.CodeRowTooLarge)},
		"a row over the limit without the shard key": {
			"S", &pb.Submission{Sequence: 1, Rows: &pb.Columns{Data: []byte(`{}` + strings.Repeat(" ", 100) + `{}`), Ends: []uint32{102, 104}}}, 0, "", ended(batch.CodeRowTooLarge, batch.CodeMissingShardKey),
		},
		"a deadline": {
			"W", &pb.Submission{Sequence: 1, DeadlineMilliseconds: 1500, AgeMilliseconds: 500, Rows: rows(1)}, 0, "",
			func(t *testing.T, s *submission) {
				t.Helper()
				if !s.Deadline.Equal(now.Add(1500*time.Millisecond)) || !s.born.Equal(now.Add(-500*time.Millisecond)) {
					t.Errorf("deadline %v, born %v", s.Deadline, s.born)
				}
			},
		},
		"times beyond all measure": {
			"W", &pb.Submission{Sequence: 1, DeadlineMilliseconds: math.MaxUint64, AgeMilliseconds: math.MaxUint64 - 1, Rows: rows(1)}, 0, "",
			func(t *testing.T, s *submission) {
				t.Helper()
				if !s.Deadline.After(now) || !s.born.Before(now) {
					t.Errorf("deadline %v, born %v", s.Deadline, s.born)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := newSubmission(testSnapshot().Flows[c.flow].Active, testLimits, c.flow, batch.StreamID{1}, c.in, now)
			if c.code != 0 {
				wantCode(t, err, c.code, c.says)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c.check(t, s)
		})
	}
}

// set is a set of rows of a part.
func set(rows ...uint32) bitset.Set {
	s := make(bitset.Set, 1)
	for _, r := range rows {
		s[0] |= 1 << r
	}
	return s
}

func TestTranslate(t *testing.T) {
	t.Parallel()
	output := func(origins ...uint32) *pb.Output {
		ids := make([]int, len(origins))
		for i := range ids {
			ids[i] = i
		}
		return &pb.Output{Rows: rows(ids...), Origins: origins}
	}
	dead := func(rows ...uint32) (out []*pb.RowOutcome) {
		for _, row := range rows {
			out = append(out, &pb.RowOutcome{Row: row, Outcome: pb.Outcome_OUTCOME_DEAD})
		}
		return out
	}
	const whole = batch.WholeBatch
	for name, c := range map[string]struct {
		rows    []uint32 // of the part; nil: all ten
		only    bitset.Set
		silent  bool // no output wanted
		result  *pb.Result
		notDone []uint32
		ended   []uint32
		origins []uint32
		texts   string
	}{
		"as it came":        {nil, nil, false, &pb.Result{Output: output(0, 9, whole)}, nil, nil, []uint32{0, 9, whole}, "0 1 2"},
		"beyond the part":   {nil, nil, false, &pb.Result{NotDone: dead(3, 10), Finished: []*pb.Range{{First: 8, Count: 900}}, Output: output(10, 3, 1<<31)}, []uint32{3}, []uint32{8, 9}, []uint32{3}, "1"},
		"places":            {[]uint32{4, 7, 9}, nil, false, &pb.Result{NotDone: dead(1), Finished: []*pb.Range{{First: 0, Count: 2}}, Output: output(2, 0, whole)}, []uint32{7}, []uint32{4, 7}, []uint32{9, 4, whole}, "0 1 2"},
		"beyond places":     {[]uint32{4, 7, 9}, nil, false, &pb.Result{NotDone: dead(3), Output: output(3, 2)}, nil, nil, []uint32{9}, "1"},
		"only some":         {[]uint32{4, 7, 9}, set(0, 2), false, &pb.Result{NotDone: dead(0, 1), Finished: []*pb.Range{{Count: 3}}, Output: output(0, 1, 2)}, []uint32{4}, []uint32{4, 9}, []uint32{4, 9}, "0 2"},
		"only some, whole":  {nil, set(5), false, &pb.Result{NotDone: dead(4, 5), Output: output(4, 5)}, []uint32{5}, nil, []uint32{5}, "1"},
		"none of it counts": {nil, set(), false, &pb.Result{NotDone: dead(4), Finished: []*pb.Range{{Count: 9}}, Output: output(4)}, nil, nil, nil, ""},
		"output not wanted": {nil, nil, true, &pb.Result{NotDone: dead(4), Output: output(4)}, []uint32{4}, nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &submission{id: batch.ID{Sequence: 3}, output: !c.silent, ownTold: true}
			s.Batch = scheduler.Batch{Revision: 8, Ends: make([]uint32, 10)}
			got := s.answer(ending{part: &scheduler.Part{Batch: &s.Batch, Rows: c.rows}, result: &result{Result: c.result}, only: c.only})
			if len(c.notDone)+len(c.ended)+len(c.origins) == 0 {
				if len(got) != 0 {
					t.Errorf("answered %v", got)
				}
				return
			}
			if len(got) != 1 || got[0].GetSequence() != 3 || got[0].GetRevision() != 8 || got[0].GetLast() {
				t.Fatalf("answered %v", got)
			}
			var notDone []uint32
			for _, o := range got[0].GetNotDone() {
				notDone = append(notDone, o.GetRow())
			}
			if !slices.Equal(notDone, c.notDone) || !slices.Equal(rowsOf(got[0].GetFinished()), c.ended) || !slices.Equal(got[0].GetOutput().GetOrigins(), c.origins) {
				t.Errorf("answered %v", got[0])
			}
			if got := strings.NewReplacer(`{"id":`, "", "}", "").Replace(strings.Join(texts(got[0].GetOutput().GetRows()), " ")); got != c.texts {
				t.Errorf("output rows %s, want %s", got, c.texts)
			}
		})
	}
}

// TestLargeAnswers ends a batch of the most rows there may be, each with the longest reason and much output: every message
// keeps the limit, nothing is lost, and only the final one is the last.
func TestLargeAnswers(t *testing.T) {
	t.Parallel()
	const n = 65536
	reason := strings.Repeat("r", 1000)
	s := &submission{id: batch.ID{Sequence: 1}, output: true}
	s.Batch = scheduler.Batch{Flow: "W", Ends: make([]uint32, n)}
	for row := range uint32(n / 2) {
		s.Ended = append(s.Ended, batch.RowOutcome{Row: row, Outcome: batch.Dead, Code: batch.CodeMissingShardKey, Reason: reason})
	}
	var failed []uint32
	for row := uint32(n / 2); row < n-5; row++ {
		failed = append(failed, row)
	}
	answers := s.answer(ending{rows: failed, outcome: batch.Failed, code: batch.CodeNoCapableWorker})
	var big batch.Columns
	for range 5 {
		big.Append(make([]byte, 1<<20-1))
	}
	all := &pb.Result{Output: wire.FromOutput(batch.Output{Rows: big, Origins: []uint32{0, 1, 2, 3, 4}}), Last: true}
	part := &scheduler.Part{Batch: &s.Batch, Rows: []uint32{n - 5, n - 4, n - 3, n - 2, n - 1}}
	answers = append(answers, s.answer(ending{part: part, result: &result{Result: all}, last: true})...)

	var transport transport.Config
	g := gatheredAnswer{whole: &pb.Answer{}, limit: transport.MessageBytes() - transport.MessageBytes()/8}
	seen := make([]int, n)
	var origins []uint32
	for i, a := range answers {
		if size := proto.Size(a); size > wire.SplitBytes+wire.SplitBytes/2 {
			t.Errorf("answer %d has %d bytes", i, size)
		}
		if a.GetLast() != (i == len(answers)-1) {
			t.Errorf("answer %d of %d: last is %t", i, len(answers), a.GetLast())
		}
		for _, o := range a.GetNotDone() {
			seen[o.GetRow()]++
		}
		origins = append(origins, a.GetOutput().GetOrigins()...)
		g.add(proto.CloneOf(a))
	}
	for row, times := range seen {
		if want := map[bool]int{true: 1, false: 0}[row < n-5]; times != want {
			t.Fatalf("row %d is told %d times", row, times)
		}
	}
	if !slices.Equal(origins, part.Rows) {
		t.Errorf("output of rows %v", origins)
	}
	// As one answer, it has each outcome, not each reason, and says what is left out.
	whole := g.whole
	if len(whole.GetNotDone()) != n-5 || whole.GetNotDone()[0].GetReason() == "" || whole.GetNotDone()[n-6].GetReason() != "" || whole.GetNotDone()[n-6].GetCode() != pb.Code_CODE_NO_CAPABLE_WORKER {
		t.Errorf("a unary answer has %d outcomes, the first %v", len(whole.GetNotDone()), whole.GetNotDone()[0].GetCode())
	}
	if e := whole.GetOutputOmitted(); whole.GetOutput() != nil || e.GetCode() != pb.Code_CODE_BATCH_TOO_LARGE || !strings.Contains(e.GetMessage(), "stream") {
		t.Errorf("it omits output: %v", e)
	}
	if size := proto.Size(whole); size > transport.MessageBytes() {
		t.Errorf("it has %d bytes, over the limit of %d", size, transport.MessageBytes())
	}
}

func TestGatherOutput(t *testing.T) {
	t.Parallel()
	g := gatheredAnswer{whole: &pb.Answer{}, limit: 1000}
	g.add(&pb.Answer{Output: &pb.Output{Rows: rows(1, 2), Origins: []uint32{0, 1}}})
	g.add(&pb.Answer{})
	g.add(&pb.Answer{Output: &pb.Output{Rows: rows(3), Origins: []uint32{2}}})
	o := g.whole.GetOutput()
	if got := strings.Join(texts(o.GetRows()), ""); got != `{"id":1}{"id":2}{"id":3}` || !slices.Equal(o.GetOrigins(), []uint32{0, 1, 2}) || g.whole.GetOutputOmitted() != nil {
		t.Errorf("gathered %s from %v", got, o.GetOrigins())
	}
	g.add(&pb.Answer{Output: &pb.Output{Rows: &pb.Columns{Data: make([]byte, 1000), Ends: []uint32{1000}}, Origins: []uint32{3}}})
	g.add(&pb.Answer{Output: &pb.Output{Rows: rows(4), Origins: []uint32{4}}})
	if g.whole.GetOutput() != nil || g.whole.GetOutputOmitted() == nil {
		t.Errorf("of an output that is too large %v is left", g.whole.GetOutput())
	}
}
