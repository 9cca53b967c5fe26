package definition

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/kisgrid/kisgrid/pkg/expr"
)

// StepTypes says which fields of its rows a step of a flow reads, and which rows it gives, as far as the documents tell.
type StepTypes struct {
	// Function is the name of the function, Mode its mode.
	Function string `json:"function"`
	Mode     Mode   `json:"mode"`
	// Go says that the function is written in Go: its types are in the program of the worker.
	Go bool `json:"go,omitempty"`
	// Reads is the type of the fields that the function reads, such as {score_1: int}. It is empty if it reads none, or that is not known.
	Reads string `json:"reads,omitempty"`
	// Gives is the type of the rows that the function makes. It is empty if rows go on as they came, or that is not known.
	Gives string `json:"gives,omitempty"`
	// Keeps says which other fields of a row go on beside those of Gives: all, or their names.
	Keeps string `json:"keeps,omitempty"`
	// Expressions are the expressions of the function, in the order of its document.
	Expressions []TypedExpression `json:"expressions,omitempty"`
}

// TypedExpression is one expression of a function, with the type of its value.
type TypedExpression struct {
	// Key is where it stands, such as option.calculate.avg_score.
	Key string `json:"key"`
	// Text is the expression in its canonical form.
	Text string `json:"text"`
	// Type is the type of its value. It is empty if the expression has a mistake.
	Type string `json:"type,omitempty"`
}

// Types returns the row types of the flow's steps, in order. Expressions with mistakes have no types.
func (b *Bundle) Types() []StepTypes {
	var all []StepTypes
	carried := expr.Any // the rows before a step
	for i, entry := range b.Flow.Functions {
		f := b.Functions[entry.Name]
		if f == nil {
			all, carried = append(all, StepTypes{Function: entry.Name}), expr.Any
			continue
		}
		params, err := b.ParamValues(i)
		if err != nil {
			params = expr.ObjectValue(nil)
		}
		t := typing{function: f}
		t.find(params, carried)
		all, carried = append(all, t.step), t.after
	}
	return all
}

// Computes reports whether a function has an expression.
func (f *Function) Computes() bool {
	return f.Verify != nil || f.Calculate != nil || f.Expand != nil ||
		f.Save != nil && (f.Save.KeyExpression != nil || len(f.Save.Expressions) > 0) || f.Load != nil && f.Load.KeyExpression != nil
}

// typing finds the types of one function.
type typing struct {
	function *Function
	step     StepTypes
	names    expr.Names
	scope    *expr.Scope
	after    expr.Type // of the rows behind the function
}

// find finds the types of the function, for rows of the type carried.
func (t *typing) find(params expr.Value, carried expr.Type) {
	f := t.function
	t.step = StepTypes{Function: f.Name, Mode: f.Mode, Go: !f.Declared()}
	t.names = expr.Names{Row: carried, Params: params, Variables: []expr.Field{{Name: "row_id", Type: expr.String}}}
	if f.Source.Fields.Kind() == expr.KindObject {
		t.names.Row = f.Source.Fields
	}
	t.scope, t.after = expr.NewScope(t.names), carried
	switch {
	case f.Verify != nil:
		t.compile("option.verify", f.Verify.If)
		if f.Verify.Reason != nil {
			t.compile("option.reason", *f.Verify.Reason)
		}
	case f.Calculate != nil:
		t.after = t.record("option.calculate", f.Calculate.Fields)
		t.step.Gives = t.after.String()
		switch {
		case f.Calculate.KeepAll:
			t.step.Keeps = "all"
		case len(f.Calculate.Keep) > 0:
			t.step.Keeps = strings.Join(f.Calculate.Keep, ", ")
		}
		if t.step.Keeps != "" {
			t.after = expr.Any
		}
	case f.Expand != nil:
		t.expand(f.Expand)
	case f.Save != nil:
		t.effects(f.Save.Key, f.Save.KeyExpression, "option.save", string(f.Save.Op), f.Save.Fields, f.Save.Expressions)
	case f.Load != nil:
		t.effects(f.Load.Key, f.Load.KeyExpression, "option.load", "", nil, nil)
		t.after = expr.Any
		var set []string
		for _, name := range sortedKeys(f.Load.Fields) {
			set = append(set, name+": "+cmp.Or(string(f.Load.Types[name]), "any"))
		}
		t.step.Gives, t.step.Keeps = "{"+strings.Join(set, ", ")+"}", "all"
	default:
		t.after = expr.Any
		return
	}
	t.reads()
}

