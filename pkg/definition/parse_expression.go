package definition

import (
	"errors"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/internal/yamltext"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/expr"
)

// expression reads an expression, and finds mistakes of its syntax. Types are checked when a flow is compiled.
func (v value) expression() (expr.Source, bool) {
	source, ok := v.expressionText()
	if !ok {
		return expr.Source{}, false
	}
	if err := source.Check(); err != nil {
		v.expressionMistakes(err)
		return expr.Source{}, false
	}
	return source, true
}

// expressionMistakes adds the mistakes of an expression to the reader's list.
func (v value) expressionMistakes(err error) {
	mistakes, ok := errors.AsType[expr.Mistakes](err)
	if !ok {
		v.mistake("%v", err)
		return
	}
	for _, m := range mistakes {
		line, column := m.Position()
		problem := m.Explain()
		if v.node.Style == 0 && strings.HasPrefix(v.node.LineComment, "#") {
			problem = strings.Replace(problem, "\n", "; YAML takes the # behind it for the beginning of a comment: if it is a part of the expression, put that into single quotes\n", 1)
		}
		v.r.mistakes = append(v.r.mistakes, &Mistake{Document: v.r.document, Line: line, Column: column, Key: v.path, Code: batch.CodeBadDocument, Problem: problem})
	}
}

// expressionText returns the text of an expression, with its place in the file.
func (v value) expressionText() (expr.Source, bool) {
	n := v.node
	if n.Kind != yaml.ScalarNode {
		v.mistake("wants an expression such as score > 60, not %s", describe(n))
		return expr.Source{}, false
	}
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		v.mistake("begins with %s, which YAML takes for a tag: write not in place of !, or put the expression into single quotes", quote(n.Tag))
		return expr.Source{}, false
	}
	source := expr.Source{Text: n.Value, Document: v.r.document, Path: v.path, Line: n.Line + v.r.offset, Column: n.Column, Margin: n.Column}
	switch n.Style {
	case yaml.LiteralStyle, yaml.FoldedStyle:
		source.Text, source.Margin = v.r.block(n.Line)
		source.Line, source.Column = n.Line+1+v.r.offset, source.Margin
	case yaml.SingleQuotedStyle, yaml.DoubleQuotedStyle:
		source.Column++
	}
	return source, true
}

// block returns the lines of a block scalar as they are written, without their common margin, and the column where they begin. line is the line of
// its indicator.
func (r *reader) block(line int) (text string, column int) {
	lines := strings.Split(string(r.source), "\n")
	margin := -1
	var b strings.Builder
	for _, l := range lines[min(line, len(lines)):] {
		indent := len(l) - len(strings.TrimLeft(l, " "))
		blank := strings.TrimSpace(l) == ""
		if margin < 0 && !blank {
			margin = indent
		}
		if !blank && indent < margin || margin == 0 {
			break
		}
		b.WriteString(l[min(max(margin, 0), len(l)):] + "\n")
	}
	return b.String(), max(margin, 0) + 1
}

// expressionUnder reads the expression under a key; nil if the key is not there.
func (o object) expressionUnder(key string) *expr.Source {
	v, ok := o.values[key]
	if !ok {
		return nil
	}
	source, ok := v.expression()
	if !ok {
		return nil
	}
	return &source
}

// valueExpression reads the value under a key, if it is written as "= expression". Before there were expressions, a field or a template might begin with
// =, too. So "=text", without a blank, that is no expression keeps that meaning; only Intake makes a mistake of it.
func (o object) valueExpression(key string) *expr.Source {
	v, ok := o.values[key]
	if !ok || v.node.Kind != yaml.ScalarNode || !strings.HasPrefix(v.node.Value, "=") {
		return nil
	}
	source, ok := v.expressionText()
	if !ok {
		return nil
	}
	at := strings.IndexByte(source.Text, '=') // a block has the text as it is written
	source.Text, source.Column = source.Text[at+1:], source.Column+1
	if err := source.Check(); err != nil {
		if rest := v.node.Value[1:]; rest != "" && strings.TrimLeft(rest, " \t\n") == rest {
			known := v.r.mistakes
			v.r.mistakes = nil
			v.expressionMistakes(err)
			v.r.doubts = append(v.r.doubts, v.r.mistakes...)
			v.r.mistakes = known
			return nil
		}
		v.expressionMistakes(err)
	}
	return &source
}

// valueExpressions reads those values of a mapping that are written as "= expression". fields are its names.
func (o object) valueExpressions(key string, fields map[string]string) map[string]expr.Source {
	var all map[string]expr.Source
	v := o.values[key]
	if v.node.Kind != yaml.MappingNode {
		return nil
	}
	m := object{value: v, values: map[string]value{}}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		name := v.node.Content[i].Value
		if !strings.HasPrefix(fields[name], "=") {
			continue
		}
		m.values[name] = value{r: v.r, path: join(v.path, name), node: v.r.follow(v.node.Content[i+1])}
		if source := m.valueExpression(name); source != nil {
			if all == nil {
				all = map[string]expr.Source{}
			}
			all[name] = *source
		}
	}
	return all
}

