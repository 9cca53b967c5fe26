package flowexec

import (
	"encoding/json"
	"fmt"
	"reflect"
	"unsafe"

	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// output is what the last function passed on, in the order of the input rows.
func (r *run) output() batch.Output {
	last := len(r.plan.steps)
	sets := r.inOrder(last)
	r.step = r.plan.steps[last-1]
	out := r.open
	rows := 0
	for _, rs := range sets {
		rows += rs.Len()
	}
	if rows == 0 {
		return out
	}
	if len(r.pieces) > 0 || out.Rows.Len() > 0 {
		r.write(sets, &out)
		return out
	}
	if size := len(r.work.in.columns.Data); size > 0 {
		// Mostly rows are about as long when they leave as when they came.
		out.Rows.Data = make([]byte, 0, int(int64(size)*int64(r.n)/int64(r.work.in.len()))*9/8)
	}
	out.Rows.Ends, out.Origins = make([]uint32, 0, rows), make([]uint32, 0, rows)
	r.write(sets, &out)
	return out
}

// write appends rows to the output.
func (r *run) write(sets []*rows.Set, out *batch.Output) {
	if encoding := r.encoding(sets); out.Rows.Len() == 0 || encoding == out.Rows.Encoding {
		out.Rows.Encoding = encoding
	} else {
		r.pieces = append(r.pieces, *out)
		*out = batch.Output{}
		out.Rows.Encoding = encoding
	}
	r.x.frame.Call.Function, r.x.frame.Call.Attempt = r.step.name, 1
	for _, rs := range sets {
		r.now = rs
		if !r.writesOwnCode(rs) {
			r.encode(rs, out)
			continue
		}
		if f := r.x.reading(0, rs.Len(), func() { r.encode(rs, out) }); f != nil {
			panic(f) // panics of types are errors of their rows: it is our own
		}
		r.renewAfterTimeout()
	}
}

// encode appends rows to the output. A row that can't be written ends as dead.
func (r *run) encode(rs *rows.Set, out *batch.Output) {
	write := r.writer(rs)
	if out.Rows.Encoding == batch.Protobuf {
		write = func(dst []byte, i int) ([]byte, error) {
			return proto.MarshalOptions{}.MarshalAppend(dst, rs.Vec.At(i).(proto.Message))
		}
	}
	watched, cuts := r.x.inCall, r.x.lane.lanes.config.PieceBytes > 0 && !r.keyed
	for i, origin := range rs.Origins {
		if cuts && (i == 0 || origin != rs.Origins[i-1]) {
			r.cutPiece(out)
		}
		if watched && !r.x.at(i) {
			if o := r.x.stopped(); o != nil {
				r.end(rs, uint32(i), *o)
			}
			continue
		}
		data, err := write(out.Rows.Data, i)
		if err != nil {
			r.end(rs, uint32(i), batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowUnencodable, Attempts: 1,
				Reason: trimmed(fmt.Sprintf("the row that the flow passed on can't be written: %v", err))})
			continue
		}
		out.Rows.Data = data
		out.Rows.Ends = append(out.Rows.Ends, uint32(len(data)))
		row := batch.WholeBatch
		if origin != rows.WholeBatch {
			row = uint32(r.work.row(origin))
		}
		out.Origins = append(out.Origins, row)
	}
}

// writer is what writes row i of rs behind dst.
func (r *run) writer(rs *rows.Set) func(dst []byte, i int) ([]byte, error) {
	if rs.Vec == nil {
		return func(dst []byte, i int) ([]byte, error) { return append(dst, r.source(rs, i)...), nil }
	}
	row := rs.Vec.Type()
	base, size := rs.Vec.Pointer(), row.Size()
	switch {
	case row == rawType:
		raw := rawRows(rs.Vec)
		return func(dst []byte, i int) ([]byte, error) {
			if rs.Origins[i] != rows.WholeBatch && r.work.in.values == nil && sameBytes(raw[i], r.source(rs, i)) {
				return append(dst, raw[i]...), nil // which a function read already
			}
			return appendRaw(dst, raw[i])
		}
	case row.Kind() == reflect.Interface || r.plan.types.marshaler(row) != nil:
		return func(dst []byte, i int) ([]byte, error) { return r.plan.types.appendJSON(dst, rs.Vec.At(i)) }
	case row.Kind() == reflect.Pointer:
		codec := r.plan.types.codec(row.Elem())
		return func(dst []byte, i int) ([]byte, error) {
			return codec.Append(dst, *(*unsafe.Pointer)(unsafe.Add(base, uintptr(i)*size)))
		}
	}
	codec := r.plan.types.codec(row)
	return func(dst []byte, i int) ([]byte, error) { return codec.Append(dst, unsafe.Add(base, uintptr(i)*size)) }
}

// rawRows are the rows of a vector of json.RawMessage.
func rawRows(v kis.Vector) []json.RawMessage {
	return unsafe.Slice((*json.RawMessage)(v.Pointer()), v.Len())
}

// sameBytes reports whether two slices are the same memory.
func sameBytes(a, b []byte) bool {
	return len(a) == len(b) && unsafe.SliceData(a) == unsafe.SliceData(b)
}
