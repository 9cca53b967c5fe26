package point

import (
	"slices"
	"sync"
	"testing"
)

// The points of this test. Other tests of the package may have more.
var (
	second = New("point/test: came second")
	first  = New("point/test: came first")
)

func TestCounts(t *testing.T) {
	before := All()
	var hitting sync.WaitGroup
	for range 4 {
		hitting.Go(func() {
			for range 1000 {
				first.Hit()
			}
		})
	}
	hitting.Wait()
	second.Hit()
	after := All()
	if !slices.IsSortedFunc(after, func(a, b Count) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	}) {
		t.Errorf("points are not sorted by name: %v", after)
	}
	for i, want := range map[string]int64{"point/test: came first": 4000, "point/test: came second": 1} {
		at := slices.IndexFunc(after, func(c Count) bool { return c.Name == i })
		if at < 0 {
			t.Fatalf("%q is not among %v", i, after)
		}
		if got := after[at].Hits - before[at].Hits; got != want {
			t.Errorf("%q was counted %d times, want %d", i, got, want)
		}
	}
}

func TestBadNames(t *testing.T) {
	for _, name := range []string{
		"", "resumed", "session: resumed", "coordinator/session", "coordinator/session:resumed", "coordinator/session: ", "Coordinator/session: resumed",
		"coordinator/session: resumed.", "coordinator/session: resumed: again", "point/test: came first",
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a point may have the name %q", name)
				}
			}()
			New(name)
		}()
	}
}
