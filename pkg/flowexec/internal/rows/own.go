package rows

import (
	"encoding/json"
	"slices"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowcopy"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// CopyOf returns a new vector with deep copies of the rows of v. The vectors share no memory, except types that package rowcopy never copies.
func CopyOf(v kis.Vector) kis.Vector {
	made := v.New()
	made.Reset(v.Len())
	copier, size := rowcopy.For(v.Type()), v.Type().Size()
	to, from := made.Pointer(), v.Pointer()
	for i := range uintptr(v.Len()) {
		copier.Copy(unsafe.Add(to, i*size), unsafe.Add(from, i*size))
	}
	return made
}

// AsCame returns the rows of s at the given places, which ascend, as they were before the step's function was called, even if the function
// has changed them since. Rows that are still encoded are decoded anew when they are read. born is the step that they are for.
func (m *Memory) AsCame(s *Set, places []uint32, born int) *Set {
	was := *s
	was.View, was.Wide, was.Seen, was.Came = nil, nil, nil, nil
	if s.Came != nil {
		was.Vec = s.Came
	}
	sub := m.Subset(&was, places, born)
	sub.Prev = s
	if s.Came != nil {
		sub.Vec = CopyOf(sub.Vec) // it may be asked for again
	}
	return sub
}

// Resumed takes rows out of a Set that Packed made, for the run in which they go on: the rows at the given places, with all their earlier
// Sets. origins has their origins in that run. For a nil Set it returns nil.
func (m *Memory) Resumed(s *Set, places []uint32, origins []RunRow) *Set {
	if s == nil {
		return nil
	}
	sub := &Set{
		Born: s.Born, Prev: m.Resumed(s.Prev, places, origins), Origins: origins,
		Nth: m.Pick(s.Nth, places), Trips: m.Pick(s.Trips, places), Paths: Pick(s.Paths, places),
	}
	if s.Vec != nil {
		sub.Vec = m.gathered(s.Vec, places)
		if rowcopy.For(s.Vec.Type()).Deep() {
			sub.Vec = CopyOf(sub.Vec) // a goroutine that is left behind may go on with it
		}
	}
	if s.Along != nil {
		sub.Along = s.Along.Pick(places)
	}
	return sub
}

// Packed copies the rows of s at the given places, with all their earlier Sets, into memory that outlives the run. start is the step at which
// the run began. The copy has neither Origins nor Along: the caller has to keep these itself.
func Packed(s *Set, places []uint32, start int) *Set {
	p := &Set{Born: s.Born, Nth: Pick(s.Nth, places), Trips: Pick(s.Trips, places), Paths: Pick(s.Paths, places)}
	if s.Vec == nil {
		p.Born = start // it was never anything else
		return p
	}
	p.Vec = s.Vec.New()
	p.Vec.Gather(s.Vec, places)
	ownBytes(p.Vec)
	prev := s
	for prev != nil && prev.Born >= s.Born {
		if prev.Parents != nil {
			places = Pick(prev.Parents, places)
		}
		prev = prev.Prev
	}
	if prev != nil {
		p.Prev = Packed(prev, places, start)
	}
	return p
}

// ownBytes replaces each json.RawMessage in a vector by a copy, because its bytes may lie in the columns of the part.
func ownBytes(v kis.Vector) {
	switch v := v.(type) {
	case *kis.Vec[json.RawMessage]:
		for i, row := range v.Rows {
			v.Rows[i] = slices.Clone(row)
		}
	case *kis.Vec[any]:
		for i, row := range v.Rows {
			if raw, ok := row.(json.RawMessage); ok {
				v.Rows[i] = slices.Clone(raw)
			}
		}
	}
}
