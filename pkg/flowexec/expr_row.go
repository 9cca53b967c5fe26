package flowexec

import (
	"fmt"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/expr"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// effectExpressions are the expressions of a declared Save or Load: its key, and values by the names of their fields.
type effectExpressions struct {
	scope  *expr.Scope
	key    *expr.Program
	values map[string]*expr.Program
}

// compileEffects compiles the expressions of a step's declared Save or Load. It returns nil if there are none.
func compileEffects(doc *definition.Function, params expr.Value) (*effectExpressions, definition.Mistakes) {
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
	e := &effectExpressions{scope: expr.NewScope(namesOf(doc, params)), values: map[string]*expr.Program{}}
	c := exprCompiler{function: doc.Name, scope: e.scope}
	if key != nil {
		e.key = c.compile(*key, expr.String)
	}
	for name, source := range values {
		e.values[name] = c.compile(source, expr.Any)
	}
	return e, c.mistakes
}

// effectRow is one row, as the expressions of a declared Save or Load read it.
type effectRow struct {
	of    *effectExpressions
	frame *expr.Frame
}

// read reads row i for the expressions.
func (e *effectExpressions) read(r *decode.Reader, rs *rows.Set, i int) (effectRow, error) {
	row := effectRow{e, e.scope.NewFrame(expr.Budget{})}
	raw, err := r.JSON(rs, i)
	if err != nil {
		return row, err
	}
	return row, e.scope.ReadJSON(row.frame, string(raw))
}

// text returns the value of a program as connectors store it: a string as the text itself, other values as their JSON.
func (r effectRow) text(p *expr.Program) (string, error) {
	v, err := p.Value(r.frame)
	switch {
	case err != nil:
		return "", err
	case v.Absent():
		return "", fmt.Errorf("%s is %s, which can't be stored: give it a default with ??", p, v.Kind())
	case v.Kind() == expr.KindString:
		return v.Text(), nil
	}
	b, err := r.frame.AppendJSON(nil, v)
	return strings.Trim(string(b), `"`), err // a time and a duration are written as strings
}

// failedExpression returns the outcome of a row whose expression failed.
func failedExpression(err error) batch.RowOutcome {
	return batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeFunctionError, Attempts: 1, Reason: decode.Trimmed(err.Error())}
}
