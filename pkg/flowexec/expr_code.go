package flowexec

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"

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
	exprReader
	form    kis.Form
	in, out reflect.Type // out is nil if rows pass on as they came
	outType expr.Type    // the type of the rows that the function makes; the zero Type if nothing is known of them
	reads   []exprField  // of in

	verify, reason *expr.Program
	each, where    *expr.Program
	elements       []expr.Value // of each, if it is the same list for every row; else nil
	item           int          // input of the scope; -1 where there is none
	gives          []exprField

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
	kind    expr.Kind // int, float, bool and string stand there as such; any for a rowjson.Dynamic
	// needed is the type of a Dynamic field that source.fields declares without ?; "" for all others.
	needed string
	name   string
	// ints says that a Dynamic field may be an int as it is: nothing is declared for it, or int?.
	ints bool
}

// namesOf returns the names that the expressions of a document may use. carried is the type of the rows, for a document that declares none.
func namesOf(doc *definition.Function, params expr.Value, carried rowType) expr.Names {
	names := expr.Names{Row: doc.Source.Fields, Params: params, Variables: []expr.Field{{Name: "row_id", Type: expr.String}}}
	if names.Row.Kind() != expr.KindObject {
		_, known := carried.fields()
		names.Row, names.Open = carried.forExpressions(), !known
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
		line, column := m.Position()
		c.mistakes = append(c.mistakes, &definition.Mistake{Document: source.Document, Line: line, Column: column, Key: source.Path, Code: batch.CodeFlowUncompilable, Problem: m.Explain()})
	}
	return p
}

// newExprCode compiles the expressions of a function's document, which may use the given names.
func newExprCode(doc *definition.Function, names expr.Names) (*exprCode, definition.Mistakes) {
	c := &exprCode{item: -1}
	compiler := exprCompiler{function: doc.Name, scope: expr.NewScope(names)}
	var given []definition.NamedExpression
	switch {
	case doc.Verify != nil:
		c.form = kis.FormVerify
		c.verify = compiler.compile(doc.Verify.If, expr.Bool)
		if doc.Verify.Reason != nil {
			c.reason = compiler.compile(*doc.Verify.Reason, expr.String)
		}
	case doc.Calculate != nil:
		c.form = kis.FormCalculate
		given, c.keepAll, c.keep = doc.Calculate.Fields, doc.Calculate.KeepAll, doc.Calculate.Keep
		c.raw = c.keepAll || len(c.keep) > 0
	default:
		c.form = kis.FormExpand
		given, c.raw = doc.Expand.Set, len(doc.Expand.Set) == 0
		if c.each = compiler.compile(doc.Expand.Each, expr.List(expr.Any)); c.each == nil {
			return nil, compiler.mistakes
		}
		names.Variables = append(names.Variables, expr.Field{Name: doc.Expand.As, Type: c.each.Type().Elem()})
		compiler.scope = expr.NewScope(names) // with the element, whose type is known now
		c.each = compiler.compile(doc.Expand.Each, expr.List(expr.Any))
		if list, ok := c.each.Constant(); ok {
			c.elements = list.Elements()
		}
		if doc.Expand.Where != nil {
			c.where = compiler.compile(*doc.Expand.Where, expr.Bool)
		}
	}
	var fields []expr.RecordSource
	var types []expr.Field
	var made []rowjson.MadeField
	for _, f := range given {
		p := compiler.compile(f.Source, expr.Any)
		if !jsonrule.ValidName(f.Name) {
			compiler.mistakes = append(compiler.mistakes, &definition.Mistake{
				Document: f.Document, Line: f.Line, Key: f.Path, Code: batch.CodeFlowUncompilable, Problem: fmt.Sprintf("%q can't be the name of a field", f.Name),
			})
			p = nil
		}
		if p == nil {
			continue
		}
		f.Source.Function = doc.Name
		field, kind := madeField(f.Name, p.Type())
		fields, types, made = append(fields, expr.RecordSource{Name: f.Name, Source: f.Source}), append(types, expr.Field{Name: f.Name, Type: p.Type()}), append(made, field)
		c.gives = append(c.gives, exprField{program: p, kind: kind, name: f.Name})
	}
	c.exprReader.init(doc.Name, compiler.scope)
	if c.form != kis.FormVerify {
		c.out = rowjson.Made(made)
		for i := range c.gives {
			c.gives[i].offset = c.out.Field(i).Offset
		}
		switch {
		case !c.raw:
			c.outType = expr.Object(types...)
		case c.form == kis.FormExpand:
			c.outType = c.each.Type().Elem()
		}
	}
	for i, in := range c.inputs {
		c.raw = c.raw || !in.Variable && (!jsonrule.ValidName(in.Name) || strings.Contains(in.Name, ","))
		if in.Variable && in.Name != "row_id" {
			c.item = i
		}
	}
	if c.raw {
		c.in = rawType
		if c.out != nil {
			c.out = rawType
		}
		if len(fields) > 0 && len(compiler.mistakes) == 0 {
			c.record, _ = c.scope.CompileRecord(fields) // they have been compiled before
		}
		return c, compiler.mistakes
	}
	c.readStruct()
	return c, compiler.mistakes
}

