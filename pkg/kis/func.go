package kis

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Func is a Go function in the shape that flows run: what a constructor makes, and Registry.Func registers.
type Func struct {
	code Code
	err  error
}

// base is what all forms share.
type base[In, Out any] struct{ form Form }

func (b base[In, Out]) Form() Form                       { return b.form }
func (base[In, Out]) In() []reflect.Type                 { return []reflect.Type{reflect.TypeFor[In]()} }
func (base[In, Out]) Out() reflect.Type                  { return reflect.TypeFor[Out]() }
func (base[In, Out]) Saved() reflect.Type                { return nil }
func (base[In, Out]) NewIn(int) Vector                   { return new(Vec[In]) }
func (base[In, Out]) NewOut() Vector                     { return new(Vec[Out]) }
func (base[In, Out]) NewSaved() Vector                   { return nil }
func (base[In, Out]) Keys(*Frame, int, int) (int, error) { panic("kis: only a Load has keys") }

// passing is base for the forms whose rows pass on as they came.
type passing[In any] struct{ base[In, In] }

func (passing[In]) Out() reflect.Type { return nil }
func (passing[In]) NewOut() Vector    { return nil }

// Verify looks at each row. Without an error the row passes on whole: also the fields that In does not have.
func Verify[In any](fn func(context.Context, In) error) Func {
	return checked(&verify[In]{passing[In]{base[In, In]{FormVerify}}, fn}, fn == nil)
}

type verify[In any] struct {
	passing[In]
	fn func(context.Context, In) error
}

func (c *verify[In]) Call(f *Frame, lo, hi int) (int, error) {
	in := rowsOf[In](f.In[0])[:hi]
	for i := lo; i < hi; i++ {
		if err := f.begin(i); err != nil {
			return i, err
		}
		if err := c.fn(f.ctx, in[i]); err != nil {
			return i, err
		}
	}
	return hi, nil
}

// Calculate turns each row into one other.
func Calculate[In, Out any](fn func(context.Context, In) (Out, error)) Func {
	return checked(&calculate[In, Out]{base[In, Out]{FormCalculate}, fn}, fn == nil)
}

type calculate[In, Out any] struct {
	base[In, Out]
	fn func(context.Context, In) (Out, error)
}

func (c *calculate[In, Out]) Call(f *Frame, lo, hi int) (int, error) {
	in, out := rowsOf[In](f.In[0])[:hi], rowsOf[Out](f.Out)[:hi]
	for i := lo; i < hi; i++ {
		if err := f.begin(i); err != nil {
			return i, err
		}
		row, err := c.fn(f.ctx, in[i])
		if err != nil {
			return i, err
		}
		out[i] = row
	}
	return hi, nil
}

// Expand turns each row into any number of others, which it hands to emit one by one. What was emitted before an error
// counts for nothing. One goroutine at a time may call emit, and only until the function returns: what is emitted later is ignored,
// and the log says so once.
func Expand[In, Out any](fn func(ctx context.Context, row In, emit func(Out)) error) Func {
	return checked(&expand[In, Out]{base[In, Out]{FormExpand}, fn}, fn == nil)
}

type expand[In, Out any] struct {
	base[In, Out]
	fn func(context.Context, In, func(Out)) error
}

func (c *expand[In, Out]) Call(f *Frame, lo, hi int) (int, error) {
	in, out := rowsOf[In](f.In[0])[:hi], f.Out.(*Vec[Out])
	call, function := f.calls.Add(1), f.Call.Function
	emit := func(row Out) {
		if f.calls.Load() != call {
			f.late(function, "emit") // on whatever goroutine: a panic would end the process
			return
		}
		out.Rows = append(out.Rows, row)
		f.Parents = append(f.Parents, uint32(f.Row))
	}
	start := len(out.Rows)
	// Whether it ends by an error or a panic: the row's own emits go.
	defer func() {
		f.calls.Add(1)
		out.Rows, f.Parents = out.Rows[:start], f.Parents[:start]
	}()
	for i := lo; i < hi; i++ {
		if err := f.begin(i); err != nil {
			return i, err
		}
		if err := c.fn(f.ctx, in[i], emit); err != nil {
			return i, err
		}
		start = len(out.Rows)
	}
	return hi, nil
}

// Save writes to the function's connector. Without an error the row passes on whole, once what it wrote has taken effect. A row
// may run again, when its worker dies or its batch is sent again; each write takes effect once all the same, the first time,
// as far as the store keeps what it acknowledged, and for batches younger than the connector's once_window. For that the
// function makes the same calls of its Writer in the same order each time: see there.
func Save[In any](fn func(ctx context.Context, to Writer, row In) error) Func {
	return checked(&save[In]{passing[In]{base[In, In]{FormSave}}, fn}, fn == nil)
}

type save[In any] struct {
	passing[In]
	fn func(context.Context, Writer, In) error
}

