package flowexec

import (
	"encoding/json"
	"reflect"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowcopy"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// This file is how a function that is called again for a row, and a letter, get the row as it came to the function, whatever
// the function has changed meanwhile through what the row leads to. Rows that are still as they came to the flow are decoded anew.
// Rows that a function made are copied before the call.

// findChanges notes the steps that may be called again for a row, and those that can change what rows lead to.
func (p *Plan) findChanges() {
	for _, s := range p.steps {
		s.again = s.retries > 0 || s.form.Whole() && !p.whole() ||
			s.form == kis.FormFaaS && s.mode == definition.ModeLoad && s.onMissing == definition.OnMissingWait
		s.changes = s.form == kis.FormFaaS || // which may ask for its input
			slices.ContainsFunc(s.in, func(in reflect.Type) bool { return rowcopy.For(in).Deep() })
	}
}

// mustCome reports whether rows must be had later as they came to the step: for another attempt, a letter, or a goroutine that goes on
// behind one which does not return.
func (r *run) mustCome(s *step) bool {
	return s.changes && (s.again || r.part.KeepDead > 0 || r.plan.stretches != nil)
}

// keepCame copies rows that a function made before the step's function may change them.
func (r *run) keepCame(s *step, rs *rows.Set) {
	if rs.Came == nil && r.mustCome(s) && rowcopy.For(rs.Vec.Type()).Deep() {
		rs.Came = rows.CopyOf(rs.Vec)
	}
}

// again makes row i of the rows under way readable anew, as it came, before its function is called for it once more. False: it
// can't be read, and has ended.
func (r *run) again(i int) bool {
	s, rs, f := r.step, r.now, &r.x.frame
	if r.reload != nil {
		r.reload(i)
	}
	if !s.changes || s.code == nil {
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
	if !s.changes || rs.Len() == 0 {
		return rs
	}
	rs.View, rs.Wide, rs.Seen = nil, nil, nil
	if came := rs.Came; came != nil {
		rs.Vec = rows.CopyOf(came)
	}
	return r.prepare(s, rs)
}

// ownRaw gives a function that may be called again, or whose rows are kept, raw rows of its own: what it changes in them it
// would change in the part.
func (r *run) ownRaw(s *step, view kis.Vector) {
	if !r.mustCome(s) || elem(view.Type()) != rawType {
		return
	}
	for i := range view.Len() {
		row, ok := view.At(i).(*json.RawMessage)
		if !ok {
			row = &rawRows(view)[i]
		}
		*row = slices.Clone(*row)
	}
}
