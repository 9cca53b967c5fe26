package decode

import (
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowcopy"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// RunsOwnCode reports whether Read of these rows for this step may run code that the user wrote for row types, such as UnmarshalJSON.
func (r *Reader) RunsOwnCode(in *Input, rs *rows.Set) bool {
	switch {
	case in.OwnCode || rs.Vec == nil:
		return in.OwnCode
	case len(in.Must) == 0 && (len(in.Types) == 0 || len(in.Types) == 1 && rows.KindOf(rs.Vec) == in.Kinds[0]):
		return false // the rows are what the step reads
	}
	return r.Types.HasOwnCode(rs.Vec.Type())
}

// Read makes rows readable as each of the types that a step reads. It returns the Set of the rows that can be read, and views with one vector
// for each type appended. For each row that can't be read it has called Host.End, with the outcome dead. If the run is over meanwhile (Host.At
// returns false), it returns early, with rows that are not decoded.
func (r *Reader) Read(in *Input, rs *rows.Set, views []kis.Vector) (*rows.Set, []kis.Vector) {
	if rs.Vec == nil {
		rs = r.readEncoded(in, rs)
	}
	if !r.mustWhenRead(in, rs) {
		rs = r.requireFields(in, rs)
	}
	first := len(views)
	for i := 0; i < len(in.Types); i++ {
		view, bad := r.View(in, rs, i)
		if len(bad) > 0 {
			// The rows that are left are read again, as each type.
			rs = r.Memory.Keep(rs, bad)
			r.Host.Rows(rs)
			views, i = views[:first], -1
			continue
		}
		views = append(views, view)
	}
	if in.Changes && rs.Vec != nil {
		r.keepCame(in, rs)
	}
	r.Host.Rows(rs)
	return rs, views
}

// keepCame keeps a copy of the rows in rs.Came before the step's function may change them. It does so only for rows that a function made,
// whose type has pointers, slices or the like, and that must be had later as they came to the step (mustCome).
func (r *Reader) keepCame(in *Input, rs *rows.Set) {
	if rs.Came == nil && r.mustCome(in) && rowcopy.For(rs.Vec.Type()).Deep() {
		rs.Came = rows.CopyOf(rs.Vec)
	}
}
