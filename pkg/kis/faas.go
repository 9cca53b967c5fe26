package kis

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"unsafe"
)

var (
	contextType = reflect.TypeFor[context.Context]()
	flowType    = reflect.TypeFor[Flow]()
	errorType   = reflect.TypeFor[error]()
)

// faas is a function in one of KisFlow's shapes, called by reflection once for a run.
type faas struct {
	fn     reflect.Value
	params []reflect.Type
	in     []reflect.Type // the row types of the slice parameters
	read   []Serialize    // how each reads rows; nil: as JSON
}

// newFaaS checks a function's shape; all mistakes are reported together.
func newFaaS(fn any) Func {
	t := reflect.TypeOf(fn)
	if t == nil || t.Kind() != reflect.Func {
		return Func{err: fmt.Errorf("FaaS was given %T: pass a func(context.Context, kis.Flow, []YourRow) error", fn)}
	}
	if reflect.ValueOf(fn).IsNil() {
		return Func{err: errors.New("FaaS was given no function (nil)")}
	}
	code := &faas{fn: reflect.ValueOf(fn)}
	var errs []error
	contexts, flows := 0, 0
	for i := range t.NumIn() {
		p := t.In(i)
		code.params = append(code.params, p)
		switch {
		case p == contextType:
			contexts++
		case p == flowType:
			flows++
		case p.Kind() == reflect.Slice:
			code.in = append(code.in, p.Elem())
			code.read = append(code.read, Reader(p.Elem()))
			if err := rowType("reads", p.Elem()); err != nil {
				errs = append(errs, fmt.Errorf("parameter %d of %s: %w", i+1, t, err))
			}
		}
	}
	if contexts == 0 || flows == 0 {
		errs = append(errs, fmt.Errorf("%s takes %d context.Context and %d kis.Flow: a FaaS function takes both", t, contexts, flows))
	}
	if t.IsVariadic() {
		errs = append(errs, fmt.Errorf("%s is variadic: take a slice instead", t))
	}
	if t.NumOut() != 1 || t.Out(0) != errorType {
		errs = append(errs, fmt.Errorf("%s must return an error and nothing else", t))
	}
	return Func{code: code, err: errors.Join(errs...)}
}

func (c *faas) Form() Form                         { return FormFaaS }
func (c *faas) In() []reflect.Type                 { return c.in }
func (c *faas) Out() reflect.Type                  { return reflect.TypeFor[any]() }
func (c *faas) Saved() reflect.Type                { return nil }
func (c *faas) NewIn(i int) Vector                 { return NewVector(c.in[i]) }
func (c *faas) NewSaved() Vector                   { return nil }
func (c *faas) NewOut() Vector                     { return new(Vec[any]) }
func (c *faas) Keys(*Frame, int, int) (int, error) { panic("kis: only a Load has keys") }

func (c *faas) Call(f *Frame, lo, hi int) (int, error) {
	if err := f.begin(lo); err != nil {
		return lo, err
	}
	run := &flowRun{frame: f, out: f.Out.(*Vec[any])}
	defer run.close()
	err := c.invoke(f.ctx, run, func(slice int, p reflect.Type) (reflect.Value, error) {
		// The slice is the function's to keep and to change, and a retry gets the rows as they came.
		return cloneOf(f.In[slice], p), nil
	})
	if err != nil {
		return lo, err
	}
	if err := run.finish(); err != nil {
		return lo, err
	}
	return hi, nil
}

// Serializers are how the slice parameters read rows; nil: as JSON.
func (c *faas) Serializers() []Serialize { return c.read }

// invoke calls the function; rows makes what a slice parameter gets.
func (c *faas) invoke(ctx context.Context, flow Flow, rows func(slice int, p reflect.Type) (reflect.Value, error)) error {
	args, slice := make([]reflect.Value, len(c.params)), 0
	for i, p := range c.params {
		switch {
		case p == contextType:
			args[i] = reflect.ValueOf(&ctx).Elem() // of the interface's type, or Call looks at all its methods
		case p == flowType:
			args[i] = reflect.ValueOf(&flow).Elem()
		case p.Kind() == reflect.Slice:
			var err error
			if args[i], err = rows(slice, p); err != nil {
				return err
			}
			slice++
		default:
			args[i] = reflect.Zero(p)
		}
	}
	err, _ := reflect.TypeAssert[error](c.fn.Call(args)[0])
	return err
}

