package wire

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestOrigin packs the lines of rows as runs, and never into more than a message may have beside its rows.
func TestOrigin(t *testing.T) {
	origin := func(source string, lines ...int) *pb.Origin {
		return Origin(source, lines)
	}
	run := func(first, count uint32) *pb.Range { return &pb.Range{First: first, Count: count} }
	for _, c := range []struct {
		lines []int
		want  []*pb.Range
	}{
		{nil, nil},
		{[]int{3, 4, 5, 7, 9, 10}, []*pb.Range{run(3, 3), run(7, 1), run(9, 2)}},
		{[]int{5, 4}, []*pb.Range{run(5, 1), run(4, 1)}},
		{[]int{1, 0, 2}, []*pb.Range{run(1, 1)}},
		{[]int{1, -1}, []*pb.Range{run(1, 1)}},
	} {
		if got := origin("f", c.lines...); !proto.Equal(got, &pb.Origin{Source: "f", Lines: c.want}) {
			t.Errorf("%v gives %v", c.lines, got)
		}
	}
	worst := make([]int, 10_000)
	for i := range worst {
		worst[i] = math.MaxUint32 - 2*i
	}
	if n := proto.Size(origin(strings.Repeat("ä", 2000), worst...)); n > 3<<10 {
		t.Errorf("an origin has %d bytes", n)
	}
}
