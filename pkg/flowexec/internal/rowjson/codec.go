// Package rowjson reads rows from JSON and writes them, as encoding/json does.
package rowjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"unsafe"
)

// Codec reads and writes rows of one type. It is immutable and safe for concurrent use.
type Codec struct {
	row reflect.Type
	// refuseNull: null would leave the row as if it had been empty.
	refuseNull bool
}

// For makes the codec of a row type.
func For(row reflect.Type) *Codec {
	return &Codec{row: row, refuseNull: row.Kind() == reflect.Struct && !reflect.PointerTo(row).Implements(unmarshalerType)}
}

var unmarshalerType = reflect.TypeFor[json.Unmarshaler]()

var errNull = errors.New("the row is null")

// Decode reads a row into the zero value at into.
func (c *Codec) Decode(row []byte, into unsafe.Pointer) error { return c.slow(row, into) }

// slow is encoding/json. A panic of a type's own UnmarshalJSON is an error.
func (c *Codec) slow(row []byte, into unsafe.Pointer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading it into %s panicked: %v", c.row, p)
		}
	}()
	if c.refuseNull && isNull(row) {
		return errNull
	}
	return json.Unmarshal(row, reflect.NewAt(c.row, into).Interface())
}

func isNull(row []byte) bool {
	for len(row) > 0 && isSpace(row[0]) {
		row = row[1:]
	}
	for len(row) > 0 && isSpace(row[len(row)-1]) {
		row = row[:len(row)-1]
	}
	return string(row) == "null"
}

func isSpace(b byte) bool { return b == ' ' || b == '\t' || b == '\r' || b == '\n' }

// Append writes the row at from behind dst. After an error dst is as it was.
func (c *Codec) Append(dst []byte, from unsafe.Pointer) ([]byte, error) {
	row, err := marshal(reflect.NewAt(c.row, from).Interface())
	return append(dst, row...), err
}

// AppendAny writes a row of whatever type behind dst.
func AppendAny(dst []byte, row any) ([]byte, error) {
	b, err := marshal(row)
	return append(dst, b...), err
}

// marshal is encoding/json. A panic of a type's own MarshalJSON is an error.
func marshal(row any) (b []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("writing %T panicked: %v", row, p)
		}
	}()
	return json.Marshal(row)
}
