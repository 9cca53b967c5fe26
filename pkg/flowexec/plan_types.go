package flowexec

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/internal/jsonrule"
	"github.com/kisgrid/kisgrid/pkg/expr"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// rowType is what is known of the rows between two steps: the Go type of the function that makes them, or the type that expressions give them.
type rowType struct {
	maker string       // the function that makes the rows
	goes  reflect.Type // nil if expressions make them, or nothing is known
	given *expr.Type   // nil if a Go function makes them, or nothing is known
	// found are fields that all the rows have, with their types, where nothing else is known: expressions before have read or made them.
	found []expr.Field
}

// passes returns the type of the rows behind the step; carried is their type before it.
func (s *step) passes(carried rowType) rowType {
	switch {
	case s.form == 0 || s.form == kis.FormFaaS || s.form == kis.FormLoad && s.code == nil:
		return rowType{} // the first has a mistake
	case s.exprs != nil && (s.exprs.keepAll || len(s.exprs.keep) > 0):
		return rowType{maker: s.Name, found: s.exprs.leaves(carried)}
	case s.exprs != nil && s.out != nil:
		return rowType{maker: s.Name, given: &s.exprs.outType}
	case s.out != nil:
		return rowType{maker: s.Name, goes: s.out}
	}
	if _, known := carried.fields(); !known { // the rows pass on as they came, if they are as the expressions read them
		for _, in := range s.exprInputs() {
			carried.maker, carried.found = s.Name, withField(carried.found, expr.Field{Name: in.Name, Type: in.Type})
		}
	}
	return carried
}

// leaves returns the fields that rows surely have behind a Calculate which passes other fields on. carried is the rows' type before it.
func (c *exprCode) leaves(carried rowType) []expr.Field {
	var found []expr.Field
	for _, f := range carried.forExpressions().Fields() {
		if c.keepAll || slices.Contains(c.keep, f.Name) {
			found = withField(found, f)
		}
	}
	for _, in := range c.inputs {
		if !in.Variable && in.Name != "" && (c.keepAll || slices.Contains(c.keep, in.Name)) {
			found = withField(found, expr.Field{Name: in.Name, Type: in.Type})
		}
	}
	for _, f := range c.gives {
		found = withField(found, expr.Field{Name: f.name, Type: f.program.Type()})
	}
	return found
}

// withField returns fields with one more, which takes the place of a field of its name. A type whose values may be absent, or of several kinds, says
// nothing of later rows, so such a field is only taken out.
func withField(fields []expr.Field, f expr.Field) []expr.Field {
	fields = slices.DeleteFunc(slices.Clone(fields), func(other expr.Field) bool { return strings.EqualFold(other.Name, f.Name) })
	switch f.Type.Kind() {
	case expr.KindBool, expr.KindInt, expr.KindFloat, expr.KindString:
		if !f.Type.IsOptional() {
			fields = append(fields, f)
		}
	}
	return fields
}

// forExpressions returns the type that expressions find in the rows, where the document of their function declares none. Fields that may be null or
// missing are of type any there: that shows row by row. Rows may have other fields too, unless all their fields are known.
func (r rowType) forExpressions() expr.Type {
	names, known := r.fields()
	switch {
	case !known && len(r.found) > 0:
		return expr.Object(r.found...)
	case !known:
		return expr.Any
	}
	fields := make([]expr.Field, len(names))
	for i, name := range names {
		fields[i] = expr.Field{Name: name, Type: expr.Any}
		t, _ := r.typeOf(name)
		switch t.Kind() {
		case expr.KindBool, expr.KindInt, expr.KindFloat, expr.KindString:
			if !t.IsOptional() {
				fields[i].Type = t
			}
		}
	}
	return expr.Object(fields...)
}

// name returns the type as messages name it.
func (r rowType) name() string {
	switch {
	case r.given != nil:
		return r.given.String()
	case r.goes == nil:
		return expr.Object(r.found...).String()
	}
	return rowjson.TypeName(r.goes)
}

// fields returns the names of the rows' fields. known is false if rows may have any fields.
func (r rowType) fields() (names []string, known bool) {
	if r.given != nil {
		for _, f := range r.given.Fields() {
			names = append(names, f.Name)
		}
		return names, r.given.Kind() == expr.KindObject && !r.given.IsOptional()
	}
	has, known := knownFields(r.goes)
	return fieldNames(has), known
}

// byExpressions returns the fields of rows whose Go type is not known.
func (r rowType) byExpressions() []expr.Field {
	if r.given != nil {
		return r.given.Fields()
	}
	return r.found
}

// has reports whether the rows have a field, as encoding/json finds fields by their names.
func (r rowType) has(name string) bool {
	if r.goes == nil {
		return slices.ContainsFunc(r.byExpressions(), func(f expr.Field) bool { return strings.EqualFold(f.Name, name) })
	}
	has, _ := knownFields(r.goes)
	_, ok := rowjson.Find(has, name)
	return ok
}

