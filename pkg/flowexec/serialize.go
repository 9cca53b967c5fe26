package flowexec

import (
	"fmt"
	"reflect"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// unmarshal has the row type read the rows itself, all at once as they are; when it refuses them, one by one, also as their
// own types write them. Those that it refuses then end.
func (r *run) unmarshal(s *step, rs *rows.Set, i int) (kis.Vector, []uint32) {
	own, slice, rows := s.serializers[i], reflect.SliceOf(s.in[i]), r.raw(rs)
	if r.work.abandoned == nil { // else it must be known which row it was
		r.x.frame.Row = -1
		if read, err := kis.ReadRows(own, rows, slice); err == nil {
			return kis.VectorOf(read), nil
		}
	}
	all := reflect.MakeSlice(slice, 0, len(rows))
	var bad []uint32
	for k := range rows {
		if !r.x.asks(k) {
			break
		}
		read, err := kis.ReadRows(own, rows[k:k+1:k+1], slice)
		if err != nil && r.plan.types.marshaler(reflect.TypeOf(rows[k])) != nil {
			var text any
			if text, err = r.plan.types.written(rows[k]); err == nil {
				read, err = kis.ReadRows(own, []any{text}, slice)
			}
		}
		if err != nil {
			r.end(rs, uint32(k), batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowUndecodable, Attempts: 1,
				Reason: trimmed(fmt.Sprintf("%v, which %s reads, does not take the row: %v", s.in[i], s.name, err))})
			bad = append(bad, uint32(k))
			continue
		}
		all = reflect.AppendSlice(all, read)
	}
	return kis.VectorOf(all), bad
}