// ParamValues returns the params of the function at place i of the flow, over the defaults of its document, with the types that YAML gives them.
func (b *Bundle) ParamValues(i int) (expr.Value, error) {
	entry := b.Flow.Functions[i]
	values := map[string]expr.Value{}
	add := func(texts map[string]string, params *yaml.Node) error {
		for name, text := range texts {
			values[name] = expr.StringValue(text)
		}
		if params == nil || params.Kind != yaml.MappingNode {
			return nil
		}
		for k := 0; k+1 < len(params.Content); k += 2 {
			var v any
			if err := params.Content[k+1].Decode(&v); err != nil {
				return err
			}
			value, err := expr.ValueOf(v)
			if err != nil {
				return err
			}
			values[params.Content[k].Value] = value
		}
		return nil
	}
	function := b.Functions[entry.Name]
	if err := add(function.DefaultParams, function.Document.node("option", "default_params")); err != nil {
		return expr.Value{}, err
	}
	var params *yaml.Node
	if flows := b.Flow.Document.node("flows"); flows != nil && i < len(flows.Content) {
		if k := valueOf(flows.Content[i], "params"); k >= 0 {
			params = flows.Content[i].Content[k]
		}
	}
	if err := add(entry.Params, params); err != nil {
		return expr.Value{}, err
	}
	return expr.ObjectValue(values), nil
}

// node returns the value under a path of keys; nil if the document does not have it.
func (d Document) node(keys ...string) *yaml.Node {
	roots, err := yamltext.Nodes(d.YAML, 1)
	if err != nil || len(roots) == 0 {
		return nil
	}
	n := roots[0].Content[0]
	for _, key := range keys {
		i := valueOf(n, key)
		if i < 0 {
			return nil
		}
		n = n.Content[i]
	}
	return n
}

// maxExpressions is the largest number of fields that the expressions of one function may give.
const maxExpressions = 500

// NamedExpression is a field and the expression that gives its value.
type NamedExpression struct {
	Name string
	expr.Source
}

// namedExpressions reads a mapping from names of fields to expressions, in the order of the document.
func (v value) namedExpressions() []NamedExpression {
	var all []NamedExpression
	fields := v.fields()
	if len(fields) > maxExpressions {
		v.mistake("has %d fields; a function may give %d: divide the work among several functions", len(fields), maxExpressions)
		return nil
	}
	for _, f := range fields {
		if source, ok := f.value.expression(); ok {
			all = append(all, NamedExpression{f.name, source})
		}
	}
	return all
}

// fieldTypes reads source.fields: the types of a row's fields. A list is written [T], an object as a mapping.
func (v value) fieldTypes() expr.Type {
	if v.node.Kind != yaml.MappingNode {
		v.mistake("wants names of fields with their types, such as {stu_id: int}, not %s", describe(v.node))
		return expr.Any
	}
	return v.fieldType()
}

// fieldType reads one type.
func (v value) fieldType() expr.Type {
	switch v.node.Kind {
	case yaml.MappingNode:
		var fields []expr.Field
		for _, f := range v.fields() {
			fields = append(fields, expr.Field{Name: f.name, Type: f.value.fieldType()})
		}
		if len(fields) == 1 && fields[0].Name == "*" {
			return expr.Map(fields[0].Type)
		}
		return expr.Object(fields...)
	case yaml.SequenceNode:
		if len(v.node.Content) != 1 {
			v.mistake("has %d types; a list has one type of elements: write [T]", len(v.node.Content))
			return expr.Any
		}
		return expr.List(value{r: v.r, path: v.path, node: v.r.follow(v.node.Content[0])}.fieldType())
	}
	text, ok := v.text()
	if !ok {
		return expr.Any
	}
	t, err := expr.ParseType(text)
	if err != nil {
		v.mistake("%v", err)
	}
	return t
}

// DeclaredVerify is `option.verify`: a row for which If gives false is filtered, with the text that Reason gives.
type DeclaredVerify struct {
	If expr.Source
	// Reason is `option.reason`. nil means none.
	Reason *expr.Source
}

// DeclaredCalculate is `option.calculate`: the fields of the new row.
type DeclaredCalculate struct {
	Fields []NamedExpression
	// KeepAll says that other fields of the row are passed on, Keep names those that are, if not all are.
	KeepAll bool
	Keep    []string
}

// DeclaredExpand is `option.expand`: a row for each element of the list that Each gives.
type DeclaredExpand struct {
	Each  expr.Source
	As    string
	Where *expr.Source
	Set   []NamedExpression
}

// parseExpressions reads the expressions under option into the function.
func (f *Function) parseExpressions(o object) {
	for key, mode := range map[string]Mode{"verify": ModeVerify, "reason": ModeVerify, "calculate": ModeCalculate, "expand": ModeExpand} {
		f.wantMode(o, key, mode)
	}
	if If := o.expressionUnder("verify"); If != nil {
		f.Verify = &DeclaredVerify{If: *If, Reason: o.expressionUnder("reason")}
	}
	if v, ok := o.values["calculate"]; ok {
		f.Calculate = &DeclaredCalculate{Fields: v.namedExpressions()}
	}
	if v, ok := o.values["keep"]; ok {
		switch {
		case f.Calculate == nil:
			v.mistake("is for functions with calculate")
		case v.node.Kind == yaml.SequenceNode:
			f.Calculate.Keep = o.texts("keep")
		default:
			f.Calculate.KeepAll = v.oneOf("all") == "all"
		}
	}
	if v, ok := o.values["expand"]; ok {
		e := v.object(expandKeys.names()...)
		f.Expand = &DeclaredExpand{As: "item", Where: e.expressionUnder("where")}
		if as := e.text("as"); as != "" {
			f.Expand.As = as
		}
		if _, ok := e.require("each", "an expression that gives a list"); ok {
			if each := e.expressionUnder("each"); each != nil {
				f.Expand.Each = *each
			}
		}
		if set, ok := e.values["set"]; ok {
			f.Expand.Set = set.namedExpressions()
		}
	}
}
