package kis

import (
	"fmt"
	"reflect"
	"sync/atomic"

	"github.com/kisgrid/kisgrid/internal/storetext"
)

// Writer gathers the effects of one row's Save. They are sent together with those of the run's other rows after the
// function has returned without an error, in the order of the calls, and take effect once. Keys are without the connector's
// prefix. Values are strings, []byte, numbers, bools, encoding.TextMarshaler, and anything else as JSON. A Load into the same type
// gets an equal value, as far as encoding/json keeps it inside of structs, slices and maps. A value that can't be written, or that
// would come back as another one, fails the row, and so does a nil pointer. One goroutine at a time may use a Writer, and only until
// its function returns: what it is told later is ignored, and the log says so once.
//
// When a row runs again, the n-th call for it is the n-th effect of before, and takes place no second time. So a function makes
// the same calls in the same order each time: range over a map's keys only once they are sorted. On a Redis Cluster, which
// remembers effects with their keys, effects in another order take place twice.
type Writer interface {
	// Set gives a field of the key's hash a value.
	Set(key, field string, value any)
	// Incr adds a number to a field of the key's hash; a field that is not there counts as 0.
	Incr(key, field string, by any)
	// Append adds a value to the end of the key's list.
	Append(key string, value any)
	// Delete removes the key.
	Delete(key string)
}

// Op is what an Effect does to its key.
type Op uint8

// The operations of Writer.
const (
	OpSet Op = 1 + iota
	OpIncr
	OpAppend
	OpDelete
)

// Effect is one call of a Writer.
type Effect struct {
	Op    Op
	Key   string
	Field string // of Set and Incr
	Value string // of Set, Incr and Append
	Row   int    // the row of the frame it belongs to
}

// writer is the Writer of one frame. err is the first value of the row that could not be written.
type writer struct {
	frame    *Frame
	function string
	over     atomic.Bool // the call has ended: the frame's effects are another's
	err      error
}

// late tells of a call of the Writer after its function's.
func (w *writer) late() bool {
	if !w.over.Load() {
		return false
	}
	w.frame.late(w.function, "its Writer")
	return true
}

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

func (w *writer) Incr(key, field string, by any) {
	if w.late() {
		return
	}
	switch v := reflect.ValueOf(by); {
	case v.IsValid() && (v.CanInt() || v.CanUint() || v.CanFloat()):
	default:
		if w.err == nil {
			w.err = fmt.Errorf("add to field %q of key %q: %T is no number", field, key, by)
		}
		return
	}
	w.add(OpIncr, key, field, by)
}
