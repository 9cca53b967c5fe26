package rows_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// value makes the row of an input row as a function of a step would: it tells both.
func value(origin rows.RunRow, step int) int { return int(origin)*100 + step }

// vector is values of rows in a vector.
func vector(values []int) kis.Vector {
	return &kis.Vec[int]{Rows: values}
}

// made takes all rows of a set through a step that makes 0 to 2 rows of each.
func made(t *rapid.T, m *rows.Memory, s *rows.Set, step int) *rows.Set {
	var parents []uint32
	var values []int
	for i, origin := range s.Origins {
		for range rapid.IntRange(0, 2).Draw(t, "rows") {
			parents = append(parents, uint32(i))
			values = append(values, value(origin, step))
		}
	}
	return m.Made(s, vector(values), parents, step+1)
}

// sets makes sets as a run has them that wait for one step: parts of the input, some taken through a step before.
func sets(t *rapid.T, m *rows.Memory) []*rows.Set {
	n := rapid.IntRange(0, 12).Draw(t, "n")
	input := m.Input(n)
	var out []*rows.Set
	for range rapid.IntRange(1, 4).Draw(t, "sets") {
		var places []uint32
		for i := range uint32(n) {
			if rapid.Bool().Draw(t, "in") {
				places = append(places, i)
			}
		}
		s := m.Subset(input, places, 0)
		if rapid.Bool().Draw(t, "made") {
			s = made(t, m, s, 0)
		}
		out = append(out, s)
	}
	return out
}

// row is one row of a set, as far as a function, or the run, can tell it from others.
type row struct {
	origin rows.RunRow
	path   uint64
	value  int // -1 for a row as it came
}

func list(sets []*rows.Set) (all []row) {
	for _, s := range sets {
		for i, origin := range s.Origins {
			r := row{origin, rows.At(s.Paths, i), -1}
			if s.Vec != nil {
				r.value = s.Vec.At(i).(int) //nolint:forcetypeassert // the test made it
			}
			all = append(all, r)
		}
	}
	return all
}

// Sets that are put in order, or joined, have the same rows, in the order of their input rows; rows of one input row keep the order that they had.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m rows.Memory
		given := sets(t, &m)
		want := list(given)
		slices.SortStableFunc(want, func(a, b row) int { return int(a.origin) - int(b.origin) })
		for name, put := range map[string]func([]*rows.Set) []*rows.Set{"InOrder": m.InOrder, "Join": m.Join} {
			if got := list(put(slices.Clone(given))); !slices.Equal(got, want) {
				t.Fatalf("%s: rows are\n%v, want\n%v", name, got, want)
			}
		}
	})
}

// However often rows were subset, made and joined, each finds the input row that it was.
func TestAncestor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m rows.Memory
		for _, s := range m.Join(sets(t, &m)) {
			if s.Len() == 0 {
				continue
			}
			s = made(t, &m, s, 1)
			for i, origin := range s.Origins {
				before, at := s.Ancestor(uint32(i), 1)
				if before == nil || before.Origins[at] != origin {
					t.Fatalf("row %d of input row %d has another ancestor at step 1", i, origin)
				}
				if got := s.Vec.At(i); got != value(origin, 1) {
					t.Fatalf("row %d is %v, want %d", i, got, value(origin, 1))
				}
			}
		}
	})
}

// Rows of one input row have paths of their own, which do not depend on the other rows of their run.
func TestPaths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m rows.Memory
		copies := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 6).Draw(t, "copies")
		paths := func(of []int) (all []uint64) {
			s := m.Input(len(of))
			for step := range 2 {
				var parents []uint32
				for i, origin := range s.Origins {
					for range of[origin] {
						parents = append(parents, uint32(i))
					}
				}
				s = m.Made(s, vector(make([]int, len(parents))), parents, step+1)
			}
			for i := range s.Len() {
				all = append(all, rows.At(s.Paths, i))
			}
			return all
		}
		together := paths(copies)
		for _, n := range copies {
			alone := paths([]int{n})
			if !slices.Equal(together[:len(alone)], alone) {
				t.Fatalf("a row that becomes %d has paths %v beside others, %v alone", n, together[:len(alone)], alone)
			}
			slices.Sort(alone)
			if len(slices.Compact(alone)) != n*n {
				t.Fatalf("%d rows of one input row share paths", n*n)
			}
			together = together[n*n:]
		}
	})
}

// A list that is taken as another type of number is the same memory.
func TestAs(t *testing.T) {
	list := []uint32{1, 2, 3}
	as := rows.As[rows.PartRow](list[:2])
	as[0] = 7
	if list[0] != 7 || len(as) != 2 {
		t.Fatalf("%v is not %v", as, list)
	}
	if rows.As[rows.RunRow, uint32](nil) != nil {
		t.Fatal("nil is not nil")
	}
}
