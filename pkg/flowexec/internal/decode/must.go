package decode

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// mustWhenRead reports whether Read can do without requireFields for these rows: source.must names no fields, or they are looked for while
// the rows are decoded, or the compiler has seen that the rows' type has them.
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

// requireFields ends each row that lacks a field which source.must names, and returns the Set of the other rows.
func (r *Reader) requireFields(in *Input, rs *rows.Set) *rows.Set {
	return r.Memory.Keep(rs, r.lackFields(in, rs, rows.Range[uint32](0, rs.Len())))
}

// lackFields looks at the rows at the given places. It ends as dead each of them that lacks a field which source.must names, or that is no
// JSON object, and returns the places of those.
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
			o.Reason = in.lacking(lacks)
		}
		if o.Code != 0 {
			r.Host.End(rs, i, o)
			bad = append(bad, i)
		}
	}
	return bad
}

// lacking returns the reason of a row that lacks fields which it must have, or has null there.
func (in *Input) lacking(names []string) string {
	var reasons []string
	plain := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return in.Needs[name] != "" })
	if len(plain) > 0 {
		reasons = append(reasons, fmt.Sprintf("the row lacks %s, which source.must of %s asks for", strings.Join(plain, ", "), in.Name))
	}
	for _, name := range names {
		if in.Needs[name] != "" {
			reasons = append(reasons, Needed(in.Name, name, in.Needs[name]))
		}
	}
	return Trimmed(strings.Join(reasons, "; "))
}

// Needed returns the reason of a row in which a field is missing or null that source.fields of a function declares. typ is the field's type there.
func Needed(function, field, typ string) string {
	return fmt.Sprintf("the row lacks %s, which source.fields of %s declares as %s: write %s? if it may be null or missing", field, function, typ, typ)
}