// readStruct makes the struct of the fields that the expressions read.
func (c *exprCode) readStruct() {
	var made []rowjson.MadeField
	for i, in := range c.inputs {
		if in.Variable {
			continue
		}
		field, kind := madeField(in.Name, in.Type)
		made = append(made, field)
		read := exprField{input: i, kind: kind, name: in.Name}
		if kind == expr.KindAny {
			read.needed, read.ints = c.needs[in.Name], in.Type.Kind() == expr.KindAny || in.Type.Kind() == expr.KindInt
		}
		c.reads = append(c.reads, read)
	}
	c.in = rowjson.Made(made)
	for i := range c.reads {
		c.reads[i].offset = c.in.Field(i).Offset
	}
}

// rawType is the type of rows that stay JSON.
var rawType = reflect.TypeFor[json.RawMessage]()

// madeField returns the field of a row's struct for a value of a type, and how it stands there.
func madeField(name string, t expr.Type) (rowjson.MadeField, expr.Kind) {
	f := rowjson.MadeField{Name: name, Text: t.String(), Type: reflect.TypeFor[rowjson.Dynamic]()}
	if t.IsOptional() {
		return f, expr.KindAny
	}
	switch kind := t.Kind(); kind {
	case expr.KindInt:
		f.Type = reflect.TypeFor[int64]()
		return f, kind
	case expr.KindFloat:
		f.Type = reflect.TypeFor[rowjson.Exact]()
		return f, kind
	case expr.KindBool:
		f.Type = reflect.TypeFor[bool]()
		return f, kind
	case expr.KindString:
		f.Type = reflect.TypeFor[string]()
		return f, kind
	}
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

// exprReader reads rows for the expressions of one function.
type exprReader struct {
	function string
	scope    *expr.Scope
	inputs   []expr.Input // of the scope
	rowID    int          // the input row_id; -1 if no expression reads it
	// needs are the fields that the expressions read and that source.fields declares without ?, with their types.
	needs  map[string]string
	frames sync.Pool // of *exprFrame
}

// exprFrame is the memory of one call. text is a piece of memory that the JSON of values is cut from; what was cut is never written again.
type exprFrame struct {
	*expr.Frame
	text []byte
}

// init sets the reader's fields for the expressions that were compiled in a scope.
func (r *exprReader) init(function string, scope *expr.Scope) {
	r.function, r.scope, r.inputs, r.rowID, r.needs = function, scope, scope.Inputs(), -1, map[string]string{}
	for i, in := range r.inputs {
		switch {
		case in.Variable && in.Name == "row_id":
			r.rowID = i
		case !in.Variable && in.Name != "" && in.Type.Kind() != expr.KindAny && !in.Type.IsOptional():
			r.needs[in.Name] = in.Type.String()
		}
	}
	// Where all processors are busy with long evaluations, Go would let other lanes wait for 10 ms.
	r.frames.New = func() any { return &exprFrame{Frame: scope.NewFrame(expr.Budget{Yield: runtime.Gosched})} }
}

// json sets the inputs of a frame from a row of JSON. The error is a misfit.
func (r *exprReader) json(fr *exprFrame, row string) error {
	if err := r.scope.ReadJSON(fr.Frame, row); err != nil {
		return r.misfit(err)
	}
	for i := range r.inputs {
		if in := &r.inputs[i]; r.needs[in.Name] != "" && !in.Variable && fr.Get(i).Absent() {
			return r.lacks(in.Name)
		}
	}
	return nil
}

// explain says why a row does not fit the types that the expressions read.
func (r *exprReader) explain(row []byte) string {
	fr := r.frames.Get().(*exprFrame)
	defer func() {
		fr.Next() // it has values of other kinds than the declared ones
		r.frames.Put(fr)
	}()
	fr.Next()
	if err := r.json(fr, string(row)); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("the row does not fit the types of %s", r.function)
}
