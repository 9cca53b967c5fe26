package decode

import (
	"fmt"
	"reflect"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// unmarshal reads rows with the UnMarshal method (kis.Serialize) of the i-th type that a step reads: all rows at once. If that fails, it reads
// each row alone; if that fails too, and the row's own type has a method Marshal, it reads what that makes of the row. A row that still can't
// be read ends as dead. It returns the rows that could be read, and the places of the others.
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
				Reason: Trimmed(fmt.Sprintf("the row does not fit %s, whose rows read themselves: %v", in.Name, err))})
			bad = append(bad, uint32(k))
			continue
		}
		all = reflect.AppendSlice(all, read)
	}
	return kis.VectorOf(all), bad
}
