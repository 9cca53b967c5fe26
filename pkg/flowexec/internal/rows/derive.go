package rows

import "github.com/kisgrid/kisgrid/pkg/kis"

// Input returns a Set of the n input rows of a run, as they came: row i has the origin i.
func (m *Memory) Input(n int) *Set {
	s := m.sets.take()
	s.Origins = As[RunRow](m.numbers.take(n))
	for i := range s.Origins {
		s.Origins[i] = RunRow(i)
	}
	return s
}

// Subset returns a new Set of the rows of s at the given places, which ascend. born is the step that they are for. The new Set keeps the
// slice places.
func (m *Memory) Subset(s *Set, places []uint32, born int) *Set {
	sub := m.sets.take()
	sub.Born, sub.Prev, sub.Parents = born, s, places
	sub.Origins = m.origins(s.Origins, places)
	sub.Nth, sub.Trips, sub.Paths = m.Pick(s.Nth, places), m.Pick(s.Trips, places), Pick(s.Paths, places)
	if s.Vec != nil {
		sub.Vec = m.gathered(s.Vec, places)
	}
	if s.Came != nil {
		sub.Came = s.Came.New()
		sub.Came.Gather(s.Came, places)
	}
	if s.Along != nil {
		sub.Along = s.Along.Pick(places)
	}
	if s.View != nil && s.View != s.Vec {
		sub.View, sub.ViewedFor = m.gathered(s.View, places), s.ViewedFor
	}
	if s.Wide != nil {
		sub.Seen = m.Pick(s.Seen, places)
		if sub.Wide = sub.View; s.Wide != s.View {
			sub.Wide = m.gathered(s.Wide, places)
		}
	}
	return sub
}

// gathered returns a vector with copies of the rows of v at the given places.
func (m *Memory) gathered(v kis.Vector, places []uint32) kis.Vector {
	out := m.Like(v)
	out.Gather(v, places)
	return out
}

// Keep returns a Set of the rows of s without those at the places in gone, which ascend. If gone is empty, it returns s.
func (m *Memory) Keep(s *Set, gone []uint32) *Set {
	if len(gone) == 0 {
		return s
	}
	return m.Subset(s, m.Without(s.Len(), gone), s.Born)
}

// Without returns the numbers from 0 to n-1 that are not in gone, in ascending order. gone ascends too.
func (m *Memory) Without(n int, gone []uint32) []uint32 {
	left := m.numbers.take(n)[:0]
	for i := range uint32(n) {
		if len(gone) > 0 && gone[0] == i {
			gone = gone[1:]
			continue
		}
		left = append(left, i)
	}
	return left
}

// Next returns the Set of the rows that a function made of s, one of each row. out holds them: row i was made of row i of s. The rows at the
// places in gone, which ascend, are left out. born is the step that the new rows are for. The new Set owns out.
func (m *Memory) Next(s *Set, out kis.Vector, gone []uint32, born int) *Set {
	next := m.sets.take()
	next.Born, next.Prev, next.Vec = born, s, out
	next.Origins, next.Nth, next.Trips, next.Paths = s.Origins, s.Nth, s.Trips, s.Paths
	if len(gone) > 0 {
		left := m.Without(s.Len(), gone)
		out.Gather(out, left)
		next.Parents, next.Origins = left, m.origins(s.Origins, left)
		next.Nth, next.Trips, next.Paths = m.Pick(s.Nth, left), m.Pick(s.Trips, left), Pick(s.Paths, left)
	}
	return next
}

// Made returns the Set of the rows that a function made of s, any number of each row. out holds the rows: row i was made of row parents[i]
// of s. born is the step that they are for. The new Set owns out, and copies parents.
func (m *Memory) Made(s *Set, out kis.Vector, parents []uint32, born int) *Set {
	parents = append(m.numbers.take(len(parents))[:0], parents...)
	made := m.sets.take()
	made.Born, made.Prev, made.Parents, made.Vec = born, s, parents, out
	made.Origins, made.Nth, made.Trips = m.origins(s.Origins, parents), m.Pick(s.Nth, parents), m.Pick(s.Trips, parents)
	made.Paths = m.paths(s, parents, born-1)
	return made
}

// Written is like Made, for rows that are only written as output and then forgotten: it leaves out Nth, Trips and Paths. The new Set owns
// out and parents.
func (m *Memory) Written(s *Set, out kis.Vector, parents []uint32, born int) *Set {
	made := m.sets.take()
	made.Born, made.Prev, made.Parents, made.Vec = born, s, parents, out
	made.Origins = Pick(s.Origins, parents)
	return made
}

// OfWholeBatch returns the Set of the rows in out, which a function made of the whole batch, so that nobody can tell which input row they
// come from. path tells them apart from rows that were made of the whole batch elsewhere in the flow; born is the step that they are for.
// The new Set owns out.
func (m *Memory) OfWholeBatch(out kis.Vector, path uint64, born int) *Set {
	n := out.Len()
	made := &Set{Born: born, Vec: out, Origins: As[RunRow](m.numbers.take(n)), Nth: m.numbers.take(n), Paths: make([]uint64, n)}
	for i := range made.Origins {
		made.Origins[i], made.Nth[i], made.Paths[i] = WholeBatch, uint32(i), path
	}
	return made
}
