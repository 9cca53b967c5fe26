package rows

import "github.com/kisgrid/kisgrid/pkg/kis"

// Set is rows of one run on their way from one function of a flow to the next, all of one Go type. Every list in it has one element for each
// row. A Set does not change once it is made, apart from what is cached in View, Wide and Came: a row that jumps back goes on as the row
// that it was in an earlier Set. It belongs to the goroutine of its run.
type Set struct {
	// Born is the step of the flow that the rows were made for. They may enter later steps too, as they are.
	Born int
	// Prev is the Set that the rows were made from; nil for the rows as they came, and where nobody can tell. Parents has for each row its
	// place in Prev; nil means that row i was made from row i.
	Prev    *Set
	Parents []uint32
	// Origins has for each row the input row of the run that it comes from, or WholeBatch.
	Origins []RunRow
	// Nth numbers the rows that were made of the whole batch. Nil means 0 for all.
	Nth []uint32
	// Trips has for each row how often it has jumped. Nil means 0 for all.
	Trips []uint32
	// Paths tells apart the rows that come from the same origin (path.go). Nil means 0 for all.
	Paths []uint64
	// Vec holds the rows. Nil means that they are still as they came, encoded in the columns of their part.
	Vec kis.Vector
	// View holds the rows once more, as the type that the function of step ViewedFor reads. It spares later steps that read the same
	// type the work. Nil means that there is none.
	View      kis.Vector
	ViewedFor int32
	// Wide holds rows that are still as they came, decoded as the type that a later step reads; this step takes its fields from there. Seen
	// has for each row 0 if it is not decoded in Wide, else DecodedBit and the bits of the fields that it has.
	Wide kis.Vector
	Seen []uint32
	// Came is a copy of the rows from before the function of this step was called, because the function may change what rows point to. Nil
	// means that there is no copy.
	Came kis.Vector
	// Along is the data that rows keep which were parked before this step. Nil means that none was parked.
	Along Along
	// Forced means that the next function is called even if there are no rows. Behind are then the input rows that its results come from.
	Forced bool
	Behind []RunRow
}

// DecodedBit is set in an element of Set.Seen if its row is decoded. The bits below it say which fields the row has.
const DecodedBit = 1 << 31

// Along is the data that rows which were parked keep with them until their next step, with an element for each row of the Set. Package
// flowexec defines it; this package only picks elements.
type Along interface {
	// Pick returns the data of the rows at the given places.
	Pick(places []uint32) Along
}

// Len returns the number of rows.
func (s *Set) Len() int { return len(s.Origins) }

// Ancestor returns the row that row i was when it entered the given step or an earlier one, as a Set and the row's place in it. The Set is
// nil if that is not known.
func (s *Set) Ancestor(i uint32, step int) (*Set, uint32) {
	for s != nil && s.Born > step {
		if s.Parents != nil {
			i = s.Parents[i]
		}
		s = s.Prev
	}
	return s, i
}

// before returns the Set of an earlier step from which the rows of s were made. It returns nil if there is none, or if it is not known.
func (s *Set) before() *Set {
	prev := s.Prev
	for prev != nil && prev.Born >= s.Born {
		prev = prev.Prev
	}
	return prev
}

// ForgetView drops View, because the function of an earlier step that read it may have changed the rows in it. If Wide is the same vector,
// it drops Wide too.
func (s *Set) ForgetView() {
	if s.Wide == s.View {
		s.Wide, s.Seen = nil, nil
	}
	s.View = nil
}