// compile compiles an expression and notes its type, which it returns; Any if there is a mistake.
func (t *typing) compile(key string, source expr.Source) expr.Type {
	one := TypedExpression{Key: key, Text: strings.TrimSpace(source.Text)}
	found := expr.Any
	if p, err := t.scope.Compile(source, expr.Any); err == nil {
		found = p.Type()
		one.Text, one.Type = p.String(), found.String()
	}
	t.step.Expressions = append(t.step.Expressions, one)
	return found
}

// record compiles the fields of a new row, and returns its type.
func (t *typing) record(key string, fields []NamedExpression) expr.Type {
	var all []expr.Field
	for _, f := range fields {
		all = append(all, expr.Field{Name: f.Name, Type: t.compile(join(key, f.Name), f.Source)})
	}
	return expr.Object(all...)
}

// expand finds the types of an Expand.
func (t *typing) expand(e *DeclaredExpand) {
	each := t.compile("option.expand.each", e.Each)
	item := expr.Any
	if each.Kind() == expr.KindList {
		item = each.Elem()
	}
	names := t.names
	names.Variables = append(slices.Clone(names.Variables), expr.Field{Name: e.As, Type: item})
	t.scope = expr.NewScope(names)
	_, _ = t.scope.Compile(e.Each, expr.Any) // so that this scope has the inputs of all expressions; mistakes are known from before
	if e.Where != nil {
		t.compile("option.expand.where", *e.Where)
	}
	t.after = item
	if len(e.Set) > 0 {
		t.after = t.record("option.expand.set", e.Set)
	}
	t.step.Gives = t.after.String()
}

// effects finds the types of a declared Save or Load.
func (t *typing) effects(key Template, keyExpression *expr.Source, path, op string, fields map[string]string, expressions map[string]expr.Source) {
	var named []string // fields of the row that are named without an expression
	for _, part := range key.Parts {
		if part.Field != "" {
			named = append(named, part.Field)
		}
	}
	if keyExpression != nil {
		t.compile(path+".key", *keyExpression)
	}
	for _, name := range sortedKeys(fields) {
		if source, ok := expressions[name]; ok {
			t.compile(path+"."+op+"."+name, source)
		} else {
			named = append(named, fields[name])
		}
	}
	for _, name := range named { // an expression that reads the field alone
		if source := (expr.Source{Text: fmt.Sprintf("row[%q]", name)}); source.Check() == nil {
			_, _ = t.scope.Compile(source, expr.Any)
		}
	}
}

// reads sets the type of the fields that the expressions read.
func (t *typing) reads() {
	var fields []expr.Field
	for _, in := range t.scope.Inputs() {
		switch {
		case in.Variable:
		case in.Name == "":
			t.step.Reads = t.names.Row.String()
			return
		default:
			fields = append(fields, expr.Field{Name: in.Name, Type: in.Type})
		}
	}
	if len(fields) > 0 {
		t.step.Reads = expr.Object(fields...).String()
	}
}

// WriteTypes writes the steps of a flow for people: a line for each, and under it its expressions with their types.
func WriteTypes(out io.Writer, steps []StepTypes) error {
	for i, s := range steps {
		fmt.Fprintf(out, "  %d %s\n", i+1, s.summary())
		if err := s.WriteExpressions(out, "      "); err != nil {
			return err
		}
	}
	return nil
}

// summary returns the function and its row types in a line.
func (s *StepTypes) summary() string {
	text := s.Function
	if s.Mode != "" {
		text += " (" + string(s.Mode) + ")"
	}
	if s.Go {
		return text + ": a Go function"
	}
	var parts []string
	if s.Reads != "" {
		parts = append(parts, "reads "+s.Reads)
	}
	if gives := s.GivesText(); gives != "" {
		parts = append(parts, "gives "+gives)
	}
	if len(parts) == 0 {
		return text
	}
	return text + ": " + strings.Join(parts, ", ")
}

// GivesText returns Gives and Keeps as one text; it is empty if both are.
func (s *StepTypes) GivesText() string {
	switch s.Keeps {
	case "":
		return s.Gives
	case "all":
		return s.Gives + " and all other fields"
	}
	return s.Gives + " and " + s.Keeps
}

// WriteExpressions writes a line for each expression of the step, with its type, and with indent in front.
func (s *StepTypes) WriteExpressions(out io.Writer, indent string) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, e := range s.Expressions {
		text := strings.Join(strings.Fields(e.Text), " ")
		if e.Type != "" {
			text += " : " + e.Type
		}
		fmt.Fprintf(w, "%s%s\t%s\n", indent, strings.TrimPrefix(e.Key, "option."), text)
	}
	return w.Flush()
}
