package decode

import (
	"encoding/json"
	"reflect"
	"slices"
	"unsafe"

	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Writer returns a function that appends row i of rs to dst. If encoding is batch.Protobuf, as Encoding returned it, it writes the row as a protobuf
// message. Otherwise it writes JSON; but a row that no function has made is written as it came, in its own encoding. The function may run code of row
// types.
func (r *Reader) Writer(rs *rows.Set, encoding string) func(dst []byte, i int) ([]byte, error) {
	if encoding == batch.Protobuf {
		return func(dst []byte, i int) ([]byte, error) {
			return proto.MarshalOptions{}.MarshalAppend(dst, rs.Vec.At(i).(proto.Message)) //nolint:forcetypeassert // Encoding has looked
		}
	}
	if rs.Vec == nil {
		return func(dst []byte, i int) ([]byte, error) { return append(dst, r.source(rs, i)...), nil }
	}
	row := rs.Vec.Type()
	base, size := rs.Vec.Pointer(), row.Size()
	switch {
	case row == rawType:
		raw := rawRows(rs.Vec)
		return func(dst []byte, i int) ([]byte, error) {
			if rs.Origins[i] != rows.WholeBatch && r.Source.Values == nil && sameBytes(raw[i], r.source(rs, i)) {
				return append(dst, raw[i]...), nil // which a function read already
			}
			return appendRaw(dst, raw[i])
		}
	case row.Kind() == reflect.Interface || r.Types.marshaler(row) != nil:
		return func(dst []byte, i int) ([]byte, error) { return r.Types.appendJSON(dst, rs.Vec.At(i)) }
	case row.Kind() == reflect.Pointer:
		codec := r.Types.codec(row.Elem())
		return func(dst []byte, i int) ([]byte, error) {
			return codec.Append(dst, *(*unsafe.Pointer)(unsafe.Add(base, uintptr(i)*size)))
		}
	}
	codec := r.Types.codec(row)
	return func(dst []byte, i int) ([]byte, error) { return codec.Append(dst, unsafe.Add(base, uintptr(i)*size)) }
}

// rawRows returns the rows of a vector of json.RawMessage, without copying them.
func rawRows(v kis.Vector) []json.RawMessage {
	return unsafe.Slice((*json.RawMessage)(v.Pointer()), v.Len())
}

// sameBytes reports whether two slices are the same piece of memory, not only equal.
func sameBytes(a, b []byte) bool {
	return len(a) == len(b) && unsafe.SliceData(a) == unsafe.SliceData(b)
}

// Entered returns row i as it was when it entered its step, in newly allocated memory, and its encoding: that of the columns if the row came encoded
// and no function has made it, otherwise batch.Protobuf or "", which means JSON.
func (r *Reader) Entered(rs *rows.Set, i uint32) ([]byte, string, error) {
	if r.Source.Values == nil && (rs.Vec == nil || rs.Born == r.Start) {
		return slices.Clone(r.source(rs, int(i))), r.Source.Columns.Encoding, nil
	}
	vec := rs.Vec
	if came := rs.Came; came != nil {
		vec = came
	}
	if m, ok := vec.At(int(i)).(proto.Message); ok && r.Source.Columns.Encoding == batch.Protobuf {
		data, err := proto.Marshal(m)
		return data, batch.Protobuf, err
	}
	if came := rs.Came; came != nil {
		was := *rs
		was.Vec, was.Came = came, nil
		rs = &was
	}
	data, err := r.Writer(rs, "")(nil, int(i))
	return data, "", err
}

// RunsOwnCodeToWrite reports whether writing rows may run code that the user wrote for row types, such as MarshalJSON.
func (r *Reader) RunsOwnCodeToWrite(rs *rows.Set) bool {
	return rs.Vec != nil && r.Types.HasOwnCode(rs.Vec.Type())
}
