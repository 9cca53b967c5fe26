// Package rowconv turns rows of one type into rows of another, as writing them as JSON and reading that does.
package rowconv

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
)

// Converter turns rows of one type into rows of another. It is immutable and safe for concurrent use.
type Converter struct {
	from, to    reflect.Type
	write, read *rowjson.Codec
}

// New makes the converter between two row types.
func New(from, to reflect.Type) *Converter {
	return &Converter{from: from, to: to, write: rowjson.For(from), read: rowjson.For(to)}
}

// Convert turns the row at from into the zero row at to. The error says which of the two types it does not fit.
func (c *Converter) Convert(to, from unsafe.Pointer) error {
	row, err := c.write.Append(nil, from)
	if err != nil {
		return fmt.Errorf("write %s as JSON: %w", c.from, err)
	}
	if err := c.read.Decode(row, to); err != nil {
		return fmt.Errorf("read %s as %s: %w", c.from, c.to, err)
	}
	return nil
}
