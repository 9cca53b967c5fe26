package flowexec

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/expr"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// fault is why a call of the user's code did not succeed: the error that it returned, or the value that it panicked with. Its
// text is read while the watchdog still watches the call, because the methods of the value may panic or block; they are not
// called again later.
type fault struct {
	signal   *kis.Signal // what the function asks for in place of an error, such as kis.Drop; nil if it is an error
	paused   bool        // the call ended with errPaused: before the row began
	panicked bool
	text     string
	stack    string // the stack of a panic in the executor's own code while it read or wrote rows; "" for all other faults
	// final says that the call was one of an expression, which would end in the same way again. misfit says why the row could not be read for it; nil
	// means that it was.
	final  bool
	misfit *misfit
	cause  error // the error as it was returned, for a program that asks for the run's error; nil for a panic
}

// Error implements error: it returns the text that the error or panic had when the call ended.
func (f *fault) Error() string { return f.text }

// returned turns a fault back into the error that the function returned. It returns every other error as it is, also nil and the
// fault of a panic.
func returned(err error) error {
	if f, ok := err.(*fault); ok && f.cause != nil { //nolint:errorlint // it is never wrapped
		return f.cause
	}
	return err
}

// faultOf makes a fault of the error that a call returned. It returns nil if err is nil. It calls the error's methods, which may
// panic or block.
func faultOf(err error) *fault {
	switch {
	case err == nil:
		return nil
	case err == errPaused: //nolint:errorlint // it is never wrapped
		return &fault{paused: true}
	}
	if v := reflect.ValueOf(err); v.Kind() == reflect.Pointer && v.IsNil() {
		pointTypedNil.Hit()
		return &fault{text: fmt.Sprintf("the function returned a nil %T as its error, which is not nil then: return nil itself when all is well", err)}
	}
	f := &fault{cause: err}
	if signal, ok := errors.AsType[*kis.Signal](err); ok && signal != nil {
		own := *signal
		f.signal = &own
		return f
	}
	switch own := err.(type) { //nolint:errorlint // expressions return them as they are
	case *expr.Failure:
		f.final = true
	case *misfit:
		f.final, f.misfit = true, own
	}
	f.text = err.Error()
	return f
}

// newPanic is the fault of a panic. It must be called by the function that recovered, and keeps the part of the stack that is the
// user's.
func newPanic(value any) *fault {
	pointPanicked.Hit()
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
