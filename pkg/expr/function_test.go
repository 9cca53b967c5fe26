package expr

import (
	"strings"
	"testing"
)

// Each function does what its example says, and each one has a description.
func TestExamplesOfFunctions(t *testing.T) {
	for _, g := range groups {
		for _, f := range g.functions {
			got, err := run(t, f.example, "", "")
			if err != nil || got != f.result {
				t.Errorf("%s gives %s (%v), and should give %s", f.example, got, err, f.result)
			}
			if !strings.Contains(f.example, f.name+"(") || !strings.HasSuffix(f.about, ".") {
				t.Errorf("%s: its example is another function's, or its description is no sentence", f.name)
			}
		}
	}
}

// The same examples give the same when nothing is computed in advance, because the constants come from the row.
func TestExamplesWithValuesOfTheRow(t *testing.T) {
	for _, g := range groups {
		for _, f := range g.functions {
			scope := NewScope(Names{Row: Any})
			program, err := scope.Compile(Source{Text: "[" + f.example + ", x]"}, Any)
			if err != nil {
				t.Fatalf("%s: %v", f.example, err)
			}
			if got, err := evaluate(scope, program, `{"x": 1}`); err != nil || got != "["+f.result+",1]" {
				t.Errorf("%s gives %s (%v), and should give %s", f.example, got, err, f.result)
			}
		}
	}
}
