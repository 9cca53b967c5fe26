package flowexec

import (
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// prepare makes rows readable as the types that the step's function reads, in the frame's In. Rows that can't be read so end, each for
// itself.
func (r *run) prepare(s *step, rs *rows.Set) *rows.Set {
	r.now = rs
	f := &r.x.frame
	if r.x.reader.RunsOwnCode(&s.Input, rs) {
		rs = r.prepareWatched(s, rs)
	} else {
		rs, f.In = r.x.reader.Read(&s.Input, rs, f.In[:0])
	}
	f.Rows = rs.Len()
	return rs
}

// prepareWatched is prepare where types have code of their own.
func (r *run) prepareWatched(s *step, rs *rows.Set) *rows.Set {
	f := &r.x.frame
	r.reading(true, rs, func() { rs, f.In = r.x.reader.Read(&s.Input, rs, f.In[:0]) })
	return rs
}

// reading runs code that may call methods of the types of rows rs, under the watchdog if ownCode says that there are any. It returns false if the
// run is over.
func (r *run) reading(ownCode bool, rs *rows.Set, read func()) bool {
	if !ownCode {
		read()
		return true
	}
	if f := r.x.reading(0, rs.Len(), read); f != nil {
		panic(f) // panics of types are errors of their rows: this one is our own
	}
	r.renewAfterTimeout()
	o := r.x.stopped()
	if o != nil && !r.halted {
		r.halt(*o)
	}
	return o == nil
}

// Watched implements decode.Host.
func (r *run) Watched() bool { return r.x.inCall }

// At implements decode.Host.
func (r *run) At(row int) bool { return r.x.at(row) }

// AtAll implements decode.Host.
func (r *run) AtAll() bool {
	if r.work.abandoned != nil {
		return false // it must be known which row does not come back
	}
	r.x.frame.Row = -1
	return true
}

// Rows implements decode.Host.
func (r *run) Rows(rs *rows.Set) { r.now = rs }

// End implements decode.Host.
func (r *run) End(rs *rows.Set, i uint32, o batch.RowOutcome) { r.end(rs, i, o) }

// again makes row i of the rows under way readable anew, as it came, before its function is called for it once more. False: it
// can't be read, and has ended.
func (r *run) again(i int) bool {
	s, rs, f := r.step, r.now, &r.x.frame
	if r.reload != nil {
		r.reload(i)
	}
	if !s.Changes || s.code == nil {
		return true
	}
	in, n := slices.Clone(f.In), f.Rows
	sub := r.x.mem.AsCame(rs, []uint32{uint32(i)}, rs.Born)
	one := r.prepare(s, sub)
	if r.halted {
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
	f.In, f.Rows, r.now = append(f.In[:0], in...), n, rs
	return one.Len() == 1
}

// allAgain is again for all rows under way: it returns them.
func (r *run) allAgain(s *step, rs *rows.Set) *rows.Set {
	if !s.Changes || rs.Len() == 0 {
		return rs
	}
	rs.View, rs.Wide, rs.Seen = nil, nil, nil
	if came := rs.Came; came != nil {
		rs.Vec = rows.CopyOf(came)
	}
	return r.prepare(s, rs)
}
