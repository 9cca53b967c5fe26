package kis

import (
	"context"
	"errors"
	"fmt"
	"reflect"
)

// The types that the parameters and the result of a FaaS function are compared with.
var (
	contextType = reflect.TypeFor[context.Context]()
	flowType    = reflect.TypeFor[Flow]()
	errorType   = reflect.TypeFor[error]()
)

// faas implements Code for a function that was given to Registry.FaaS. It calls the function by reflection, once for all rows
// of a run.
type faas struct {
	fn     reflect.Value
	params []reflect.Type // the types of all parameters
	in     []reflect.Type // the row types of the slice parameters
	read   []Serialize    // how each slice parameter reads rows; nil means as JSON
}

// newFaaS makes a Func of a function in one of KisFlow's shapes. If fn does not have one of these shapes, the error in the
// Func joins all that is wrong with it.
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

// Call implements Code: it calls the function once with all rows, and with a Flow that collects the rows that the function
// commits and the actions that it asks for.
func (c *faas) Call(f *Frame, lo, hi int) (int, error) {
	if err := f.begin(lo); err != nil {
		return lo, err
	}
	run := &flowRun{frame: f, out: f.Out.(*Vec[any])}
	defer run.close()
	err := c.invoke(f.ctx, run, func(slice int, p reflect.Type) (reflect.Value, error) {
		// The function may keep and change the slice, and a retry has to get the rows as they came: it gets a copy.
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

// Serializers returns, for each slice parameter, the Serialize that reads its rows; nil stands for JSON. The executor finds
// this method with a type assertion on Code.
func (c *faas) Serializers() []Serialize { return c.read }

// invoke calls the function with ctx, flow and the arguments that rows makes. rows is called for each slice parameter, with
// the parameter's type p and its number among the slice parameters, from 0; its error ends invoke.
func (c *faas) invoke(ctx context.Context, flow Flow, rows func(slice int, p reflect.Type) (reflect.Value, error)) error {
	args, slice := make([]reflect.Value, len(c.params)), 0
	for i, p := range c.params {
		switch {
		case p == contextType:
			args[i] = reflect.ValueOf(&ctx).Elem() // a value of the interface type: reflect checks the methods of any other type
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

// callWith calls the function outside an executor: it reads the rows of flow.Input as the types of the slice parameters, and
// passes flow on to the function.
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

// FaaS is a function in one of KisFlow's shapes; Registry.FaaS says which these are.
type FaaS = any

// FaaSDesc describes a FaaS function, under KisFlow's names.
type FaaSDesc struct {
	// Serialize is how the function's first slice of rows is read and written.
	Serialize
	FnName    string
	ArgsType  []reflect.Type
	ArgNum    int
	FuncType  reflect.Type
	FuncValue reflect.Value
}

// NewFaaSDesc describes a function. The error joins everything that keeps it from being a FaaS function.
func NewFaaSDesc(name string, fn FaaS) (*FaaSDesc, error) {
	f := newFaaS(fn)
	if f.err != nil {
		return nil, fmt.Errorf("describe function %q: %w", name, f.err)
	}
	code := f.code.(*faas)
	d := &FaaSDesc{
		Serialize: new(DefaultSerialize), FnName: name,
		ArgsType: code.params, ArgNum: len(code.params), FuncType: code.fn.Type(), FuncValue: code.fn,
	}
	if len(code.read) > 0 && code.read[0] != nil {
		d.Serialize = code.read[0]
	}
	return d, nil
}
