package wire_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/internal/ranges"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func TestColumnsShareTheirSlices(t *testing.T) {
	in := batch.Columns{Data: []byte("abc"), Ends: []uint32{1, 3}, Keys: []uint64{7, 8}, Encoding: "text"}
	message := wire.FromColumns(in)
	out := wire.ToColumns(message)
	if diff := cmp.Diff(in, out); diff != "" {
		t.Fatal(diff)
	}
	if &out.Data[0] != &in.Data[0] || &out.Ends[0] != &in.Ends[0] || &out.Keys[0] != &in.Keys[0] {
		t.Error("columns were copied")
	}
	if allocations := testing.AllocsPerRun(100, func() { out = wire.ToColumns(message) }); allocations != 0 {
		t.Errorf("ToColumns makes %v allocations, want none", allocations)
	}
	if none := wire.ToColumns(nil); none.Len() != 0 {
		t.Errorf("nil gives %d rows", none.Len())
	}
}

func TestEnumNumbersAreThoseOfTheWire(t *testing.T) {
	known := 0
	for n := 1; n <= 1<<16-1; n++ {
		name := batch.Code(n).String()
		if name == strconv.Itoa(n) {
			if other, ok := pb.Code_name[int32(n)]; ok {
				t.Errorf("%s = %d is of the wire, but package batch has no such code", other, n)
			}
			continue
		}
		known++
		if pb.Code_name[int32(n)] != "CODE_"+name {
			t.Errorf("batch.Code %d is %s, on the wire it is %q", n, name, pb.Code_name[int32(n)])
		}
	}
	if known != len(pb.Code_name)-1 {
		t.Errorf("package batch has %d codes, the wire %d", known, len(pb.Code_name)-1)
	}
	for o := batch.Done; o <= batch.Failed; o++ {
		if want := "OUTCOME_" + strings.ToUpper(o.String()); pb.Outcome_name[int32(o)] != want {
			t.Errorf("batch.Outcome %d is %s, on the wire it is %q", o, want, pb.Outcome_name[int32(o)])
		}
	}
	for n := batch.NoStore; n <= batch.NothingLeft; n++ {
		if n.String() == "" || pb.NotKept_name[int32(n)] == "" {
			t.Errorf("batch.NotKept %d says %q, on the wire it is %q", n, n, pb.NotKept_name[int32(n)])
		}
	}
	if len(pb.NotKept_name) != int(batch.NothingLeft)+1 {
		t.Errorf("the wire has %d reasons why a row is not kept", len(pb.NotKept_name)-1)
	}
	if len(pb.Outcome_name) != int(batch.Failed)+1 {
		t.Errorf("the wire has %d outcomes", len(pb.Outcome_name)-1)
	}
}

func TestID(t *testing.T) {
	id := batch.ID{Stream: batch.NewStreamID(), Sequence: 3}
	got, err := wire.ToID(wire.FromID(id))
	if err != nil || got != id {
		t.Fatalf("got %v, %v; want %v", got, err, id)
	}
	for name, bad := range map[string]*pb.BatchID{
		"none":         nil,
		"no stream":    {Sequence: 1},
		"short stream": {Stream: []byte("abc"), Sequence: 1},
		"sequence 0":   {Stream: id.Stream[:]},
	} {
		if _, err := wire.ToID(bad); batch.CodeOf(err) != batch.CodeBadBatchID {
			t.Errorf("%s: got %v, want BAD_BATCH_ID", name, err)
		}
	}
}

