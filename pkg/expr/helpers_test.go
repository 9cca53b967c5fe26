package expr

import (
	"errors"
	"testing"
)

// run compiles an expression over a row of JSON, whose fields have the given types ("" declares none), and evaluates it twice. It returns the
// value as JSON, "missing" for a missing one. The error is Mistakes or a *Failure. It fails the test if both evaluations differ by a byte.
func run(t *testing.T, text, fields, row string) (string, error) {
	t.Helper()
	names := Names{Row: Any, Params: ObjectValue(map[string]Value{"limit": IntValue(60), "name": StringValue("x"), "rate": FloatValue(0.5)})}
	if fields != "" {
		row, err := ParseType(fields)
		if err != nil {
			t.Fatalf("%s: %v", fields, err)
		}
		names.Row = row
	}
	scope := NewScope(names)
	program, err := scope.Compile(Source{Text: text}, Any)
	if err != nil {
		return "", err
	}
	first, err := evaluate(scope, program, row)
	second, err2 := evaluate(scope, program, row)
	if first != second || (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
		t.Errorf("%s gives %s (%v), and then %s (%v)", text, first, err, second, err2)
	}
	return first, err
}

// evaluate runs a program on a new frame.
func evaluate(scope *Scope, program *Program, row string) (string, error) {
	fr := scope.NewFrame(Budget{})
	if row != "" {
		if err := scope.ReadJSON(fr, row); err != nil {
			return "", err
		}
	}
	v, err := program.Value(fr)
	if err != nil {
		return "", err
	}
	if v.Kind() == KindMissing {
		return "missing", nil
	}
	b, err := fr.AppendJSON(nil, v)
	return string(b), err
}

// reasonOf returns "refused" for mistakes, the reason of a failure, or "" for no error.
func reasonOf(err error) string {
	var failure *Failure
	var mistakes Mistakes
	switch {
	case errors.As(err, &failure):
		return string(failure.Reason)
	case errors.As(err, &mistakes):
		return "refused"
	case err != nil:
		return err.Error()
	}
	return ""
}