// lacks says that rows have no field of a name, and how to mend it.
func (r rowType) lacks(name string, suggest string) string {
	names, _ := r.fields()
	fields := "no field"
	if len(names) > 0 {
		fields = strings.Join(names, ", ")
	}
	return fmt.Sprintf("the field %s, which %s lacks, that %s passes on (it has %s): add the field there%s", name, r.name(), r.maker, fields, suggest)
}

// typeOf returns the type that a field has for expressions, and how messages name it.
func (r rowType) typeOf(name string) (t expr.Type, text string) {
	if r.goes == nil {
		for _, f := range r.byExpressions() {
			if strings.EqualFold(f.Name, name) {
				return f.Type, f.Type.String()
			}
		}
		return expr.Any, ""
	}
	has, _ := knownFields(r.goes)
	f, _ := rowjson.Find(has, name)
	if f.Quoted {
		return expr.Any, f.Type.String()
	}
	t = exprTypeOf(f.Type, 0)
	if f.OmitEmpty || f.OmitZero {
		t = expr.Optional(t)
	}
	return t, f.Type.String()
}

// exprTypeOf returns the type that expressions find in a value of a Go type, once it is JSON. depth is how many types stand around it. Nothing is known
// of types that write themselves.
func exprTypeOf(t reflect.Type, depth int) expr.Type {
	const deepest = 10
	if depth > deepest || t == numberType || jsonrule.HasMethods(reflect.PointerTo(t)) {
		return expr.Any
	}
	switch k := t.Kind(); {
	case k == reflect.Bool:
		return expr.Bool
	case reflect.Int <= k && k <= reflect.Uint64:
		return expr.Int
	case k == reflect.Float32 || k == reflect.Float64:
		return expr.Float
	case k == reflect.String:
		return expr.String
	case k == reflect.Pointer:
		return expr.Optional(exprTypeOf(t.Elem(), depth+1))
	case k == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return expr.Any // base64
	case k == reflect.Slice || k == reflect.Array:
		return expr.List(exprTypeOf(t.Elem(), depth+1)) // nil is null: that shows row by row
	case k == reflect.Struct:
		known, ok := decode.FieldsOf(t)
		if !ok {
			return expr.Any
		}
		var fields []expr.Field
		for _, f := range known {
			inner := exprTypeOf(f.Type, depth+1)
			if f.Quoted {
				inner = expr.Any
			}
			if f.OmitEmpty || f.OmitZero {
				inner = expr.Optional(inner)
			}
			fields = append(fields, expr.Field{Name: f.Name, Type: inner})
		}
		return expr.Object(fields...)
	}
	return expr.Any
}

// clash says why values of the type from can't be read as the type to, or "". exact says that from is the type of an expression: a Go function's float
// may well be a whole number.
func clash(from, to expr.Type, exact bool) string {
	a, b := from.Kind(), to.Kind()
	text := func(k expr.Kind) bool { return k == expr.KindString || k == expr.KindTime || k == expr.KindDuration }
	number := func(k expr.Kind) bool { return k == expr.KindInt || k == expr.KindFloat }
	holds := func(k expr.Kind) bool { return k == expr.KindObject || k == expr.KindMap }
	switch {
	case a == expr.KindAny || b == expr.KindAny:
		return ""
	case from.IsOptional() && !to.IsOptional():
		return fmt.Sprintf("which may be null or missing: write %s? in source.fields, and a default such as ?? 0 where it is used", to)
	case a == expr.KindList && b == expr.KindList:
		return clash(from.Elem(), to.Elem(), exact)
	case a == expr.KindObject && b == expr.KindObject:
		for _, want := range to.Fields() {
			i := slices.IndexFunc(from.Fields(), func(f expr.Field) bool { return strings.EqualFold(f.Name, want.Name) })
			switch {
			case i < 0 && !want.Type.IsOptional() && want.Type.Kind() != expr.KindAny:
				return "which lacks " + want.Name + ": make the two types agree"
			case i >= 0:
				if why := clash(from.Fields()[i].Type, want.Type, exact); why != "" {
					return "in " + want.Name + ": " + why
				}
			}
		}
		return ""
	case a == expr.KindFloat && b == expr.KindInt && exact:
		return "make the two types agree: write int(…) or round(…) there, or float here"
	case a == b, number(a) && number(b), text(a) && text(b) && (b == expr.KindString || a == expr.KindString), holds(a) && holds(b):
		return ""
	}
	return "make the two types agree"
}

// mayRead reports whether a value of an expression's type may be read as a field of a Go type.
func mayRead(from expr.Type, to rowjson.Field) bool {
	if from.IsOptional() || to.Quoted {
		return true
	}
	want := shapeOf(to.Type)
	switch from.Kind() {
	case expr.KindBool:
		return want == anyShape && to.Type.Kind() != reflect.Slice || want == boolShape
	case expr.KindInt, expr.KindFloat:
		return want == anyShape || want == numberShape
	case expr.KindString, expr.KindTime, expr.KindDuration:
		return want == anyShape || want == stringShape
	case expr.KindList:
		return want == anyShape
	case expr.KindObject, expr.KindMap:
		return want == anyShape || want == objectShape
	}
	return true
}
