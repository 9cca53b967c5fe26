package kis

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Func is a function with its row types, as Registry.Func takes it. Constructors such as Calculate make it of a plain Go
// function.
type Func struct {
	code Code
	err  error // all that is wrong with it, joined; nil means nothing
}

// base has the methods of Code, except Call, for a function that reads rows of type In and passes on rows of type Out. Types that
// embed it replace the methods in which they differ.
type base[In, Out any] struct{ form Form }

func (b base[In, Out]) Form() Form                       { return b.form }
func (base[In, Out]) In() []reflect.Type                 { return []reflect.Type{reflect.TypeFor[In]()} }
func (base[In, Out]) Out() reflect.Type                  { return reflect.TypeFor[Out]() }
func (base[In, Out]) Saved() reflect.Type                { return nil }
func (base[In, Out]) NewIn(int) Vector                   { return new(Vec[In]) }
func (base[In, Out]) NewOut() Vector                     { return new(Vec[Out]) }
func (base[In, Out]) NewSaved() Vector                   { return nil }
func (base[In, Out]) Keys(*Frame, int, int) (int, error) { panic("kis: only a Load has keys") }

// passing is base for functions whose rows pass on unchanged, as those of Verify and Save: it has no type Out.
type passing[In any] struct{ base[In, In] }

func (passing[In]) Out() reflect.Type { return nil }
func (passing[In]) NewOut() Vector    { return nil }

// Verify makes a Func of fn, which looks at each row. If fn returns nil, the row passes on unchanged, with all its fields, also
// those that In does not have.
func Verify[In any](fn func(context.Context, In) error) Func {
	return checked(&verify[In]{passing[In]{base[In, In]{FormVerify}}, fn}, fn == nil)
}

// verify implements Code for a function that was given to Verify.
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

// Calculate makes a Func of fn, which makes one other row of each row.
func Calculate[In, Out any](fn func(context.Context, In) (Out, error)) Func {
	return checked(&calculate[In, Out]{base[In, Out]{FormCalculate}, fn}, fn == nil)
}

// calculate implements Code for a function that was given to Calculate.
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

// Expand makes a Func of fn, which makes any number of rows of each row: it calls emit once for each row that it makes. If fn
// returns an error or panics, the rows that it emitted for the row do not pass on. Only one goroutine at a time may call emit,
// and only until fn returns: rows emitted later are ignored, and the log says so once for the function.
func Expand[In, Out any](fn func(ctx context.Context, row In, emit func(Out)) error) Func {
	return checked(&expand[In, Out]{base[In, Out]{FormExpand}, fn}, fn == nil)
}

// expand implements Code for a function that was given to Expand.
type expand[In, Out any] struct {
	base[In, Out]
	fn func(context.Context, In, func(Out)) error
}

// Call implements Code: it appends the rows that the function emits to the frame's Out. If the function fails or panics for a
// row, the rows emitted for that row are taken back.
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

// Save makes a Func of fn, which writes to the function's connector: the one that option.cname in its document names. If fn
// returns nil, the row passes on unchanged once its effects have taken place.
//
// A row may run again, because its worker died or its batch is submitted again. Each effect takes place once all the same, as far
// as the store keeps the data that it acknowledged, and for batches that are younger than the connector's once_window. For that,
// fn has to call its Writer in the same order each time; Writer says more about it.
func Save[In any](fn func(ctx context.Context, to Writer, row In) error) Func {
	return checked(&save[In]{passing[In]{base[In, In]{FormSave}}, fn}, fn == nil)
}

// save implements Code for a function that was given to Save.
type save[In any] struct {
	passing[In]
	fn func(context.Context, Writer, In) error
}

// Call implements Code: it collects the effects of all rows in the frame's Effects. If the function fails or panics for a row,
// the effects of that row are taken back.
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

// Load makes a Func of key and fn, which turn each row into one other row with the help of a saved value. key returns the key of
// the value, without the connector's key prefix. A Save, in this flow or another, wrote the value under that key. The fields of
// the saved hash are read into the fields of V by their JSON names; V may also be map[string]string.
//
// If the key is not there, option.on_missing in the function's document decides: the row waits for the key, for at most
// option.wait, and is then dead; or it is dead at once; or, with on_missing: null, fn is called with saved nil. Otherwise saved
// is never nil.
func Load[In, V, Out any](key func(In) string, fn func(ctx context.Context, row In, saved *V) (Out, error)) Func {
	return checked(&load[In, V, Out]{base[In, Out]{FormLoad}, key, fn}, key == nil || fn == nil)
}

// load implements Code for the functions that were given to Load.
type load[In, V, Out any] struct {
	base[In, Out]
	key func(In) string
	fn  func(context.Context, In, *V) (Out, error)
}

func (c *load[In, V, Out]) Saved() reflect.Type { return reflect.TypeFor[V]() }
func (c *load[In, V, Out]) NewSaved() Vector    { return new(Vec[V]) }

// Keys implements Code: it calls the function key for each row, and appends the key to the frame's Keys.
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

// Batch makes a Func of fn, which sees all rows of its run at once. In a flow without shard_key a run has the rows of the whole
// batch; in a flow with one, it has those rows of a batch that share a lane. The function's document may have any fmode. With
// Call.Origins fn can say from which of its rows each row comes that it returns.
func Batch[In, Out any](fn func(ctx context.Context, rows []In) ([]Out, error)) Func {
	return checked(&whole[In, Out]{base[In, Out]{FormBatch}, fn}, fn == nil)
}

// whole implements Code for a function that was given to Batch.
type whole[In, Out any] struct {
	base[In, Out]
	fn func(context.Context, []In) ([]Out, error)
}

// Call implements Code: it calls the function once with all rows, and finds out which of them each row comes from that the
// function returned.
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

// checked makes a Func of code. If missing is true, the constructor was given nil in place of a function, and the Func has that
// as its error; otherwise its error joins all that is wrong with the row types.
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
