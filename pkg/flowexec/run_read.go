package flowexec

import (
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// prepare decodes rows into the types that the step's function reads, and puts them into the frame's In. A row that can't be decoded
// ends; prepare returns the others.
func (st *stepRun) prepare(s *step, rs *rows.Set) *rows.Set {
	st.rs = rs
	f := &st.x.frame
	if st.x.reader.RunsOwnCode(&s.Input, rs) {
		rs = st.prepareWatched(s, rs)
	} else {
		rs, f.In = st.x.reader.Read(&s.Input, rs, f.In[:0])
	}
	f.Rows = rs.Len()
	return rs
}

// prepareWatched does the same as prepare, under the watchdog: the row types have methods that the user wrote.
func (st *stepRun) prepareWatched(s *step, rs *rows.Set) *rows.Set {
	f := &st.x.frame
	st.reading(true, rs, func() { rs, f.In = st.x.reader.Read(&s.Input, rs, f.In[:0]) })
	return rs
}

// reading calls read, which may call methods that the user wrote for the types of the rows of rs. ownCode says that it does: then the
// watchdog watches over it. reading returns true if the step goes on, and false if the run is over.
func (st *stepRun) reading(ownCode bool, rs *rows.Set, read func()) bool {
	if !ownCode {
		read()
		return true
	}
	if f := st.x.reading(0, rs.Len(), read); f != nil {
		panic(f) // panics of types are errors of their rows: this one is our own
	}
	st.x.renewAfterTimeout()
	o := st.x.stopped()
	if o != nil && !st.run.halted {
		st.halt(*o)
	}
	return o == nil
}

// readingHost is the decode.Host of a run: it watches over the code of row types, as over functions, and ends rows that can't be read.
type readingHost struct{ st *stepRun }

// Watched implements decode.Host.
func (h readingHost) Watched() bool { return h.st.x.inCall }

// At implements decode.Host.
func (h readingHost) At(row int) bool { return h.st.x.at(row) }

// AtAll implements decode.Host.
func (h readingHost) AtAll() bool {
	if h.st.run.work.abandoned != nil {
		return false // it must be known for which row the code does not return
	}
	h.st.x.frame.Row = -1
	return true
}

// Rows implements decode.Host.
func (h readingHost) Rows(rs *rows.Set) {
	if h.st.x.inCall {
		g := &h.st.x.guard
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.abandoned {
			return // the code of the types has returned too late: the watchdog looks at the rows now
		}
	}
	h.st.rs = rs
}

// End implements decode.Host.
func (h readingHost) End(rs *rows.Set, i uint32, o batch.RowOutcome) { h.st.end(rs, i, o) }

// again decodes row i once more, as it came to the step, before the function is called for it again, because the last call may have
// changed the row. It returns false if the row can't be decoded any more, and has ended, or if the run is over.
func (st *stepRun) again(i int) bool {
	s, rs, f := st.step, st.rs, &st.x.frame
	if st.reload != nil {
		st.reload(i)
	}
	if !s.Changes || s.code == nil {
		return true
	}
	in, n := slices.Clone(f.In), f.Rows
	sub := st.x.mem.AsCame(rs, []uint32{uint32(i)}, rs.Born)
	one := st.prepare(s, sub)
	if st.run.halted {
		return false
	}
	if one.Len() == 1 {
		for k, v := range f.In {
			in[k].Slice().Index(i).Set(v.Slice().Index(0))
		}
		if rs.Came != nil {
			rs.Vec.Slice().Index(i).Set(one.Vec.Slice().Index(0))
		}
	}
	f.In, f.Rows, st.rs = append(f.In[:0], in...), n, rs
	return one.Len() == 1
}

// allAgain does the work of the method again for all rows of a call. It returns the rows that can still be decoded.
func (st *stepRun) allAgain(s *step, rs *rows.Set) *rows.Set {
	if !s.Changes || rs.Len() == 0 {
		return rs
	}
	rs.View, rs.Wide, rs.Seen = nil, nil, nil
	if came := rs.Came; came != nil {
		rs.Vec = rows.CopyOf(came)
	}
	return st.prepare(s, rs)
}
