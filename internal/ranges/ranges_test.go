package ranges

import (
	"slices"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

func TestOf(t *testing.T) {
	for _, c := range []struct {
		numbers []uint16
		want    []batch.Range
	}{
		{nil, nil},
		{[]uint16{7}, []batch.Range{{First: 7, Count: 1}}},
		{[]uint16{0, 1, 2}, []batch.Range{{First: 0, Count: 3}}},
		{[]uint16{0, 2, 3, 65534, 65535}, []batch.Range{{First: 0, Count: 1}, {First: 2, Count: 2}, {First: 65534, Count: 2}}},
	} {
		if got := Of(c.numbers); !slices.Equal(got, c.want) {
			t.Errorf("%d: got %v, want %v", c.numbers, got, c.want)
		}
	}
}