func TestRowOutcomesSurviveTheWire(t *testing.T) {
	outcome := rapid.Custom(func(t *rapid.T) batch.RowOutcome {
		return batch.RowOutcome{
			Row:      rapid.Uint32Range(0, 99).Draw(t, "row"),
			Outcome:  batch.Outcome(rapid.IntRange(int(batch.Filtered), int(batch.Failed)).Draw(t, "outcome")),
			Code:     batch.Code(rapid.Uint16().Draw(t, "code")),
			Function: rapid.String().Draw(t, "function"),
			Reason:   rapid.String().Draw(t, "reason"),
			Attempts: rapid.Uint32().Draw(t, "attempts"),
			Kept:     rapid.Bool().Draw(t, "kept"),
			NotKept:  batch.NotKept(rapid.IntRange(0, int(batch.NothingLeft)).Draw(t, "not kept")),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(outcome, 1, 20).Draw(t, "outcomes")
		bytes, err := proto.Marshal(&pb.Result{NotDone: wire.FromRowOutcomes(in)})
		if err != nil {
			t.Fatal(err)
		}
		var message pb.Result
		if err := proto.Unmarshal(bytes, &message); err != nil {
			t.Fatal(err)
		}
		out, err := wire.ToRowOutcomes(message.NotDone, 100)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(in, out); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestReasonsAreSendable(t *testing.T) {
	long := strings.Repeat("ö", 2000)
	out := wire.FromRowOutcomes([]batch.RowOutcome{
		{Outcome: batch.Dead, Reason: "bad \xff byte", Function: "F\xfe"},
		{Outcome: batch.Dead, Reason: long},
	})
	if _, err := proto.Marshal(&pb.Result{NotDone: out}); err != nil {
		t.Fatal(err)
	}
	if out[0].Reason != "bad \uFFFD byte" {
		t.Errorf("got %q", out[0].Reason)
	}
	if r := out[1].Reason; len(r) > 1024 || len(r) < 1000 || !utf8.ValidString(r) || !strings.HasSuffix(r, "ö…") {
		t.Errorf("a long reason becomes %d bytes ending in %q", len(r), r[len(r)-6:])
	}
}

func TestWhatAPeerGotWrongIsRefused(t *testing.T) {
	outcomes := func(o *pb.RowOutcome) error {
		_, err := wire.ToRowOutcomes([]*pb.RowOutcome{o}, 10)
		return err
	}
	ranges := func(first, count uint32) error {
		_, err := wire.ToRanges([]*pb.Range{{First: first, Count: count}}, 10)
		return err
	}
	output := func(rows *pb.Columns, origins ...uint32) error {
		_, err := wire.ToOutput(&pb.Output{Rows: rows, Origins: origins}, 10)
		return err
	}
	two := &pb.Columns{Data: []byte("ab"), Ends: []uint32{1, 2}}
	for _, c := range []struct {
		name string
		err  error
		ok   bool
	}{
		{"last row", outcomes(&pb.RowOutcome{Row: 9, Outcome: pb.Outcome_OUTCOME_DEAD}), true},
		{"row beyond the batch", outcomes(&pb.RowOutcome{Row: 10, Outcome: pb.Outcome_OUTCOME_DEAD}), false},
		{"highest row", outcomes(&pb.RowOutcome{Row: 1<<32 - 1, Outcome: pb.Outcome_OUTCOME_DEAD}), false},
		{"no outcome", outcomes(&pb.RowOutcome{}), false},
		{"done among those not done", outcomes(&pb.RowOutcome{Outcome: pb.Outcome_OUTCOME_DONE}), false},
		{"unknown outcome", outcomes(&pb.RowOutcome{Outcome: 6}), false},
		{"outcome that wraps to dead", outcomes(&pb.RowOutcome{Outcome: 256 + 4}), false},
		{"negative outcome", outcomes(&pb.RowOutcome{Outcome: -1}), false},
		{"whole range", ranges(0, 10), true},
		{"range beyond", ranges(1, 10), false},
		{"range that wraps", ranges(1<<32-1, 2), false},
		{"output", output(two, 0, batch.WholeBatch), true},
		{"no output", output(nil), true},
		{"output from beyond", output(two, 0, 10), false},
		{"too few origins", output(two, 0), false},
		{"origins without rows", output(nil, 0), false},
		{"ends that fall", output(&pb.Columns{Data: []byte("ab"), Ends: []uint32{2, 1}}, 0, 0), false},
		{"bytes left over", output(&pb.Columns{Data: []byte("abc"), Ends: []uint32{1, 2}}, 0, 0), false},
	} {
		if c.ok && c.err != nil {
			t.Errorf("%s: %v", c.name, c.err)
		}
		if !c.ok && batch.CodeOf(c.err) != batch.CodeBadMessage {
			t.Errorf("%s: got %v, want BAD_MESSAGE", c.name, c.err)
		}
	}
	got, err := wire.ToRowOutcomes([]*pb.RowOutcome{{Outcome: pb.Outcome_OUTCOME_DEAD, Code: 70000}}, 1)
	if err != nil || got[0].Code != batch.CodeInternal {
		t.Errorf("a code that fits nowhere: got %v, %v; want INTERNAL", got, err)
	}
}

func TestRanges(t *testing.T) {
	for _, c := range []struct {
		rows []uint32
		want []batch.Range
	}{
		{nil, nil},
		{[]uint32{4}, []batch.Range{{First: 4, Count: 1}}},
		{[]uint32{0, 1, 2, 5, 7, 8}, []batch.Range{{First: 0, Count: 3}, {First: 5, Count: 1}, {First: 7, Count: 2}}},
	} {
		got := ranges.Of(c.rows)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v: %s", c.rows, diff)
		}
		back, err := wire.ToRanges(wire.FromRanges(got), 9)
		if err != nil || !slices.Equal(got, back) {
			t.Errorf("%v comes back as %v, %v", got, back, err)
		}
	}
}

func TestSplitRowOutcomes(t *testing.T) {
	in := make([]batch.RowOutcome, 1000)
	for i := range in {
		in[i] = batch.RowOutcome{Row: uint32(i), Outcome: batch.Dead, Code: batch.CodeFunctionError, Reason: strings.Repeat("x", i*3)}
	}
	const limit = 10_000
	var joined []batch.RowOutcome
	for piece := range wire.SplitRowOutcomes(in, limit) {
		if size := proto.Size(&pb.Result{NotDone: wire.FromRowOutcomes(piece)}); size > limit {
			t.Errorf("a piece of %d outcomes has %d bytes, over %d", len(piece), size, limit)
		}
		joined = append(joined, piece...)
	}
	if diff := cmp.Diff(in, joined); diff != "" {
		t.Error(diff)
	}
	for range wire.SplitRowOutcomes(nil, limit) {
		t.Error("none yields something")
	}
	for piece := range wire.SplitRowOutcomes(in[900:902], 1) {
		if len(piece) != 1 {
			t.Errorf("outcomes over the size go alone, not %d together", len(piece))
		}
	}
}

func TestSplitOutput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in batch.Output
		for i, row := range rapid.SliceOf(rapid.StringN(0, 30, 60)).Draw(t, "rows") {
			in.Rows.Append([]byte(row))
			in.Origins = append(in.Origins, uint32(i/2))
		}
		limit := rapid.IntRange(1, 200).Draw(t, "bytes")
		var joined batch.Output
		for piece := range wire.SplitOutput(in, limit) {
			if size := len(piece.Rows.Data) + 8*piece.Rows.Len(); size > limit && piece.Rows.Len() > 1 {
				t.Fatalf("a piece of %d rows has %d bytes, over %d", piece.Rows.Len(), size, limit)
			}
			if _, err := wire.ToOutput(wire.FromOutput(piece), in.Rows.Len()); err != nil {
				t.Fatal(err)
			}
			for i := range piece.Rows.Len() {
				joined.Rows.Append(piece.Rows.Row(i))
			}
			joined.Origins = append(joined.Origins, piece.Origins...)
		}
		if diff := cmp.Diff(in, joined); diff != "" {
			t.Fatal(diff)
		}
	})
	if wire.FromOutput(batch.Output{}) != nil {
		t.Error("no output costs bytes")
	}
}

func BenchmarkFromRowOutcomes(b *testing.B) {
	in := make([]batch.RowOutcome, 1000)
	for i := range in {
		in[i] = batch.RowOutcome{Row: uint32(i), Outcome: batch.Filtered, Code: batch.CodeDropped, Function: "VerifyStu", Reason: "stu_id is outside 0..999"}
	}
	b.ReportAllocs()
	for b.Loop() {
		wire.FromRowOutcomes(in)
	}
}

func TestCutText(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"short", "short"},
		{"exactly eleven", "exactly…"},
		{"\xff\xffabc", "\uFFFDabc"},
		{strings.Repeat("a\xff", 5), "a\uFFFDa…"}, // each wrong byte takes three bytes as it is replaced
		{"äääääääää", "äää…"},
	} {
		if got := wire.CutText(c.text, 10); got != c.want || len(got) > 10 {
			t.Errorf("CutText(%q, 10) is %q with %d bytes, not %q", c.text, got, len(got), c.want)
		}
	}
}
