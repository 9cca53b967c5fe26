package flowexec

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"unsafe"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/expr"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// exprCode is the code of a function whose document has expressions. Its row types are structs that are made of the fields which the expressions
// read and give, so rows are decoded, converted and encoded as those of Go functions. It implements kis.Code.
type exprCode struct {
	form    kis.Form
	scope   *expr.Scope
	in, out reflect.Type // out is nil if rows pass on as they came
	reads   []exprField  // of in
	must    []string     // fields without which a row is dead

	verify, reason *expr.Program
	each, where    *expr.Program
	item, rowID    int // inputs of the scope; -1 where there is none
	gives          []exprField
	frames         sync.Pool // of *expr.Frame

	// raw says that rows stay JSON: see callRaw. record makes the new row then; nil means that an Expand passes its elements on.
	raw     bool
	record  *expr.Record
	keepAll bool
	keep    []string
}

// exprField is a field of a row's struct: where it stands, and the input of the scope that it sets, or the program that gives its value.
type exprField struct {
	input   int
	program *expr.Program
	offset  uintptr
	kind    expr.Kind // int, float, bool and string stand there as such; any for a json.RawMessage
}

// namesOf returns the names that the expressions of a document may use.
func namesOf(doc *definition.Function, params expr.Value) expr.Names {
	names := expr.Names{Row: doc.Source.Fields, Params: params}
	if names.Row.Kind() != expr.KindObject {
		names.Row = expr.Any
	}
	return names
}

// exprCompiler compiles expressions of one function, and gathers their mistakes.
type exprCompiler struct {
	function string
	scope    *expr.Scope
	mistakes definition.Mistakes
}

// compile compiles an expression. It returns nil after a mistake.
func (c *exprCompiler) compile(source expr.Source, want expr.Type) *expr.Program {
	source.Function = c.function
	p, err := c.scope.Compile(source, want)
	found, _ := errors.AsType[expr.Mistakes](err)
	for _, m := range found {
		line, _ := m.Position()
		c.mistakes = append(c.mistakes, &definition.Mistake{Document: source.Document, Line: line, Key: source.Path, Code: batch.CodeFlowUncompilable, Problem: m.Explain()})
	}
	return p
}

// newExprCode compiles the expressions of a function's document.
func newExprCode(doc *definition.Function, params expr.Value) (*exprCode, definition.Mistakes) {
	names := namesOf(doc, params)
	names.Variables = append(names.Variables, expr.Field{Name: "row_id", Type: expr.String})
	c := &exprCode{item: -1, rowID: -1}
	var mistakes definition.Mistakes
	compile := func(source expr.Source, want expr.Type) *expr.Program {
		compiler := exprCompiler{function: doc.Name, scope: c.scope}
		p := compiler.compile(source, want)
		mistakes = append(mistakes, compiler.mistakes...)
		return p
	}
	var given []definition.NamedExpression
	switch {
	case doc.Verify != nil:
		c.form, c.scope = kis.FormVerify, expr.NewScope(names)
		c.verify = compile(doc.Verify.If, expr.Bool)
		if doc.Verify.Reason != nil {
			c.reason = compile(*doc.Verify.Reason, expr.String)
		}
	case doc.Calculate != nil:
		c.form, c.scope = kis.FormCalculate, expr.NewScope(names)
		given, c.keepAll, c.keep = doc.Calculate.Fields, doc.Calculate.KeepAll, doc.Calculate.Keep
		c.raw = c.keepAll || len(c.keep) > 0
	default:
		c.form, c.scope = kis.FormExpand, expr.NewScope(names)
		if c.each = compile(doc.Expand.Each, expr.List(expr.Any)); c.each == nil {
			return nil, mistakes
		}
		names.Variables = append(names.Variables, expr.Field{Name: doc.Expand.As, Type: c.each.Type().Elem()})
		c.scope = expr.NewScope(names)
		c.each = compile(doc.Expand.Each, expr.List(expr.Any))
		if doc.Expand.Where != nil {
			c.where = compile(*doc.Expand.Where, expr.Bool)
		}
		given = doc.Expand.Set
		c.raw = len(given) == 0
	}
	var outFields []reflect.StructField
	for i, f := range given {
		p := compile(f.Source, expr.Any)
		if p == nil {
			continue
		}
		if !jsonrule.ValidName(f.Name) {
			mistakes = append(mistakes, &definition.Mistake{Document: f.Document, Line: f.Line, Key: f.Path, Code: batch.CodeFlowUncompilable, Problem: fmt.Sprintf("%q can't be the name of a field", f.Name)})
			continue
		}
		field, kind := structField(i, f.Name, p.Type())
		outFields = append(outFields, field)
		c.gives = append(c.gives, exprField{program: p, kind: kind})
	}
	if c.form != kis.FormVerify {
		c.out = reflect.StructOf(outFields)
		for i := range c.gives {
			c.gives[i].offset = c.out.Field(i).Offset
		}
	}
	for _, in := range c.scope.Inputs() {
		c.raw = c.raw || in.Name == ""
	}
	if c.raw {
		return c.asRaw(given, doc.Name), mistakes
	}
	var inFields []reflect.StructField
	for i, in := range c.scope.Inputs() {
		switch {
		case in.Variable && in.Name == "row_id":
			c.rowID = i
		case in.Variable:
			c.item = i
		default:
			field, kind := structField(i, in.Name, in.Type)
			c.reads = append(c.reads, exprField{input: i, kind: kind})
			inFields = append(inFields, field)
			if kind != expr.KindAny || in.Type.Kind() != expr.KindAny && !in.Type.IsOptional() {
				c.must = append(c.must, in.Name)
			}
		}
	}
	c.in = reflect.StructOf(inFields)
	for i := range c.reads {
		c.reads[i].offset = c.in.Field(i).Offset
	}
	c.frames.New = func() any { return c.scope.NewFrame(expr.Budget{}) }
	return c, mistakes
}

