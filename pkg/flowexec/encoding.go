package flowexec

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

// Rows that came in another encoding than JSON are turned into rows that functions can read before the first function does:
// MessagePack into JSON, so that it means to every row type what the same row in JSON means; protobuf into the first generated
// message type that a function of the flow reads. Output is JSON, but for rows that came as protobuf and are passed on as
// messages.

var messageType = reflect.TypeFor[proto.Message]()

// readEncoded turns rows as they came into rows of the process. Those that can't be read end.
func (r *run) readEncoded(s *step, rs *rows.Set) *rows.Set {
	var rows kis.Vector
	var bad []uint32
	fail := func(i int, err error) {
		r.end(rs, uint32(i), batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowUndecodable, Attempts: 1, Reason: trimmed(err.Error())})
		bad = append(bad, uint32(i))
	}
	switch encoding := r.work.in.columns.Encoding; encoding {
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
		rows = texts
	case batch.Protobuf:
		message := r.plan.message(s)
		if message == nil {
			for i := range rs.Len() {
				fail(i, fmt.Errorf("the row is protobuf, but no function of flow %s from %s on reads a generated message: "+
					"take a pointer to one in %s, or send JSON", r.plan.flow, s.name, s.name))
			}
			break
		}
		rows = kis.NewVector(message)
		rows.Reset(rs.Len())
		row, base := slab(rows)
		for i := range rs.Len() {
			into := reflect.NewAt(row, unsafe.Add(base, uintptr(i)*row.Size())).Interface().(proto.Message)
			if err := proto.Unmarshal(r.source(rs, i), into); err != nil {
				fail(i, fmt.Errorf("the row is no %v, which functions of flow %s read: %w", row, r.plan.flow, err))
			}
		}
	default:
		for i := range rs.Len() {
			fail(i, fmt.Errorf("the row is encoded as %q, which is not known here: send %s, %s or %s",
				encoding, batch.JSON, batch.Protobuf, batch.MessagePack))
		}
	}
	if len(bad) == rs.Len() {
		return r.x.mem.Keep(rs, bad)
	}
	return r.x.mem.Next(rs, rows, bad, rs.Born)
}

// message is the generated message, as a pointer, that a step or the first one behind it reads; nil: none does.
func (p *Plan) message(s *step) reflect.Type {
	for _, s := range p.steps[s.index:] {
		for _, in := range s.in {
			if in.Kind() != reflect.Pointer {
				in = reflect.PointerTo(in)
			}
			if in.Elem().Kind() == reflect.Struct && in.Implements(messageType) {
				return in
			}
		}
	}
	return nil
}

// encoding is what the flow's output is written in.
func (r *run) encoding(sets []*rows.Set) string {
	if r.work.in.columns.Encoding != batch.Protobuf {
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

// jsonOfMessage writes a message with the names of its fields as its generated struct has them.
func jsonOfMessage(m proto.Message) ([]byte, error) {
	return protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
}
