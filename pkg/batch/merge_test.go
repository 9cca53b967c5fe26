package batch

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	diff "github.com/google/go-cmp/cmp"
)

// TestMergeIsAStableSort compares with sorting the pieces one behind the other.
func TestMergeIsAStableSort(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 2000 {
		pieces := make([]Output, r.IntN(20))
		var all Output
		n := 0
		for i := range pieces {
			ascending, origin := r.IntN(4) > 0, uint32(0)
			for range r.IntN(12) {
				if ascending {
					origin += r.Uint32N(3)
				} else {
					origin = r.Uint32N(20)
				}
				if r.IntN(30) == 0 {
					origin = WholeBatch
				}
				n++
				row := fmt.Appendf(nil, "%d", n)
				for _, o := range []*Output{&pieces[i], &all} {
					o.Rows.Append(row)
					o.Rows.Keys = append(o.Rows.Keys, uint64(n))
					o.Origins = append(o.Origins, origin)
				}
				if origin == WholeBatch {
					ascending = false
				}
			}
		}
		order := make([]uint32, n)
		for i := range order {
			order[i] = uint32(i)
		}
		slices.SortStableFunc(order, func(a, b uint32) int { return cmp.Compare(all.Origins[a], all.Origins[b]) })
		want := Output{Rows: all.Rows.Select(order)}
		for _, i := range order {
			want.Origins = append(want.Origins, all.Origins[i])
		}
		got := Merge(pieces)
		if n == 0 {
			if got.Rows.Len() != 0 {
				t.Fatalf("nothing was merged to %v", got)
			}
			continue
		}
		if d := diff.Diff(want, got); d != "" {
			t.Fatalf("%d pieces: %s", len(pieces), d)
		}
	}
}

func TestMergeSharesOnePieceInOrder(t *testing.T) {
	one := Output{Rows: pack("a", "b"), Origins: []uint32{4, 7}}
	one.Rows.Encoding = "x"
	got := Merge([]Output{{}, one, {}})
	if &got.Rows.Data[0] != &one.Rows.Data[0] || got.Rows.Encoding != "x" {
		t.Error("the only piece was copied")
	}
	more := Merge([]Output{one, {Rows: pack("c"), Origins: []uint32{5}}})
	if string(more.Rows.Data) != "acb" || more.Rows.Encoding != "x" || more.Rows.Keys != nil {
		t.Errorf("got %q in %q with keys %v", more.Rows.Data, more.Rows.Encoding, more.Rows.Keys)
	}
}

// What was joined can be merged later.
func TestJoinLosesNothingThatMergeNeeds(t *testing.T) {
	piece := func(origins ...uint32) Output {
		o := Output{Origins: origins, Rows: Columns{Encoding: Protobuf}}
		for i, origin := range origins {
			o.Rows.Append(fmt.Appendf(nil, "%d of %d", i, origin))
		}
		return o
	}
	for _, pieces := range [][]Output{
		nil, {{}}, {piece(1, 2)}, {{}, piece(2, 1), {}}, {piece(0, 2, 4), piece(1, 2, 3)}, {piece(9), {}, piece(1, WholeBatch), piece(5, 9)},
	} {
		got, want := Merge([]Output{Join(pieces)}), Merge(pieces)
		if d := diff.Diff(want, got); d != "" {
			t.Error("joined and merged, against merged:", d)
		}
	}
}

func BenchmarkMerge(b *testing.B) {
	pieces := make([]Output, 2)
	for i := range 1000 {
		o := &pieces[rand.IntN(2)]
		o.Rows.Append(make([]byte, 50))
		o.Origins = append(o.Origins, uint32(i))
	}
	b.ReportAllocs()
	for b.Loop() {
		Merge(pieces)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/row")
}
