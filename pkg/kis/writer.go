package kis

import (
	"fmt"
	"reflect"
	"sync/atomic"

	"github.com/kisgrid/kisgrid/internal/storetext"
)

// Writer collects the effects of a Save function for one row. When the function has returned nil, the effects are sent together
// with those of other rows, in the order of the calls; each takes place once. Keys are without the connector's key prefix.
//
// A value may be a string, a []byte, a number, a bool, an encoding.TextMarshaler, or anything else that JSON can hold. A Load
// into the same type gets an equal value, as far as encoding/json keeps it inside structs, slices and maps. The row fails if a
// value can't be written, would come back as another value, or is a nil pointer.
//
// When a row runs again, the n-th call for the row is taken for the same effect as the n-th call before, and does not take place
// again. So a function has to make the same calls in the same order each time. For example, sort the keys of a map before you
// range over them. On a Redis Cluster, which remembers effects together with their keys, effects in another order take place
// twice.
//
// Only one goroutine at a time may use a Writer, and only until the function returns. Later calls are ignored, and the log says
// so once.
type Writer interface {
	// Set gives a field of the key's hash a value.
	Set(key, field string, value any)
	// Incr adds a number to a field of the key's hash. A field that is not there counts as 0.
	Incr(key, field string, by any)
	// Append adds a value to the end of the key's list.
	Append(key string, value any)
	// Delete removes the key.
	Delete(key string)
}

// Op is the operation of an Effect.
type Op uint8

// The operations, as the methods of Writer.
const (
	OpSet Op = 1 + iota
	OpIncr
	OpAppend
	OpDelete
)

// Effect is one call of a Writer, for executors.
type Effect struct {
	Op    Op
	Key   string
	Field string // for Set and Incr
	Value string // for Set, Incr and Append
	Row   int    // the row of the frame that the effect belongs to
}

// writer is the Writer of one call of a Save.
type writer struct {
	frame    *Frame
	function string      // its name, for the log
	over     atomic.Bool // the call has ended, so that the frame's effects belong to another call
	err      error       // the first value of the row that could not be written
}

// late reports whether the function has returned already, and tells the executor that its Writer was used after that.
func (w *writer) late() bool {
	if !w.over.Load() {
		return false
	}
	w.frame.late(w.function, "its Writer")
	return true
}

// add adds one effect to the frame. If the value can't be written, it notes the error, which fails the row.
func (w *writer) add(op Op, key, field string, value any) {
	if w.late() {
		return
	}
	e := Effect{Op: op, Key: key, Field: field, Row: w.frame.Row}
	if op != OpDelete {
		var err error
		if e.Value, err = storetext.Write(value); err != nil && w.err == nil {
			w.err = fmt.Errorf("write field %q of key %q: %w", field, key, err)
		}
	}
	w.frame.Effects = append(w.frame.Effects, e)
}

func (w *writer) Set(key, field string, value any) { w.add(OpSet, key, field, value) }

func (w *writer) Append(key string, value any) { w.add(OpAppend, key, "", value) }

func (w *writer) Delete(key string) { w.add(OpDelete, key, "", nil) }

// Incr implements Writer. A value that is not a number fails the row.
func (w *writer) Incr(key, field string, by any) {
	if w.late() {
		return
	}
	switch v := reflect.ValueOf(by); {
	case v.IsValid() && (v.CanInt() || v.CanUint() || v.CanFloat()):
	default:
		if w.err == nil {
			w.err = fmt.Errorf("add to field %q of key %q: a %T is not a number: pass an integer or a float", field, key, by)
		}
		return
	}
	w.add(OpIncr, key, field, by)
}
