package expr

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// sample is a value of a row for the tables.
type sample struct {
	name  string
	value Value
	kind  Type // as which it would be declared
}

// samples are the values for which each operator and each function is tried.
func samples() []sample {
	at := time.Date(2026, 11, 30, 14, 0, 0, 0, time.UTC)
	return []sample{
		{"missing", Missing, Optional(Int)},
		{"null", Null, Optional(String)},
		{"true", BoolValue(true), Bool},
		{"0", IntValue(0), Int},
		{"2", IntValue(2), Int},
		{"max", IntValue(math.MaxInt64), Int},
		{"2^53+1", IntValue(1<<53 + 1), Int},
		{"0.5", FloatValue(0.5), Float},
		{"1e308", FloatValue(1e308), Float},
		{"NaN", FloatValue(math.NaN()), Float},
		{"big", Value{kind: KindNumber, text: "18446744073709551616"}, Any},
		{`""`, StringValue(""), String},
		{`"学a"`, StringValue("学a"), String},
		{"time", TimeValue(at), Time},
		{"1m", DurationValue(time.Minute), Duration},
		{"[]", ListValue(nil), List(Int)},
		{"[2,2]", ListValue([]Value{IntValue(2), IntValue(2)}), List(Int)},
		{"{}", ObjectValue(nil), Map(Int)},
		{`{"":2}`, ObjectValue(map[string]Value{"": IntValue(2)}), Map(Int)},
	}
}

// codes are what the tables say for each reason of a failure.
var codes = map[string]string{
	"missing": "-missing", "null": "-null", "type": "-type", "overflow": "-over", "zero": "-zero", "lossy": "-lossy", "index": "-index", "value": "-value", "budget": "-budget", "refused": "-refused",
}

// outcomeOf evaluates an expression twice over two values, x and y. It returns a cell of a table: the value, or why there is none.
func outcomeOf(t *testing.T, text string, row Type, x, y Value) string {
	t.Helper()
	scope := NewScope(Names{Row: row})
	program, err := scope.Compile(Source{Text: text}, Any)
	if err != nil {
		return codes[reasonOf(err)]
	}
	first := ""
	for try := range 2 {
		fr := scope.NewFrame(Budget{Steps: 10_000, Bytes: 100_000})
		for i, in := range scope.Inputs() {
			fr.Set(i, map[string]Value{"x": x, "y": y}[in.Name])
		}
		cell := ""
		v, err := program.Value(fr)
		switch {
		case err != nil:
			cell = codes[reasonOf(err)]
			if cell == "" {
				t.Errorf("%s: %v", text, err)
			}
			for _, secret := range []string{"18446744073709551616", "学a", "9007199254740993", "9223372036854775807"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%s: the failure has a value in it: %v", text, err)
				}
			}
		case v.Kind() == KindMissing:
			cell = "missing"
		default:
			b, err := fr.AppendJSON(nil, v)
			cell = string(b)
			if err != nil {
				cell = codes[reasonOf(err)]
			}
		}
		if len(cell) > 60 {
			cell = fmt.Sprintf("%s… (%d bytes)", cell[:40], len(cell))
		}
		if try == 0 {
			first = cell
		} else if cell != first {
			t.Errorf("%s gives %s, and then %s", text, first, cell)
		}
	}
	return first
}

// Every operator for every pair of kinds. The table stands in testdata/operators.txt. Where the types are declared, an expression that is not
// refused gives the same. Only a float that is not a number fails earlier there: where it is read as a float.
func TestOperators(t *testing.T) {
	var table strings.Builder
	all := samples()
	for _, op := range []string{"+", "-", "*", "/", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "&&", "||", "??", "[]", "?.[]"} {
		text := "x " + op + " y"
		switch op {
		case "[]":
			text = "x[y]"
		case "?.[]":
			text = "x?.[y]"
		}
		fmt.Fprintf(&table, "%s\n", text)
		cells := map[[2]int]string{}
		for i, x := range all {
			byResult, order := map[string][]string{}, []string{}
			for j, y := range all {
				cell := outcomeOf(t, text, Any, x.value, y.value)
				cells[[2]int{i, j}] = cell
				if byResult[cell] == nil {
					order = append(order, cell)
				}
				byResult[cell] = append(byResult[cell], y.name)
				declared := outcomeOf(t, text, Object(Field{"x", x.kind}, Field{"y", y.kind}), x.value, y.value)
				if nan := x.name == "NaN" || y.name == "NaN"; declared != cell && declared != "-refused" && !(nan && declared == "-lossy") {
					t.Errorf("%s for %s and %s gives %s, and %s where the types are declared", text, x.name, y.name, cell, declared)
				}
			}
			fmt.Fprintf(&table, "  x is %s\n", x.name)
			for _, cell := range order {
				fmt.Fprintf(&table, "    %s: y is %s\n", cell, strings.Join(byResult[cell], " "))
			}
		}
		mirror := map[string]string{"==": "==", "!=": "!=", "<": ">", ">": "<"}[op]
		for i, x := range all {
			for j, y := range all {
				if mirror != "" {
					if other := outcomeOf(t, "y "+mirror+" x", Any, x.value, y.value); other != cells[[2]int{i, j}] && !strings.HasPrefix(other, "-") {
						t.Errorf("x %s y for %s and %s gives %s, and y %s x gives %s", op, x.name, y.name, cells[[2]int{i, j}], mirror, other)
					}
				}
			}
		}
	}
	golden(t, "operators.txt", table.String())
}

// Every function for every kind of its first argument. The table stands in testdata/functions.txt.
func TestFunctionsOfEveryKind(t *testing.T) {
	var table strings.Builder
	for _, g := range groups {
		for _, f := range g.functions {
			text := f.name + "(" + strings.Join(append([]string{"x"}, otherArguments(f)...), ", ") + ")"
			fmt.Fprintf(&table, "%s\n", text)
			byResult, order := map[string][]string{}, []string{}
			for _, x := range samples() {
				cell := outcomeOf(t, text, Any, x.value, Missing)
				if byResult[cell] == nil {
					order = append(order, cell)
				}
				byResult[cell] = append(byResult[cell], x.name)
				declared := outcomeOf(t, text, Object(Field{"x", x.kind}), x.value, Missing)
				if declared != cell && declared != "-refused" && !(x.name == "NaN" && declared == "-lossy") {
					t.Errorf("%s for %s gives %s, and %s where the type is declared", text, x.name, cell, declared)
				}
			}
			for _, cell := range order {
				fmt.Fprintf(&table, "    %s: x is %s\n", cell, strings.Join(byResult[cell], " "))
			}
		}
	}
	golden(t, "functions.txt", table.String())
}

// otherArguments returns arguments for all parameters but the first one.
func otherArguments(f *function) []string {
	var args []string
	for _, p := range f.params[1:] {
		switch {
		case p.optional:
		case p.arity == 2:
			args = append(args, "(all, x) => all")
		case p.test:
			args = append(args, "x => x == 2")
		case p.arity == 1:
			args = append(args, "x => string(x)")
		case p.name == "layout":
			args = append(args, `"%Y-%m"`)
		case p.name == "unit":
			args = append(args, `"month"`)
		case p.kinds.has(KindString):
			args = append(args, `"a"`)
		case p.kinds.has(KindInt):
			args = append(args, "2")
		case p.kinds.has(KindDuration):
			args = append(args, `duration("7m")`)
		default:
			args = append(args, "0")
		}
	}
	return args
}
