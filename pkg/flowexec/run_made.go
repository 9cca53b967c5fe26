package flowexec

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// made returns the set of rows that a function has made of rs. out has the rows, and parents has for each the row of rs that
// it was made of. Rows of rs of which nothing was made end as filtered, unless this is the flow's last function: then they are
// done.
func (st *stepRun) made(s *step, rs *rows.Set, out kis.Vector, parents []uint32) *rows.Set {
	if !isIdentity(parents, rs.Len()) && s.Index+1 < len(st.run.plan.steps) {
		has := st.x.mem.Numbers(rs.Len())
		for _, p := range parents {
			has[p] = 1
		}
		for _, g := range st.gone {
			has[g] = 1
		}
		for i, n := range has {
			if n == 0 {
				st.end(rs, uint32(i), batch.RowOutcome{Outcome: batch.Filtered, Code: batch.CodeNotCommitted,
					Reason: "the function passed nothing on for it"})
			}
		}
	}
	made := st.x.mem.Made(rs, out, parents, s.Index+1)
	return st.run.bound.made(st, s, rs, st.x.mem.Keep(made, st.nils(s, made)))
}

// isIdentity reports whether parents is 0, 1, … n-1: one row was made of each row, in order.
func isIdentity(parents []uint32, n int) bool {
	if len(parents) != n {
		return false
	}
	for i, p := range parents {
		if p != uint32(i) {
			return false
		}
	}
	return true
}

// refuseNil ends the rows of rs for which the function passed on a nil pointer: out has one element for each row.
func (st *stepRun) refuseNil(s *step, rs *rows.Set, out kis.Vector) {
	if !s.outPointer {
		return
	}
	gone := len(st.gone)
	for i, p := range unsafe.Slice((*unsafe.Pointer)(out.Pointer()), out.Len()) {
		if _, found := slices.BinarySearch(st.gone[:gone], uint32(i)); p == nil && !found {
			st.end(rs, uint32(i), nilPassed(s))
			st.gone = append(st.gone, uint32(i))
		}
	}
	slices.Sort(st.gone)
}

// nils ends those of the rows made by a function that are nil pointers, and returns their places in made. It returns nil if
// there are none.
func (st *stepRun) nils(s *step, made *rows.Set) []uint32 {
	if !s.outPointer {
		return nil
	}
	var gone []uint32
	for i, p := range unsafe.Slice((*unsafe.Pointer)(made.Vec.Pointer()), made.Len()) {
		if p == nil {
			st.end(made, uint32(i), nilPassed(s))
			gone = append(gone, uint32(i))
		}
	}
	return gone
}

// nilPassed is the outcome of a row for which a function passed on a nil pointer.
func nilPassed(s *step) batch.RowOutcome {
	return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionError, Attempts: 1,
		Reason: fmt.Sprintf("the function passed on a nil %v and no error: return kis.Drop to leave a row out", s.out)}
}
