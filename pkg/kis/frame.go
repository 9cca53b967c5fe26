package kis

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// This file is the seam between functions and what executes them (package flowexec). Authors of functions need none of it.

// Form is the constructor that a function was made with.
type Form uint8

// The forms.
const (
	FormVerify Form = 1 + iota
	FormCalculate
	FormExpand
	FormSave
	FormLoad
	FormBatch
	FormFaaS
)

// String is the constructor's name.
func (f Form) String() string {
	return [...]string{"", "Verify", "Calculate", "Expand", "Save", "Load", "Batch", "FaaS"}[f]
}

// Whole reports whether functions of this form see all rows of their run in one call.
func (f Form) Whole() bool { return f == FormBatch || f == FormFaaS }

// Code is a registered function. It holds no state: every Frame may use it at the same time.
type Code interface {
	Form() Form
	// In are the row types that it reads: one, or in FaaS one for each slice parameter.
	In() []reflect.Type
	// Out is the row type that it passes on; nil where rows pass on as they came.
	Out() reflect.Type
	// Saved is the type that a Load's value is read into; nil in other forms.
	Saved() reflect.Type
	// NewIn and NewSaved make vectors for In()[i] and Saved(); NewOut makes one for Out.
	NewIn(i int) Vector
	NewSaved() Vector
	NewOut() Vector
	// Call calls the function for the rows lo to hi-1 of the frame. It returns hi, or the row that returned an error with the
	// error; the rows before it are through. Frame.Row is the row under way also if the function panics. In the forms that are
	// Whole there is one call for all rows of the frame, and lo is returned with an error.
	Call(f *Frame, lo, hi int) (int, error)
	// Keys appends the keys that a Load needs for the rows lo to hi-1 to Frame.Keys; it returns as Call does.
	Keys(f *Frame, lo, hi int) (int, error)
}

// Frame is one function's work on one vector of rows. It belongs to one goroutine, Watch aside.
type Frame struct {
	// Call is what From tells the function. Set by the executor.
	Call Call
	// Params are the function's parameters, Copy the copy of the flow, Identify the id of a row of In.
	Params   map[string]string
	Copy     *Copy
	Identify func(row int) batch.RowID
	// Connect opens the function's connector; nil: there are none.
	Connect func(context.Context) (Connection, error)
	// Bundle is what the flow was compiled of, Registry what for, and Place the function's place in it, for FaaS functions.
	Bundle   *definition.Bundle
	Registry *Registry
	Place    int

	// Rows is how many rows there are. In are the rows, one vector for each of Code.In. Raw gives them as they came, for FaaS functions that ask.
	Rows int
	In   []Vector
	Raw  func() []any
	// Out takes the rows passed on. Calculate and Load put the row for In's row i at i, and the executor sizes Out to that;
	// Expand, Batch and FaaS append, with Parents.
	Out Vector
	// Parents has In's row for each of Out's rows. Lost: nobody can say, and Parents is empty.
	Parents []uint32
	Lost    bool
	// Reuse: the rows pass on as they came, whatever is in Out. Force: the next function is entered even with no rows.
	Reuse, Force bool

	// Effects are what a Save wrote so far.
	Effects []Effect
	// Keys are the keys of a Load's rows. Saved and Found have the value of each row.
	Keys  []string
	Saved Vector
	Found []bool

	// Row is the row of In that the function is working on.
	Row int
	// Watch is looked at before each row; when it is not 0, Pause is called, and an error from it ends the call.
	Watch atomic.Uint32
	Pause func(row int) error
	// Late is told that a function used what was its own during its call only, after that; nil: nobody is. It may be called on
	// any goroutine, at any time.
	Late func(function, what string)

	ctx      context.Context
	calls    atomic.Uint64 // odd while a call of an Expand or a Batch is under way: an emit is of that call alone
	named    []int
	hasNamed bool
}

// Copy is what one copy of a flow keeps from run to run, and from revision to revision.
type Copy struct {
	Cache Cache
	// Chain is the flow's functions as KisFlow's interface shows them; nil: made of the frame's Bundle when a function asks.
	Chain *Chain
	mu    sync.Mutex // guards Chain once functions run
	meta  metadata
}

// GetMetaData finds what was kept with SetMetaData; nil: nothing.
func (c *Copy) GetMetaData(key string) any { return c.meta.get(key) }

// SetMetaData keeps a value with the copy.
func (c *Copy) SetMetaData(key string, value any) { c.meta.set(key, value) }

// callContext is the context that functions get.
type callContext struct {
	context.Context
	call *Call
}

func (c *callContext) Value(key any) any {
	if key == (callKey{}) {
		return c.call
	}
	return c.Context.Value(key)
}

// SetContext makes ctx, with the frame's Call in it, the context of the calls to come.
func (f *Frame) SetContext(ctx context.Context) {
	f.Call.frame = f
	f.ctx = &callContext{ctx, &f.Call}
}

// late tells of a use after the call.
func (f *Frame) late(function, what string) {
	if f.Late != nil {
		f.Late(function, what)
	}
}

// begin is the check before each row: one atomic load, unless something happened.
func (f *Frame) begin(row int) error {
	f.Row = row
	if f.Watch.Load() != 0 {
		return f.Pause(row)
	}
	return nil
}