// asRaw makes code for rows that stay JSON. The fields have been compiled before, so they have no mistakes that are not told.
func (c *exprCode) asRaw(given []definition.NamedExpression, function string) *exprCode {
	c.in, c.raw = rawType, true
	if c.form != kis.FormVerify {
		c.out = rawType
	}
	var fields []expr.RecordSource
	for _, f := range given {
		f.Source.Function = function
		fields = append(fields, expr.RecordSource{Name: f.Name, Source: f.Source})
	}
	if len(fields) > 0 {
		c.record, _ = c.scope.CompileRecord(fields)
	}
	for i, in := range c.scope.Inputs() {
		if in.Variable && in.Name == "row_id" {
			c.rowID = i
		} else if in.Variable {
			c.item = i
		}
	}
	c.frames.New = func() any { return c.scope.NewFrame(expr.Budget{}) }
	return c
}

// rawType is the type of rows that stay JSON.
var rawType = reflect.TypeFor[json.RawMessage]()

// structField returns the field of a row's struct for a value of a type, and how it stands there.
func structField(i int, name string, t expr.Type) (reflect.StructField, expr.Kind) {
	f := reflect.StructField{Name: fmt.Sprintf("F%d", i), Tag: reflect.StructTag(fmt.Sprintf("json:%q", name))}
	if !t.IsOptional() {
		switch t.Kind() {
		case expr.KindInt:
			f.Type = reflect.TypeFor[int64]()
			return f, expr.KindInt
		case expr.KindFloat:
			f.Type = reflect.TypeFor[float64]()
			return f, expr.KindFloat
		case expr.KindBool:
			f.Type = reflect.TypeFor[bool]()
			return f, expr.KindBool
		case expr.KindString:
			f.Type = reflect.TypeFor[string]()
			return f, expr.KindString
		}
	}
	f.Type, f.Tag = reflect.TypeFor[rowjson.Shared](), reflect.StructTag(fmt.Sprintf("json:%q", name+",omitempty"))
	return f, expr.KindAny
}

func (c *exprCode) Form() kis.Form       { return c.form }
func (c *exprCode) In() []reflect.Type   { return []reflect.Type{c.in} }
func (c *exprCode) Out() reflect.Type    { return c.out }
func (c *exprCode) Saved() reflect.Type  { return nil }
func (c *exprCode) NewIn(int) kis.Vector { return c.vector(c.in) }
func (c *exprCode) NewSaved() kis.Vector { return nil }
func (c *exprCode) NewOut() kis.Vector   { return c.vector(c.out) }
func (c *exprCode) Keys(*kis.Frame, int, int) (int, error) {
	panic("flowexec: expressions load nothing")
}

// vector makes a vector of one of the row types.
func (c *exprCode) vector(row reflect.Type) kis.Vector {
	switch {
	case row == nil:
		return nil
	case c.raw:
		return new(kis.Vec[json.RawMessage])
	}
	return newStructVector(row)
}