func (c *save[In]) Call(f *Frame, lo, hi int) (int, error) {
	in := rowsOf[In](f.In[0])[:hi]
	w := &writer{frame: f, function: f.Call.Function}
	start := len(f.Effects)
	defer func() {
		w.over.Store(true)
		f.Effects = f.Effects[:start]
	}()
	for i := lo; i < hi; i++ {
		if err := f.begin(i); err != nil {
			return i, err
		}
		err := c.fn(f.ctx, w, in[i])
		if err == nil {
			err = w.err
		}
		if err != nil {
			return i, err
		}
		start = len(f.Effects)
	}
	return hi, nil
}

// Load reads the value that another flow saved under the row's key, and turns the row into one other with it. The value's
// fields fill V's by their JSON names; V may also be a map[string]string. A row whose key is not there waits for it, for as
// long as the function's document says; saved is nil only with `on_missing: null`.
func Load[In, V, Out any](key func(In) string, fn func(ctx context.Context, row In, saved *V) (Out, error)) Func {
	return checked(&load[In, V, Out]{base[In, Out]{FormLoad}, key, fn}, key == nil || fn == nil)
}

type load[In, V, Out any] struct {
	base[In, Out]
	key func(In) string
	fn  func(context.Context, In, *V) (Out, error)
}

func (c *load[In, V, Out]) Saved() reflect.Type { return reflect.TypeFor[V]() }
func (c *load[In, V, Out]) NewSaved() Vector    { return new(Vec[V]) }

func (c *load[In, V, Out]) Keys(f *Frame, lo, hi int) (int, error) {
	in := rowsOf[In](f.In[0])[:hi]
	for i := lo; i < hi; i++ {
		if err := f.begin(i); err != nil {
			return i, err
		}
		f.Keys = append(f.Keys, c.key(in[i]))
	}
	return hi, nil
}

func (c *load[In, V, Out]) Call(f *Frame, lo, hi int) (int, error) {
	in, out, saved := rowsOf[In](f.In[0])[:hi], rowsOf[Out](f.Out)[:hi], rowsOf[V](f.Saved)[:hi]
	for i := lo; i < hi; i++ {
		if err := f.begin(i); err != nil {
			return i, err
		}
		var value *V
		if f.Found[i] {
			value = &saved[i]
		}
		row, err := c.fn(f.ctx, in[i], value)
		if err != nil {
			return i, err
		}
		out[i] = row
	}
	return hi, nil
}

// Batch sees all rows of its run at once, and may stand for any fmode. In a flow with a shard_key that is the rows of a
// batch that share a lane, else the whole batch. Call.Origins says how the rows returned are traced back to those given.
func Batch[In, Out any](fn func(ctx context.Context, rows []In) ([]Out, error)) Func {
	return checked(&whole[In, Out]{base[In, Out]{FormBatch}, fn}, fn == nil)
}

type whole[In, Out any] struct {
	base[In, Out]
	fn func(context.Context, []In) ([]Out, error)
}

func (c *whole[In, Out]) Call(f *Frame, lo, hi int) (int, error) {
	if err := f.begin(lo); err != nil {
		return lo, err
	}
	f.hasNamed = false
	f.calls.Add(1)
	defer f.calls.Add(1)
	in := rowsOf[In](f.In[0])[lo:hi]
	// The slice is the function's to keep and to change, and a retry gets the rows as they came.
	given := slices.Clone(in)
	rows, err := c.fn(f.ctx, given)
	if err != nil {
		return lo, err
	}
	out := f.Out.(*Vec[Out])
	out.Rows = append(out.Rows, rows...)
	if f.hasNamed {
		return hi, f.traceNamed(len(rows), len(in))
	}
	f.trace(listOf[Out](rows), listOf[In](in))
	return hi, nil
}

// checked refuses what can't be a function over rows.
func checked(code Code, missing bool) Func {
	if missing {
		return Func{err: fmt.Errorf("kis.%s was given no function (nil): pass one", code.Form())}
	}
	errs := []error{rowType("reads", code.In()[0])}
	if code.Out() != nil {
		errs = append(errs, rowType("passes on", code.Out()))
	}
	if saved := code.Saved(); saved != nil {
		errs = append(errs, savedType(saved))
	}
	return Func{code: code, err: errors.Join(errs...)}
}

// rowType says why a type can't be that of a row.
func rowType(what string, t reflect.Type) error {
	if t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Pointer {
		return fmt.Errorf("it %s %s: a row is a struct, a map or a pointer to one, not a pointer to a pointer", what, t)
	}
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Uintptr, reflect.Complex64, reflect.Complex128:
		return fmt.Errorf("it %s %s, which JSON can't hold: a row is a struct, a map or a pointer to one", what, t)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return fmt.Errorf("it %s the interface %s, into which no row can be read: use a struct", what, t)
		}
	}
	return nil
}

// savedType says why a type can't be that of a loaded value.
func savedType(t reflect.Type) error {
	if t.Kind() == reflect.Struct || t == reflect.TypeFor[map[string]string]() {
		return nil
	}
	return fmt.Errorf("it loads %s: a saved value has fields, so use a struct or map[string]string", t)
}
