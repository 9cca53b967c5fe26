package kis

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Form says how a function was registered: it names the constructor that made its Func, such as FormVerify for Verify. FormFaaS
// stands for Registry.FaaS.
type Form uint8

// The forms of functions, each named after the constructor or method that a program calls for it.
const (
	FormVerify Form = 1 + iota
	FormCalculate
	FormExpand
	FormSave
	FormLoad
	FormBatch
	FormFaaS
)

// String returns the name of the constructor, such as "Verify"; for FormFaaS it returns "FaaS".
func (f Form) String() string {
	return [...]string{"", "Verify", "Calculate", "Expand", "Save", "Load", "Batch", "FaaS"}[f]
}

// Whole reports whether functions of this form see all rows of a run in one call.
func (f Form) Whole() bool { return f == FormBatch || f == FormFaaS }

// Code is a registered function, as an executor sees it. An executor makes a Frame for each run, fills in the rows and calls
// Call; for a Load it calls Keys before, and fills in the values that it loaded. Code holds no state, so any number of frames may
// use it at once.
type Code interface {
	Form() Form
	// In returns the row types that the function reads: one type, or for FaaS one for each slice parameter.
	In() []reflect.Type
	// Out returns the row type that the function passes on. nil means that rows pass on unchanged.
	Out() reflect.Type
	// Saved returns the type that a Load's value is read into. nil means that the form is not Load.
	Saved() reflect.Type
	// NewIn makes a vector for rows of In()[i], NewSaved one for values of Saved, and NewOut one for rows of Out.
	NewIn(i int) Vector
	NewSaved() Vector
	NewOut() Vector
	// Call calls the function for the rows lo to hi-1 of the frame, one after another. It returns hi; or, with the function's
	// error, the number of the row that returned it: the rows before that one are done. If the function panics, so does Call, and
	// Frame.Row is the row that was under way. If the form is Whole, there is one call for all rows of the frame, and an error
	// comes with lo.
	Call(f *Frame, lo, hi int) (int, error)
	// Keys appends the keys that a Load needs for the rows lo to hi-1 to Frame.Keys. It returns as Call does.
	Keys(f *Frame, lo, hi int) (int, error)
}

// Frame is the work of one function on one vector of rows: its input, its output and its call under way. It belongs to the
// goroutine that executes the run; other goroutines may use Watch only.
type Frame struct {
	// Call is the Call that From returns to the function. The executor sets it.
	Call Call
	// Params are the function's parameters. Copy is the copy of the flow. Identify returns the id of a row of In.
	Params   map[string]string
	Copy     *Copy
	Identify func(row int) batch.RowID
	// Connect opens the function's connector. nil means that there are no connectors.
	Connect func(context.Context) (Connection, error)
	// Bundle is the set of documents that the flow was compiled from, Registry the registry that it was compiled for, and Place
	// the function's place in the flow, from 0. FaaS functions need them.
	Bundle   *definition.Bundle
	Registry *Registry
	Place    int

	// Rows is the number of rows. In holds the rows, in one vector for each type of Code.In. Raw returns the rows as they came,
	// for FaaS functions that call Flow.Input.
	Rows int
	In   []Vector
	Raw  func() []any
	// Out takes the rows passed on. A Calculate or Load puts the row made of In's row i at place i; the executor makes Out large
	// enough. Other forms append to Out and Parents.
	Out Vector
	// Parents has, for each row of Out, the number of the row of In that it comes from. Lost means that this is not known;
	// Parents is empty then.
	Parents []uint32
	Lost    bool
	// Reuse means that the rows pass on as they came, whatever Out holds. Force means that the next function is entered even
	// without rows.
	Reuse, Force bool

	// Effects are the effects that a Save has written so far.
	Effects []Effect
	// Keys are the keys of a Load's rows. Saved holds the value of each row, and Found whether there is one.
	Keys  []string
	Saved Vector
	Found []bool

	// Row is the row of In that the function is working on.
	Row int
	// Watch is how another goroutine interrupts the frame. Before each row, if it is not 0, Pause is called; an error of Pause
	// ends the call.
	Watch atomic.Uint32
	Pause func(row int) error
	// Late is called when a function used its Writer or emit after it had returned, with the function's name and what it used. nil
	// means that nothing is called. Any goroutine may call Late at any time.
	Late func(function, what string)

	ctx      context.Context // context of the calls
	calls    atomic.Uint64   // odd while a call of an Expand or a Batch is under way; emit works during its own call only
	named    []int           // row numbers of Call.Origins
	hasNamed bool            // Call.Origins was called
}

// Copy is the state that one copy of a flow keeps from run to run, also when the flow's documents change.
type Copy struct {
	Cache Cache
	// Chain is the flow's functions as KisFlow's interface shows them. nil means that it is made from the frame's Bundle when a
	// function asks for it.
	Chain *Chain
	mu    sync.Mutex // guards Chain once functions run
	meta  metadata
}

// GetMetaData returns the value that SetMetaData keeps under a key, or nil.
func (c *Copy) GetMetaData(key string) any { return c.meta.get(key) }

// SetMetaData keeps a value under a key, for as long as the copy of the flow lives.
func (c *Copy) SetMetaData(key string, value any) { c.meta.set(key, value) }

// callContext is the context that functions get: the run's context, in which From also finds the Call.
type callContext struct {
	context.Context
	call *Call
}

// Value returns the Call for callKey, the key that From asks for. For other keys it returns the value of the run's context.
func (c *callContext) Value(key any) any {
	if key == (callKey{}) {
		return c.call
	}
	return c.Context.Value(key)
}

// SetContext sets the context for calls from now on. A function gets a context made from ctx, in which From finds the frame's
// Call.
func (f *Frame) SetContext(ctx context.Context) {
	f.Call.frame = f
	f.ctx = &callContext{ctx, &f.Call}
}

// late calls Late, if it is set, to say that a function used something after it had returned. what names it: "emit" or "its
// Writer".
func (f *Frame) late(function, what string) {
	if f.Late != nil {
		f.Late(function, what)
	}
}

// Begin is called before a function is called for a row, by code that an executor brings itself.
func (f *Frame) Begin(row int) error { return f.begin(row) }

// begin is called before the function is called for a row: it sets f.Row, and calls Pause if another goroutine has set Watch. An
// error means that the function must not be called for the row. Most times begin costs one atomic load.
func (f *Frame) begin(row int) error {
	f.Row = row
	if f.Watch.Load() != 0 {
		return f.Pause(row)
	}
	return nil
}
