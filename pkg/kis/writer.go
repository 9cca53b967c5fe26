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

// Op says which method of a Writer made an Effect.
type Op uint8

// The operations, each named after the method of Writer that makes the effect.
const (
	OpSet Op = 1 + iota
	OpIncr
	OpAppend
	OpDelete
)

// Effect is the record of one call of a Writer's method. An executor carries it out in the connector's store.
type Effect struct {
	Op    Op
	Key   string
	Field string // the field of the hash; only Set and Incr have one
	Value string // the value as text; Delete has none
	Row   int    // the row of the frame that the effect belongs to
}

// writer is the Writer that a Save function gets. Each call of save.Call makes one, and uses it for all rows of the call.
type writer struct {
	frame    *Frame
	function string      // its name, for the log
	over     atomic.Bool // the call has ended, so that the frame's effects belong to another call
	err      error       // the first value of the row that could not be written
}

// late reports whether the call of save.Call that w was made for has ended. If so, it tells the executor that the function used
// its Writer too late.
func (w *writer) late() bool {
	if !w.over.Load() {
		return false
	}
	w.frame.late(w.function, "its Writer")
	return true
}

// add adds an effect of the current row to the frame. If the value can't be written as text, it notes the error, which fails the
// row. After the call has ended it adds nothing.
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
