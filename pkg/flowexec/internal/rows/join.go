package rows

import (
	"cmp"
	"slices"
)

// Ref names a row in a list of Sets: Set is the place of its Set in the list, Row its place in that Set.
type Ref struct{ Set, Row uint32 }

// InOrder returns the rows of several Sets in the order of their origins, so that rows of one key stay in order even if one of them went
// another way through the flow. In each Set the rows must be in that order already. It cuts Sets into smaller ones where it has to; it does
// not join any. Rows with the same origin come in the order of their Sets. Empty Sets come last.
func (m *Memory) InOrder(sets []*Set) []*Set {
	if areInOrder(sets) {
		return sets
	}
	var ordered []*Set
	next := make([]int, len(sets)) // in each Set the first row that is not in ordered
	for {
		// The Set with the earliest row goes on up to the earliest row of another one.
		first, limit, second := -1, WholeBatch, 0
		for i, s := range sets {
			if next[i] >= s.Len() {
				continue
			}
			switch origin := s.Origins[next[i]]; {
			case first < 0:
				first = i
			case origin < sets[first].Origins[next[first]]:
				limit, second, first = sets[first].Origins[next[first]], first, i
			case origin < limit:
				limit, second = origin, i
			}
		}
		if first < 0 {
			break
		}
		s, lo := sets[first], next[first]
		hi := lo + 1
		for hi < s.Len() && (s.Origins[hi] < limit || s.Origins[hi] == limit && first < second) {
			hi++
		}
		next[first] = hi
		if lo > 0 || hi < s.Len() {
			s = m.Subset(s, Range[uint32](lo, hi), s.Born)
		}
		ordered = append(ordered, s)
	}
	for _, s := range sets {
		if s.Len() == 0 {
			ordered = append(ordered, s)
		}
	}
	return ordered
}

// areInOrder reports whether no row of a Set has an origin before that of the last row in the Sets before it, so that InOrder has nothing
// to do. Empty Sets do not count.
func areInOrder(sets []*Set) bool {
	last := RunRow(0)
	for _, s := range sets {
		n := s.Len()
		if n == 0 {
			continue
		}
		if s.Origins[0] < last {
			return false
		}
		last = s.Origins[n-1]
	}
	return true
}

// Join returns the rows of several Sets in the order of their origins, and rows with the same origin in the order of their Sets. Rows that
// stand side by side then and come from Sets that are alike (isAlike) are joined into one Set, which also knows the earlier Sets of its
// rows. Empty Sets come last.
func (m *Memory) Join(sets []*Set) []*Set {
	if len(sets) < 2 {
		return sets
	}
	var kinds, empty []*Set // kinds has the first Set of each kind
	var all []Ref
	kind := make([]int, len(sets))
	for at, s := range sets {
		if s.Len() == 0 {
			empty = append(empty, s)
			continue
		}
		if kind[at] = slices.IndexFunc(kinds, func(first *Set) bool { return isAlike(first, s) }); kind[at] < 0 {
			kind[at] = len(kinds)
			kinds = append(kinds, s)
		}
		for i := range s.Origins {
			all = append(all, Ref{uint32(at), uint32(i)})
		}
	}
	slices.SortStableFunc(all, func(a, b Ref) int { return cmp.Compare(sets[a.Set].Origins[a.Row], sets[b.Set].Origins[b.Row]) })
	var joined []*Set
	for len(all) > 0 {
		n := 1
		for n < len(all) && kind[all[n].Set] == kind[all[0].Set] {
			n++
		}
		joined, all = append(joined, m.joinAlike(sets, all[:n])), all[n:]
	}
	return append(joined, empty...)
}

// joinAlike makes one Set of the rows that of names in sets. The Sets of these rows must be alike (isAlike). If the rows are all rows of
// one Set, it returns that Set.
func (m *Memory) joinAlike(sets []*Set, of []Ref) *Set {
	first := of[0].Set
	if slices.ContainsFunc(of, func(at Ref) bool { return at.Set != first }) {
		return m.joinRows(sets, of)
	}
	if len(of) == sets[first].Len() {
		return sets[first]
	}
	places := m.numbers.take(len(of))
	for i, at := range of {
		places[i] = at.Row
	}
	return m.Subset(sets[first], places, sets[first].Born)
}

// isAlike reports whether rows of a and b can be joined into one Set: both Sets, and all earlier Sets that they were made from, are of the
// same steps and Go types. A Set with Along or Came is alike only with itself.
func isAlike(a, b *Set) bool {
	if a.Along != nil || a.Came != nil || b.Along != nil || b.Came != nil {
		return a == b
	}
	for a != b {
		if a == nil || b == nil || a.Born != b.Born || (a.Vec == nil) != (b.Vec == nil) {
			return false
		}
		if a.Vec == nil {
			return true // the rows were never anything else
		}
		if KindOf(a.Vec) != KindOf(b.Vec) {
			return false
		}
		a, b = a.before(), b.before()
	}
	return true
}

// joinRows makes one new Set of the rows that of names in sets, which must be alike (isAlike), and joins the earlier Sets of these rows in
// the same way.
func (m *Memory) joinRows(sets []*Set, of []Ref) *Set {
	first := sets[of[0].Set]
	j := m.sets.take()
	j.Born, j.Origins = first.Born, As[RunRow](m.numbers.take(len(of)))
	for i, at := range of {
		j.Origins[i] = sets[at.Set].Origins[at.Row]
	}
	m.joinLists(j, sets, of)
	if first.Vec == nil {
		return j
	}
	// Several Sets may come of one earlier Set: each of these is there once.
	all, begins := m.Like(first.Vec), make(map[*Set]uint32)
	var before []*Set
	places, was := m.numbers.take(len(of)), make([]Ref, len(of))
	numbers := make(map[*Set]uint32)
	for i, at := range of {
		s, row := sets[at.Set], at.Row
		begin, known := begins[s]
		if !known {
			begin = uint32(all.Len())
			begins[s] = begin
			all.Append(s.Vec)
		}
		places[i] = begin + row
		prev, row := s.Ancestor(row, s.Born-1)
		if prev == nil {
			continue
		}
		number, known := numbers[prev]
		if !known {
			number = uint32(len(before))
			numbers[prev] = number
			before = append(before, prev)
		}
		was[i] = Ref{number, row}
	}
	j.Vec = m.gathered(all, places)
	if before != nil {
		j.Prev = m.joinRows(before, was)
	}
	return j
}

// joinLists fills Trips and Paths of j, the Set made of the rows that of names in sets. A list in which all elements would be 0 stays nil.
func (m *Memory) joinLists(j *Set, sets []*Set, of []Ref) {
	for i, a := range of {
		s := sets[a.Set]
		if trip := At(s.Trips, int(a.Row)); trip > 0 {
			if j.Trips == nil {
				j.Trips = m.numbers.take(len(of))
			}
			j.Trips[i] = trip
		}
		if path := At(s.Paths, int(a.Row)); path > 0 {
			if j.Paths == nil {
				j.Paths = make([]uint64, len(of))
			}
			j.Paths[i] = path
		}
	}
}
