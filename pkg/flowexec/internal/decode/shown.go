package decode

import (
	"reflect"

	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// maxShownValues is how many values within one row Shown looks at to find out whether to write the row would run code of the user's.
const maxShownValues = 10_000

// Shown returns row i of rs as JSON, for somebody who looks at it. A row that came as JSON is returned as it came, even if it is malformed. The
// bytes must not be changed, and are valid only until the row is. in is the step that the rows enter or leave. It never runs code that the user
// wrote: ok is false if the row can't be had without, or can't be read at all.
func (r *Reader) Shown(in *Input, rs *rows.Set, i int) (text []byte, ok bool) {
	if rs.Vec == nil && r.Source.Values == nil {
		raw := r.source(rs, i)
		switch r.Source.Columns.Encoding {
		case "", batch.JSON:
			return raw, true
		case batch.MessagePack:
			text, err := rowjson.FromMessagePack(raw)
			return text, err == nil
		case batch.Protobuf:
			return shownMessage(in, raw)
		}
		return nil, false
	}
	if rs.Vec == nil {
		return nil, false
	}
	if rs.Vec.Type() == rawType {
		return rawRows(rs.Vec)[i], true
	}
	row := rs.Vec.At(i)
	if m, isMessage := row.(proto.Message); isMessage {
		text, err := jsonOfMessage(m)
		return text, err == nil
	}
	if row == nil {
		return []byte("null"), true
	}
	left := maxShownValues
	if r.Types.HasOwnCode(rs.Vec.Type()) && !r.Types.runsNoCode(reflect.ValueOf(row), &left) {
		return nil, false
	}
	text, err := r.Types.appendJSON(nil, row)
	return text, err == nil
}

// shownMessage returns a row that came as protobuf as JSON. ok is false if the step does not know its message.
func shownMessage(in *Input, raw []byte) (text []byte, ok bool) {
	if in.message == nil {
		return nil, false
	}
	m, ok := reflect.New(elem(in.message)).Interface().(proto.Message)
	if !ok || proto.Unmarshal(raw, m) != nil {
		return nil, false
	}
	text, err := jsonOfMessage(m)
	return text, err == nil
}

// runsNoCode reports whether a value can be written as JSON without running code that the user wrote, by looking at the types of the values
// within it. left is how many more values may be looked at.
func (t *Types) runsNoCode(v reflect.Value, left *int) bool {
	if *left--; *left < 0 {
		return false
	}
	if !v.IsValid() || !t.HasOwnCode(v.Type()) {
		return true
	}
	if v.Kind() != reflect.Interface {
		if p := reflect.PointerTo(v.Type()); jsonrule.HasMethods(p) || p.Implements(serializeType) {
			return false
		}
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		return v.IsNil() || t.runsNoCode(v.Elem(), left)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if !t.runsNoCode(v.Index(i), left) {
				return false
			}
		}
		return true
	case reflect.Map:
		if t.HasOwnCode(v.Type().Key()) {
			return false
		}
		for at := v.MapRange(); at.Next(); {
			if !t.runsNoCode(at.Value(), left) {
				return false
			}
		}
		return true
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); (f.IsExported() || f.Anonymous) && f.Tag.Get("json") != "-" && !t.runsNoCode(v.Field(i), left) {
				return false
			}
		}
		return true
	}
	return false
}
