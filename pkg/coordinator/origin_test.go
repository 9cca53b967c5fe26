package coordinator

import (
	"slices"
	"strings"
	"testing"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestOrigin finds the lines of rows in what clients say of them.
func TestOrigin(t *testing.T) {
	t.Parallel()
	run := func(first, count uint32) *pb.Range { return &pb.Range{First: first, Count: count} }
	for _, c := range []struct {
		lines []*pb.Range
		want  []uint64
	}{
		{nil, []uint64{0, 0}},
		{[]*pb.Range{run(5, 1)}, []uint64{5, 0, 0}},
		{[]*pb.Range{run(5, 2), run(9, 1), run(0, 0), run(20, 100)}, []uint64{5, 6, 9, 20, 21}},
		{[]*pb.Range{run(1<<32-1, 1<<32-1)}, []uint64{1<<32 - 1, 1 << 32}},
	} {
		o := originOf(&pb.Origin{Source: "rows.ndjson", Lines: c.lines})
		var got []uint64
		for row := range c.want {
			got = append(got, lineOf(o.GetLines(), uint32(row)))
		}
		if !slices.Equal(got, c.want) || o.GetSource() != "rows.ndjson" {
			t.Errorf("%v gives %v of %q", c.lines, got, o.GetSource())
		}
	}
	if originOf(nil) != nil || originOf(&pb.Origin{}) != nil {
		t.Error("a batch without an origin has one")
	}
	if o := originOf(&pb.Origin{Source: strings.Repeat("ä", 1000)}); len(o.GetSource()) != maxSource {
		t.Errorf("a long name is kept with %d bytes", len(o.GetSource()))
	}
}
