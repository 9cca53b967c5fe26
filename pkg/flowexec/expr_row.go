package flowexec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/expr"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// effectExpressions are the expressions of a declared Save or Load: its key, and values by the names of their fields. A nil effectExpressions has
// none.
type effectExpressions struct {
	exprReader
	key    *expr.Program // nil means that the key is a template
	values map[string]*expr.Program
}

// compileEffects compiles the expressions of a step's declared Save or Load. It returns nil if there are none.
func compileEffects(doc *definition.Function, names expr.Names) (*effectExpressions, definition.Mistakes) {
	var key *expr.Source
	var values map[string]expr.Source
	switch {
	case doc.Save != nil:
		key, values = doc.Save.KeyExpression, doc.Save.Expressions
	case doc.Load != nil:
		key = doc.Load.KeyExpression
	}
	if key == nil && len(values) == 0 {
		return nil, nil
	}
	e := &effectExpressions{values: map[string]*expr.Program{}}
	c := exprCompiler{function: doc.Name, scope: expr.NewScope(names)}
	if key != nil {
		e.key = c.compile(*key, expr.Any)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		e.values[name] = c.compile(values[name], expr.Any)
	}
	e.exprReader.init(doc.Name, c.scope)
	return e, c.mistakes
}

// effectRow is one row, as a declared Save or Load reads it. Its method done has to be called.
type effectRow struct {
	step   *step
	frame  *exprFrame    // nil if the step has no expressions
	fields decode.Object // nil if the step has expressions alone
}

// effectRow reads row i for the declared Save or Load of a step. plain says that it reads fields of the row by their names, too.
func (st *stepRun) effectRow(s *step, rs *rows.Set, i int, plain bool) (row effectRow, err error) {
	row.step = s
	reader := &st.x.reader
	if plain {
		if row.fields, err = reader.Object(rs, i); err != nil {
			return row, err
		}
	}
	if s.effects == nil {
		return row, nil
	}
	text, err := reader.JSON(rs, i)
	if err != nil {
		return row, err
	}
	row.frame = s.effects.frames.Get().(*exprFrame)
	row.frame.Next()
	if s.effects.rowID >= 0 {
		id := st.run.rowID(s, rs, i)
		row.frame.Set(s.effects.rowID, expr.StringValue(id.String()))
	}
	return row, s.effects.json(row.frame, string(text))
}

// done gives the memory of the row back.
func (r *effectRow) done() {
	if r.frame != nil {
		r.step.effects.frames.Put(r.frame)
		r.frame = nil
	}
}

// key returns the row's key.
func (r *effectRow) key(t definition.Template) (string, error) {
	if r.step.effects != nil && r.step.effects.key != nil {
		return r.text(r.step.effects.key)
	}
	return keyOf(t, r.fields)
}

// value returns the value for a field of the key; field is the row's field that has it, unless an expression gives it.
func (r *effectRow) value(name, field string) (string, error) {
	if r.step.effects != nil && r.step.effects.values[name] != nil {
		return r.text(r.step.effects.values[name])
	}
	return textOf(r.fields, field)
}

// text returns the value of a program as connectors store it: a string as the text itself, other values as their JSON.
func (r *effectRow) text(p *expr.Program) (string, error) {
	v, err := p.Value(r.frame.Frame)
	switch {
	case err != nil:
		return "", err
	case v.Absent():
		return "", p.Fail(expr.ReasonMissing, fmt.Sprintf("is %s, which can't be stored: write ?? and a default behind it", v.Kind()))
	case v.Kind() == expr.KindString:
		return strings.Clone(v.Text()), nil
	}
	b, err := r.frame.AppendJSON(nil, v)
	if v.Kind() == expr.KindTime || v.Kind() == expr.KindDuration { // they are written as strings
		b = b[1 : len(b)-1]
	}
	return string(b), err
}

// effectOutcome returns the outcome of a row of which a declared Save or Load could make no effect or key. The row's fields could be read.
func effectOutcome(err error) batch.RowOutcome {
	o := batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeMissingField, Attempts: 1, Reason: decode.Trimmed(err.Error())}
	if _, failed := err.(*expr.Failure); failed { //nolint:errorlint // it is never wrapped
		o.Code = batch.CodeFunctionError
	}
	return o
}

// unreadable returns the outcome of a row that a declared Save or Load can't read. made says that a function made the row.
func unreadable(s *step, err error, made bool) batch.RowOutcome {
	m, ok := err.(*misfit) //nolint:errorlint // it is never wrapped, and the error may be one of the user's, whose methods panic
	if !ok {
		return undecodable(s, err)
	}
	return batch.RowOutcome{Outcome: batch.Dead, Code: m.codeFor(made), Attempts: 1, Reason: decode.Trimmed(m.text)}
}

// codeFor returns the code of the row's outcome. made says that a function made the row.
func (m *misfit) codeFor(made bool) batch.Code {
	switch {
	case m.code != 0:
		return m.code
	case made:
		return batch.CodeConversionFailed
	}
	return batch.CodeRowUndecodable
}
