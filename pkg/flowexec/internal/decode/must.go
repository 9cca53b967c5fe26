package decode

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// mustWhenRead reports whether requireFields is not needed: the fields that source.must names are looked for while the rows are decoded, or
// Compile has made sure of them.
func (r *Reader) mustWhenRead(in *Input, rs *rows.Set) bool {
	if len(in.Must) == 0 {
		return true
	}
	if rs.Vec != nil {
		_, known := FieldsOf(rs.Vec.Type())
		return rs.Born > 0 && known
	}
	if len(in.Kinds) == 0 || rs.View != nil && rows.KindOf(rs.View) == in.Kinds[0] {
		return false
	}
	return in.mustSeen != 0 || in.wide != nil
}

// requireFields leaves out the rows that lack a field which source.must names. These end.
func (r *Reader) requireFields(in *Input, rs *rows.Set) *rows.Set {
	return r.Memory.Keep(rs, r.lackFields(in, rs, rows.Range[uint32](0, rs.Len())))
}

// lackFields ends those of the rows at the given places that lack a field which source.must names, and returns their places.
func (r *Reader) lackFields(in *Input, rs *rows.Set, places []uint32) (bad []uint32) {
	watched := r.Host.Watched()
	for _, i := range places {
		if watched && !r.Host.At(int(i)) {
			return bad
		}
		o := batch.RowOutcome{Outcome: batch.Dead, Attempts: 1}
		fields, err := r.Object(rs, int(i))
		if err != nil {
			o.Code, o.Reason = batch.CodeRowUndecodable, Trimmed(fmt.Sprintf("the row is no JSON object: %v", err))
		} else if lacks := slices.DeleteFunc(slices.Clone(in.Must), func(name string) bool {
			_, ok := fields.Field(name)
			return ok
		}); len(lacks) > 0 {
			o.Code = batch.CodeMissingField
			o.Reason = fmt.Sprintf("the row lacks %s, which source.must of %s asks for", strings.Join(lacks, ", "), in.Name)
		}
		if o.Code != 0 {
			r.Host.End(rs, i, o)
			bad = append(bad, i)
		}
	}
	return bad
}
