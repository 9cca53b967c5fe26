package flowexec

import (
	"math"
	"slices"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/expr"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// misfit is the error of a row that the expressions of a function can't read: it has a field of another type than source.fields declares, or lacks
// one.
type misfit struct {
	code batch.Code // MISSING_FIELD; 0 for a field of another type
	text string
}

// Error implements error.
func (m *misfit) Error() string { return m.text }

// misfit makes a misfit of the failure with which reading a row ended.
func (r *exprReader) misfit(err error) error {
	return &misfit{text: "the row does not fit source.fields of " + r.function + ": " + err.Error()}
}

// lacks returns the misfit of a row that lacks a field, or has null there.
func (r *exprReader) lacks(field string) error {
	return &misfit{batch.CodeMissingField, decode.Needed(r.function, field, r.needs[field])}
}

// Call implements kis.Code.
func (c *exprCode) Call(f *kis.Frame, lo, hi int) (int, error) {
	fr := c.frames.Get().(*exprFrame)
	defer c.frames.Put(fr)
	var base, out unsafe.Pointer
	var size, outSize uintptr
	if !c.raw {
		base, size = f.In[0].Pointer(), c.in.Size()
		if c.form == kis.FormCalculate {
			out, outSize = f.Out.Pointer(), c.out.Size()
		}
	}
	for i := lo; i < hi; i++ {
		if err := f.Begin(i); err != nil {
			return i, err
		}
		if c.raw {
			fr.Next()
		} else {
			fr.Again() // load sets all inputs
		}
		if c.rowID >= 0 {
			fr.Set(c.rowID, expr.StringValue(f.Identify(i).String()))
		}
		var err error
		if c.raw {
			err = c.callRaw(f, fr, i)
		} else if err = c.load(fr, unsafe.Add(base, uintptr(i)*size)); err == nil {
			switch c.form {
			case kis.FormVerify:
				err = c.passes(fr)
			case kis.FormCalculate:
				err = c.give(fr, unsafe.Add(out, uintptr(i)*outSize))
			default:
				err = c.expand(f, fr, i)
			}
		}
		if err != nil {
			return i, err
		}
	}
	return hi, nil
}

// load sets the inputs of a frame from the row at p. The error is a misfit.
func (c *exprCode) load(fr *exprFrame, p unsafe.Pointer) error {
	for k := range c.reads {
		r := &c.reads[k]
		at := unsafe.Add(p, r.offset)
		switch r.kind {
		case expr.KindInt:
			fr.SetInt(r.input, *(*int64)(at))
		case expr.KindFloat:
			fr.SetFloat(r.input, *(*float64)(at))
		case expr.KindBool:
			fr.SetBool(r.input, *(*bool)(at))
		case expr.KindString:
			fr.Set(r.input, expr.StringValue(*(*string)(at)))
		default:
			d := (*rowjson.Dynamic)(at)
			if r.ints && d.Kind() == rowjson.DynamicInt {
				fr.PutInt(r.input, int64(d.Bits()))
				continue
			}
			if err := c.read(fr, r.input, d); err != nil {
				return c.misfit(err)
			}
			if r.needed != "" && fr.Get(r.input).Absent() {
				return c.lacks(r.name)
			}
		}
	}
	return nil
}

// read sets an input of a frame from a field.
func (c *exprCode) read(fr *exprFrame, input int, d *rowjson.Dynamic) error {
	var v expr.Value
	switch d.Kind() {
	case rowjson.DynamicInt:
		v = expr.IntValue(int64(d.Bits()))
	case rowjson.DynamicFloat:
		v = expr.FloatValue(math.Float64frombits(d.Bits()))
	case rowjson.DynamicBool:
		v = expr.BoolValue(d.Bits() != 0)
	case rowjson.DynamicText:
		v = expr.StringValue(d.Text())
	default:
		return c.scope.ReadField(fr.Frame, input, d.Text())
	}
	return c.scope.ReadValue(fr.Frame, input, v)
}

// passes returns nil for a row that passes a Verify, and the signal for one that is filtered.
func (c *exprCode) passes(fr *exprFrame) error {
	ok, err := c.verify.Bool(fr.Frame)
	switch {
	case err != nil || ok:
		return err
	case c.reason == nil:
		return kis.Drop("the row does not pass")
	}
	v, err := c.reason.Value(fr.Frame)
	if err != nil {
		return err
	}
	return kis.Drop("%s", v.Text())
}

// give evaluates the fields of a new row into the struct at p.
func (c *exprCode) give(fr *exprFrame, p unsafe.Pointer) error {
	for k := range c.gives {
		g := &c.gives[k]
		at := unsafe.Add(p, g.offset)
		var err error
		switch g.kind {
		case expr.KindInt:
			*(*int64)(at), err = g.program.Int(fr.Frame)
		case expr.KindFloat:
			*(*float64)(at), err = g.program.Float(fr.Frame)
		case expr.KindBool:
			*(*bool)(at), err = g.program.Bool(fr.Frame)
		case expr.KindString:
			var v expr.Value
			v, err = g.program.Value(fr.Frame)
			*(*string)(at) = v.Text()
		default:
			switch kind, bits, ok := g.program.PassField(fr.Frame); {
			case !ok:
				err = fr.pass(g.program, (*rowjson.Dynamic)(at))
			case kind == expr.KindInt:
				*(*rowjson.Dynamic)(at) = rowjson.IntField(int64(bits))
			default:
				*(*rowjson.Dynamic)(at) = rowjson.FloatField(bits, nil)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pass evaluates a program into a field.
func (fr *exprFrame) pass(p *expr.Program, to *rowjson.Dynamic) error {
	v, text, err := p.Pass(fr.room(), fr.Frame)
	if err != nil {
		return err
	}
	switch v.Kind() {
	case expr.KindInt:
		*to = rowjson.IntField(v.Int())
	case expr.KindBool:
		*to = rowjson.BoolField(v.Bool())
	case expr.KindString:
		*to = rowjson.TextField(v.Text())
	case expr.KindFloat:
		if len(text) > 0 {
			text = fr.cut(text)
		}
		*to = rowjson.FloatField(math.Float64bits(v.Float()), text)
	default:
		if len(text) > 0 {
			*to = rowjson.JSONField(fr.cut(text))
		}
	}
	return nil
}

// room returns an empty slice to which JSON may be appended; cut keeps it.
func (fr *exprFrame) room() []byte {
	const piece, least = 4 << 10, 128
	if cap(fr.text) < least {
		fr.text = make([]byte, 0, piece)
	}
	return fr.text
}

// cut returns JSON that was appended to room, as memory that is not written again.
func (fr *exprFrame) cut(text []byte) []byte {
	if cap(text) == cap(fr.text) {
		fr.text = text[len(text):]
	}
	return slices.Clip(text)
}

// expand appends a row for each element.
func (c *exprCode) expand(f *kis.Frame, fr *exprFrame, row int) error {
	elements := c.elements
	if elements == nil {
		list, err := c.each.Value(fr.Frame)
		if err != nil {
			return err
		}
		elements = list.Elements()
	}
	out := f.Out.(*structVector)
	rows, parents := out.n, len(f.Parents)
	var err error
	for _, item := range elements {
		if c.item >= 0 {
			fr.Set(c.item, item)
		}
		keep := true
		if c.where != nil {
			keep, err = c.where.Bool(fr.Frame)
		}
		if err == nil && keep {
			err = c.give(fr, out.grow())
			f.Parents = append(f.Parents, uint32(row))
		}
		if err != nil {
			out.cut(rows)
			f.Parents = f.Parents[:parents]
			return err
		}
	}
	return nil
}
