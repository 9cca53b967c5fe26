package kis

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Func is a function made by a constructor, for Registry.Func to register.
type Func struct {
	code Code
	err  error // all that is wrong with it, joined; nil means nothing
}

// base implements the methods of Code that most forms share. It is for forms that make rows of another type.
type base[In, Out any] struct{ form Form }

func (b base[In, Out]) Form() Form                       { return b.form }
func (base[In, Out]) In() []reflect.Type                 { return []reflect.Type{reflect.TypeFor[In]()} }
func (base[In, Out]) Out() reflect.Type                  { return reflect.TypeFor[Out]() }
func (base[In, Out]) Saved() reflect.Type                { return nil }
func (base[In, Out]) NewIn(int) Vector                   { return new(Vec[In]) }
func (base[In, Out]) NewOut() Vector                     { return new(Vec[Out]) }
func (base[In, Out]) NewSaved() Vector                   { return nil }
func (base[In, Out]) Keys(*Frame, int, int) (int, error) { panic("kis: only a Load has keys") }

// passing is like base, for forms whose rows pass on unchanged (Verify and Save).
type passing[In any] struct{ base[In, In] }

func (passing[In]) Out() reflect.Type { return nil }
func (passing[In]) NewOut() Vector    { return nil }

// Verify makes a function that looks at each row. If it returns nil the row passes on unchanged, with all its fields, also those
// that In does not have.
func Verify[In any](fn func(context.Context, In) error) Func {
	return checked(&verify[In]{passing[In]{base[In, In]{FormVerify}}, fn}, fn == nil)
}

// verify is the Code of Verify.
type verify[In any] struct {
	passing[In]
	fn func(context.Context, In) error
}

// Call implements Code: it calls the function for each row, and stops at the first error.
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

// Calculate makes a function that turns each row into one other row.
func Calculate[In, Out any](fn func(context.Context, In) (Out, error)) Func {
	return checked(&calculate[In, Out]{base[In, Out]{FormCalculate}, fn}, fn == nil)
}

// calculate is the Code of Calculate.
type calculate[In, Out any] struct {
	base[In, Out]
	fn func(context.Context, In) (Out, error)
}

// Call implements Code: it puts the row that the function returns at the place of the row given.
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

// Expand makes a function that turns each row into any number of rows, by calling emit for each. If the function returns an
// error, the rows that it emitted count for nothing. Only one goroutine at a time may call emit, and only until the function
// returns: rows emitted later are ignored, and the log says so once.
func Expand[In, Out any](fn func(ctx context.Context, row In, emit func(Out)) error) Func {
	return checked(&expand[In, Out]{base[In, Out]{FormExpand}, fn}, fn == nil)
}

// expand is the Code of Expand.
type expand[In, Out any] struct {
	base[In, Out]
	fn func(context.Context, In, func(Out)) error
}

// Call implements Code: it appends the rows that the function emits. If the function fails for a row, the rows emitted for that
// row are taken back.
func (c *expand[In, Out]) Call(f *Frame, lo, hi int) (int, error) {
	in, out := rowsOf[In](f.In[0])[:hi], f.Out.(*Vec[Out])
	call, function := f.calls.Add(1), f.Call.Function
	emit := func(row Out) {
		if f.calls.Load() != call {
			f.late(function, "emit") // no panic: on a goroutine of the function's own it would end the process
			return
		}
		out.Rows = append(out.Rows, row)
		f.Parents = append(f.Parents, uint32(f.Row))
	}
	start := len(out.Rows)
	// Whether the call ends by an error or by a panic: the rows that the last row emitted go.
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

// Save makes a function that writes to its connector, the one that option.cname in its document names. If the function returns
// nil, the row passes on unchanged once its effects have taken place.
//
// A row may run again, because its worker died or its batch is submitted again. Each effect takes place once all the same, as far
// as the store keeps the data that it acknowledged, and for batches that are younger than the connector's once_window. For that,
// the function has to call its Writer in the same order each time; Writer says more about it.
func Save[In any](fn func(ctx context.Context, to Writer, row In) error) Func {
	return checked(&save[In]{passing[In]{base[In, In]{FormSave}}, fn}, fn == nil)
}

// save is the Code of Save.
type save[In any] struct {
	passing[In]
	fn func(context.Context, Writer, In) error
}

// Call implements Code: it collects the effects of all rows in the frame. If the function fails for a row, the effects of that
// row are taken back.
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

// Load makes a function that reads a value which a Save, in this flow or another, wrote under the row's key, and turns the row
// into one other row. key returns the key without the connector's key prefix. The fields of the saved hash are read into the
// fields of V by their JSON names; V may also be map[string]string.
//
// A row whose key is not there waits until it is, for at most option.wait in the function's document. saved is nil only if the
// document says on_missing: null.
func Load[In, V, Out any](key func(In) string, fn func(ctx context.Context, row In, saved *V) (Out, error)) Func {
	return checked(&load[In, V, Out]{base[In, Out]{FormLoad}, key, fn}, key == nil || fn == nil)
}

// load is the Code of Load.
type load[In, V, Out any] struct {
	base[In, Out]
	key func(In) string
	fn  func(context.Context, In, *V) (Out, error)
}

func (c *load[In, V, Out]) Saved() reflect.Type { return reflect.TypeFor[V]() }
func (c *load[In, V, Out]) NewSaved() Vector    { return new(Vec[V]) }

// Keys implements Code: it asks for the key of each row.
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

// Call implements Code: it calls the function with the value that the executor loaded for the row, or nil if there is none.
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

// Batch makes a function that sees all rows of its run at once. In a flow without shard_key these are the rows of the whole
// batch, in a flow with one those rows of a batch that share a lane. A Batch function may stand for any fmode. Call.Origins says
// which rows given the rows returned come from.
func Batch[In, Out any](fn func(ctx context.Context, rows []In) ([]Out, error)) Func {
	return checked(&whole[In, Out]{base[In, Out]{FormBatch}, fn}, fn == nil)
}

// whole is the Code of Batch, which sees all rows of a run at once.
type whole[In, Out any] struct {
	base[In, Out]
	fn func(context.Context, []In) ([]Out, error)
}

// Call implements Code: it calls the function once with all rows, and traces the rows returned.
func (c *whole[In, Out]) Call(f *Frame, lo, hi int) (int, error) {
	if err := f.begin(lo); err != nil {
		return lo, err
	}
	f.hasNamed = false
	f.calls.Add(1)
	defer f.calls.Add(1)
	in := rowsOf[In](f.In[0])[lo:hi]
	// The function may keep and change the slice, and a retry has to get the rows as they came: it gets a copy.
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

// checked makes a Func of code, with all that is wrong with its types. missing means that the constructor was given nil.
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
