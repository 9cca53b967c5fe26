package decode

import (
	"fmt"
	"reflect"
	"unsafe"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Rows that came in another encoding than JSON are turned into values before the first function reads them. MessagePack becomes JSON, so that a
// row means the same to every row type as the same row in JSON. Protobuf becomes the first generated message type that a function of the flow
// reads. Output is JSON, but for rows that came as protobuf and leave as messages.

// readEncoded returns a Set in which rows that came as MessagePack or protobuf are values. Rows that came as JSON it returns as they are. A row
// that can't be read ends as dead and is left out.
func (r *Reader) readEncoded(in *Input, rs *rows.Set) *rows.Set {
	var read kis.Vector
	var bad []uint32
	fail := func(i int, err error) {
		r.Host.End(rs, uint32(i), batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowUndecodable, Attempts: 1, Reason: Trimmed(err.Error())})
		bad = append(bad, uint32(i))
	}
	switch encoding := r.Source.Columns.Encoding; encoding {
	case "", batch.JSON:
		return rs
	case batch.MessagePack:
		texts := &kis.Vec[any]{Rows: make([]any, rs.Len())}
		for i := range texts.Rows {
			text, err := rowjson.FromMessagePack(r.source(rs, i))
			if err != nil {
				fail(i, fmt.Errorf("the row is no MessagePack that JSON can hold: %w", err))
			}
			texts.Rows[i] = string(text)
		}
		read = texts
	case batch.Protobuf:
		if in.message == nil {
			for i := range rs.Len() {
				fail(i, fmt.Errorf("the row is protobuf, but no function of flow %s from %s on reads a generated message: "+
					"take a pointer to one in %s, or send JSON", r.Flow, in.Name, in.Name))
			}
			break
		}
		read = kis.NewVector(in.message)
		read.Reset(rs.Len())
		row, base := slab(read)
		for i := range rs.Len() {
			into := reflect.NewAt(row, unsafe.Add(base, uintptr(i)*row.Size())).Interface().(proto.Message)
			if err := proto.Unmarshal(r.source(rs, i), into); err != nil {
				fail(i, fmt.Errorf("the row is no message %s, which functions of flow %s read: %w", into.ProtoReflect().Descriptor().FullName(), r.Flow, err))
			}
		}
	default:
		for i := range rs.Len() {
			fail(i, fmt.Errorf("the row is encoded as %q, which is not known here: send %s, %s or %s",
				encoding, batch.JSON, batch.Protobuf, batch.MessagePack))
		}
	}
	if len(bad) == rs.Len() {
		return r.Memory.Keep(rs, bad)
	}
	return r.Memory.Next(rs, read, bad, rs.Born)
}

// Encoding returns the encoding in which the rows of these Sets leave the flow: batch.Protobuf if the run's rows came as protobuf and each row
// of the Sets is a message; otherwise "", which means JSON.
func (r *Reader) Encoding(sets []*rows.Set) string {
	if r.Source.Columns.Encoding != batch.Protobuf {
		return ""
	}
	for _, rs := range sets {
		for i := range rs.Len() {
			if rs.Vec == nil {
				return ""
			}
			if _, ok := rs.Vec.At(i).(proto.Message); !ok {
				return ""
			}
		}
	}
	return batch.Protobuf
}

// jsonOfMessage writes a protobuf message as JSON. The names of the fields are those of the .proto file, and fields with their default value
// are written too.
func jsonOfMessage(m proto.Message) ([]byte, error) {
	return protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
}