// callWith calls the function with a flow's input.
func (c *faas) callWith(ctx context.Context, flow Flow) error {
	return c.invoke(ctx, flow, func(slice int, p reflect.Type) (reflect.Value, error) {
		read := c.read[slice]
		if read == nil {
			read = new(DefaultSerialize)
		}
		rows, err := ReadRows(read, flow.Input(), reflect.SliceOf(c.in[slice]))
		if err != nil {
			return rows, err
		}
		return rows.Convert(p), nil
	})
}

// finish tells the frame what became of the rows.
func (r *flowRun) finish() error {
	f, a := r.frame, r.action
	switch {
	case a.Abort:
		return Abort("%s returned ActionAbort", f.Call.Function)
	case a.JumpFunc != "":
		return Jump(a.JumpFunc)
	}
	f.Reuse, f.Force = a.DataReuse, a.ForceEntryNext
	if f.Reuse || len(r.out.Rows) == 0 {
		return nil
	}
	passed := listOf[any](r.out.Rows)
	if r.named {
		f.Parents = f.Parents[:0]
		for i, origin := range r.origins {
			if origin == unknown {
				f.Parents, f.Lost = f.Parents[:0], true
				return fmt.Errorf("row %d was committed without an origin, others with flow.From: name it for all or for none", i)
			}
			f.Parents = append(f.Parents, origin)
		}
		return nil
	}
	if len(f.In) == 0 {
		f.trace(passed, listOf[struct{}](make([]struct{}, f.Rows)))
		return nil
	}
	// Rows given as pointers may come back in any of the slices.
	for _, in := range f.In {
		if in.Len() != f.Rows { // its serializer made more or less of them
			f.Lost = true
			return nil
		}
		if f.traceSame(r.out.Rows, in) {
			return nil
		}
		if f.Lost = false; in.Type().Kind() == reflect.Pointer {
			f.trace(passed, vectorList{in})
			if !f.Lost {
				return nil
			}
		}
	}
	f.Lost = false
	f.trace(passed, vectorList{f.In[0]})
	return nil
}

// NewVector makes a vector for a type that is known only when it runs.
func NewVector(row reflect.Type) Vector {
	return &reflected{row: row, rows: reflect.Zero(reflect.SliceOf(row))}
}

// VectorOf makes a vector of the rows of a slice.
func VectorOf(rows reflect.Value) Vector { return &reflected{row: rows.Type().Elem(), rows: rows} }

type reflected struct {
	row  reflect.Type
	rows reflect.Value // of []row
}

func (v *reflected) Type() reflect.Type      { return v.row }
func (v *reflected) Len() int                { return v.rows.Len() }
func (v *reflected) Pointer() unsafe.Pointer { return v.rows.UnsafePointer() }
func (v *reflected) At(i int) any            { return v.rows.Index(i).Interface() }

func (v *reflected) Reset(n int) {
	if v.rows.Cap() < n {
		v.rows = reflect.MakeSlice(reflect.SliceOf(v.row), n, n)
		return
	}
	v.rows.Slice(0, max(n, v.rows.Len())).Clear()
	v.rows = v.rows.Slice(0, n)
}

func (v *reflected) Slice() reflect.Value { return v.rows }

func (v *reflected) Append(from Vector) { v.rows = reflect.AppendSlice(v.rows, from.Slice()) }
func (v *reflected) New() Vector        { return NewVector(v.row) }

func (v *reflected) Gather(from Vector, rows []uint32) {
	source := from.Slice()
	gathered := reflect.MakeSlice(reflect.SliceOf(v.row), len(rows), len(rows))
	for i, r := range rows {
		gathered.Index(i).Set(source.Index(int(r)))
	}
	v.rows = gathered
}

// cloneOf copies a vector into a slice of its own.
func cloneOf(v Vector, slice reflect.Type) reflect.Value {
	rows := v.Slice()
	clone := reflect.MakeSlice(slice, rows.Len(), rows.Len())
	reflect.Copy(clone, rows)
	return clone
}
