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
	for _, c := range []struct {
		lines []uint32
		rows  int
		want  []uint64
	}{
		{nil, 2, []uint64{0, 0}},
		{[]uint32{5}, 3, []uint64{5, 6, 7}},
		{[]uint32{5, 2, 1}, 4, []uint64{5, 7, 8, 9}},
		{[]uint32{1, 1, 1, 1}, 4, []uint64{1, 2, 3, 4}},
		{[]uint32{1, 1, 7, 9}, 2, []uint64{1, 2}}, // more lines than rows
	} {
		o := originOf(&pb.Origin{Source: "rows.ndjson", Lines: c.lines}, c.rows)
		var got []uint64
		for row := range c.rows {
			got = append(got, lineOf(o.GetLines(), uint32(row)))
		}
		if !slices.Equal(got, c.want) || o.GetSource() != "rows.ndjson" {
			t.Errorf("%v gives %v of %q", c.lines, got, o.GetSource())
		}
	}
	if originOf(nil, 3) != nil || originOf(&pb.Origin{}, 3) != nil {
		t.Error("a batch without an origin has one")
	}
	if o := originOf(&pb.Origin{Source: strings.Repeat("ä", 1000)}, 1); len(o.GetSource()) != maxSource {
		t.Errorf("a long name is kept with %d bytes", len(o.GetSource()))
	}
}