// Call implements kis.Code.
func (c *exprCode) Call(f *kis.Frame, lo, hi int) (int, error) {
	fr := c.frames.Get().(*expr.Frame)
	defer c.frames.Put(fr)
	if c.raw {
		for i := lo; i < hi; i++ {
			if err := f.Begin(i); err != nil {
				return i, err
			}
			fr.Next()
			if err := c.callRaw(f, fr, i); err != nil {
				return i, err
			}
		}
		return hi, nil
	}
	base, size := f.In[0].Pointer(), c.in.Size()
	var out unsafe.Pointer
	var outSize uintptr
	if c.form == kis.FormCalculate {
		out, outSize = f.Out.Pointer(), c.out.Size()
	}
	for i := lo; i < hi; i++ {
		if err := f.Begin(i); err != nil {
			return i, err
		}
		fr.Next()
		if err := c.load(fr, unsafe.Add(base, uintptr(i)*size)); err != nil {
			return i, err
		}
		if c.rowID >= 0 {
			fr.Set(c.rowID, expr.StringValue(f.Identify(i).String()))
		}
		switch c.form {
		case kis.FormVerify:
			ok, err := c.verify.Bool(fr)
			if err != nil {
				return i, err
			}
			if !ok {
				return i, c.drop(fr)
			}
		case kis.FormCalculate:
			if err := c.give(fr, unsafe.Add(out, uintptr(i)*outSize)); err != nil {
				return i, err
			}
		default:
			if err := c.expand(f, fr, i); err != nil {
				return i, err
			}
		}
	}
	return hi, nil
}

// load sets the inputs of a frame from the row at p.
func (c *exprCode) load(fr *expr.Frame, p unsafe.Pointer) error {
	for k := range c.reads {
		r := &c.reads[k]
		at := unsafe.Add(p, r.offset)
		switch r.kind {
		case expr.KindInt:
			fr.Set(r.input, expr.IntValue(*(*int64)(at)))
		case expr.KindFloat:
			fr.Set(r.input, expr.FloatValue(*(*float64)(at)))
		case expr.KindBool:
			fr.Set(r.input, expr.BoolValue(*(*bool)(at)))
		case expr.KindString:
			fr.Set(r.input, expr.StringValue(*(*string)(at)))
		default:
			raw := *(*rowjson.Shared)(at)
			if err := c.scope.ReadField(fr, r.input, unsafe.String(unsafe.SliceData(raw), len(raw))); err != nil {
				return err
			}
		}
	}
	return nil
}

// drop returns the signal for a row that is filtered.
func (c *exprCode) drop(fr *expr.Frame) error {
	if c.reason == nil {
		return kis.Drop("the row does not pass")
	}
	v, err := c.reason.Value(fr)
	if err != nil {
		return err
	}
	return kis.Drop("%s", v.Text())
}

// give evaluates the fields of a new row into the struct at p.
func (c *exprCode) give(fr *expr.Frame, p unsafe.Pointer) error {
	for k := range c.gives {
		g := &c.gives[k]
		at := unsafe.Add(p, g.offset)
		var err error
		switch g.kind {
		case expr.KindInt:
			*(*int64)(at), err = g.program.Int(fr)
		case expr.KindFloat:
			*(*float64)(at), err = g.program.Float(fr)
		case expr.KindBool:
			*(*bool)(at), err = g.program.Bool(fr)
		default:
			var v expr.Value
			if v, err = g.program.Value(fr); err != nil {
				break
			}
			switch {
			case g.kind == expr.KindString:
				*(*string)(at) = v.Text()
			case v.Kind() == expr.KindMissing:
				*(*rowjson.Shared)(at) = nil
			default:
				*(*rowjson.Shared)(at), err = fr.AppendJSON(nil, v)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// expand appends a row for each element.
func (c *exprCode) expand(f *kis.Frame, fr *expr.Frame, row int) error {
	list, err := c.each.Value(fr)
	if err != nil {
		return err
	}
	out := f.Out.(*structVector)
	start := out.n
	for _, item := range list.Elements() {
		if c.item >= 0 {
			fr.Set(c.item, item)
		}
		if c.where != nil {
			keep, err := c.where.Bool(fr)
			if err != nil {
				out.cut(start)
				f.Parents = f.Parents[:start]
				return err
			}
			if !keep {
				continue
			}
		}
		if err := c.give(fr, out.grow()); err != nil {
			out.cut(start)
			f.Parents = f.Parents[:start]
			return err
		}
		f.Parents = append(f.Parents, uint32(row))
	}
	return nil
}
