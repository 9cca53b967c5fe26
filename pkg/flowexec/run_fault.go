package flowexec

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// fault is why a call of the user's code did not succeed: the error that it returned, or the value that it panicked with. It is
// read under the watchdog, because the methods of that value may panic or block; nothing here calls them again.
type fault struct {
	signal   *kis.Signal // what the function asks for in place of an error, such as kis.Drop; nil if it is an error
	paused   bool        // the call ended before the row, because its context was cancelled
	panicked bool
	text     string
	stack    string // of a panic in our own code
	cause    error  // the error as it was returned, for a program that asks for the run's error; nil for a panic
}

// Error is the text that the error had when it was returned.
func (f *fault) Error() string { return f.text }

// returned is the error of a run as the function returned it.
func returned(err error) error {
	if f, ok := err.(*fault); ok && f.cause != nil { //nolint:errorlint // it is never wrapped
		return f.cause
	}
	return err
}

// faultOf reads the error of a call; nil if it has none. It calls the error's methods, which may panic or block.
func faultOf(err error) *fault {
	switch {
	case err == nil:
		return nil
	case err == errPaused: //nolint:errorlint // it is never wrapped
		return &fault{paused: true}
	}
	if v := reflect.ValueOf(err); v.Kind() == reflect.Pointer && v.IsNil() {
		return &fault{text: fmt.Sprintf("the function returned a nil %T as its error, which is not nil then: return nil itself when all is well", err)}
	}
	f := &fault{cause: err}
	if signal, ok := errors.AsType[*kis.Signal](err); ok && signal != nil {
		own := *signal
		f.signal = &own
		return f
	}
	f.text = err.Error()
	return f
}

// newPanic is the fault of a panic. It must be called by the function that recovered, and keeps the part of the stack that is the
// user's.
func newPanic(value any) *fault {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs[:])])
	var stack strings.Builder
	for lines := 0; lines < 8; {
		frame, more := frames.Next()
		switch {
		case strings.Contains(frame.Function, "/pkg/kis.(*") || strings.Contains(frame.Function, "/pkg/flowexec.") || strings.HasPrefix(frame.Function, "reflect.Value."):
			more = false // below are the executor's own
		case strings.HasPrefix(frame.Function, "runtime."):
		default:
			file := frame.File[strings.LastIndexByte(frame.File, '/')+1:]
			fmt.Fprintf(&stack, "\tat %s (%s:%d)\n", frame.Function, file, frame.Line)
			lines++
		}
		if !more {
			break
		}
	}
	return &fault{panicked: true, text: fmt.Sprintf("panic: %v\n%s", value, strings.TrimRight(stack.String(), "\n"))}
}

// outcome is the outcome of a row whose function ended with the fault: the row is dead.
func (f *fault) outcome() batch.RowOutcome {
	o := batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionError, Reason: decode.Trimmed(f.text)}
	if f.panicked {
		o.Code = batch.CodeFunctionPanic
	}
	return o
}
