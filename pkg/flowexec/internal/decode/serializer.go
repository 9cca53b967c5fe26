package decode

import (
	"fmt"
	"reflect"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// unmarshal has the i-th row type that a step reads read the rows itself, all of them at once. If it refuses them, it reads each alone, also as
// the row's own type writes it. Rows that it refuses then end; their places are returned.
func (r *Reader) unmarshal(in *Input, rs *rows.Set, i int) (kis.Vector, []uint32) {
	own, slice, raw := in.Serializers[i], reflect.SliceOf(in.Types[i]), r.Raw(rs)
	if r.Host.AtAll() {
		if read, err := kis.ReadRows(own, raw, slice); err == nil {
			return kis.VectorOf(read), nil
		}
	}
	all := reflect.MakeSlice(slice, 0, len(raw))
	var bad []uint32
	watched := r.Host.Watched()
	for k := range raw {
		if watched && !r.Host.At(k) {
			break
		}
		read, err := kis.ReadRows(own, raw[k:k+1:k+1], slice)
		if err != nil && r.Types.marshaler(reflect.TypeOf(raw[k])) != nil {
			var text any
			if text, err = r.Types.written(raw[k]); err == nil {
				read, err = kis.ReadRows(own, []any{text}, slice)
			}
		}
		if err != nil {
			r.Host.End(rs, uint32(k), batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowUndecodable, Attempts: 1,
				Reason: Trimmed(fmt.Sprintf("%v, which %s reads, does not take the row: %v", in.Types[i], in.Name, err))})
			bad = append(bad, uint32(k))
			continue
		}
		all = reflect.AppendSlice(all, read)
	}
	return kis.VectorOf(all), bad
}
