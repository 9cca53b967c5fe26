package expr

import (
	"strings"
	"testing"
)

// Types are read as documents write them, and written in the same way.
func TestParseType(t *testing.T) {
	for text, want := range map[string]string{
		"int": "int", " float ? ": "float?", "[string]": "[string]", "[[int?]]?": "[[int?]]?", "{a: int, b: {c: [time]}}": "{a: int, b: {c: [time]}}", "{b: int, a: bool}": "{a: bool, b: int}",
		"{}": "{}", "{*: duration}": "{*: duration}", `{"a b": int}`: `{"a b": int}`, "any?": "any", "int??": "int?", "{stu-id: int}": `{"stu-id": int}`,
	} {
		got, err := ParseType(text)
		if err != nil || got.String() != want {
			t.Errorf("%q is %v, %v; want %s", text, got, err, want)
		}
		if again, err := ParseType(got.String()); err != nil || !again.Equal(got) {
			t.Errorf("%q is written as %s, and that is %v, %v", text, got, again, err)
		}
	}
	for text, want := range map[string]string{
		"": `"" is not a type`, "Int": `did you mean int?`, "number": `"number" is not a type`, "[int": "a [ has no ]", "{a: int": "a { has no }", "{a}": `the field "a" has no type: write a: T`,
		"{a: int, a: int}": "two types", "int int": `"int" is left behind the type`, strings.Repeat("[", 100): "nested more than 50 deep", "strng": "did you mean string?",
	} {
		if _, err := ParseType(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// The type of an expression is known before any row runs.
func TestTypesOfExpressions(t *testing.T) {
	row, err := ParseType("{a: int, f: float, s: string, o: int?, l: [int], m: {*: int}, p: {x: int}?, t: time, d: duration, any: any}")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"a + a": "int", "a + f": "float", "a / a": "float", "-a": "int", "s + s": "string", "t - t": "duration", "t + d": "time", "d / d": "float", "d / 2": "duration", "2 * d": "duration",
		"a > 1": "bool", "o ?? 0": "int", "o ?? 0.5": "float", "o ?? null": "int?", "o": "int?", "p?.x": "int?", "p?.x ?? a": "int", "l[0]": "int", "l?.[0]": "int?", "m.k": "int?", `m["k"]`: "int?",
		"a > 1 ? a : f": "float", "a > 1 ? a : null": "int?", "a > 1 ? a : s": "any", "[a, f]": "[float]", "[a, s]": "[any]", "[]": "[any]", "{x: a, y: o}": "{x: int, y: int?}", "any": "any", "any + 1": "any",
		"any / 2": "any", "2 / any": "float", "any.x": "any", "any > 1": "bool", "map(l, x => x / 2)": "[float]", "filter(l, x => x > 1)": "[int]", "first(l)": "int?", "reduce(l, 0, (all, x) => all + x / 2)": "float",
		"reduce(l, [], (all, x) => all + [x])": "[any]", "sum(l)": "int", "sum([a, f])": "float", "min(a, f)": "float", "round(f)": "int", "round(f, 2)": "float", "keys(m)": "[string]", "values(m)": "[int]",
		"entries(m)": "[{key: string, value: int}]", `merge({x: a}, {y: s})`: "{x: int, y: string}", "group_by(l, x => string(x))": "{*: [int]}", "find(s, `a`)": "string?", "let x = a; x + x": "int",
		"o != null ? o : a": "int", "o == null || o > 1": "bool", "l + [f]": "[float]", "flatten([l, l])": "[int]", "row.a": "int", "null": "null", "missing": "null", "row": row.String(),
	} {
		program, err := NewScope(Names{Row: row}).Compile(Source{Text: text}, Any)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := program.Type().String(); got != want {
			t.Errorf("%s has the type %s, want %s", text, got, want)
		}
	}
}

// An expression that has to be of a type is converted where nothing is lost, and refused where it can't be one.
func TestWantedTypes(t *testing.T) {
	row, err := ParseType("{a: int, o: int?, s: string, any: any}")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		want Type
		says string // of the mistake; "" for none
	}{
		{"a > 1", Bool, ""},
		{"any", Bool, ""},
		{"a", Float, ""},
		{"any", Int, ""},
		{"o", Optional(Int), ""},
		{"null", Optional(Int), ""},
		{"a", Bool, "a is an int, and a bool is expected: write a != 0"},
		{"o", Int, "o may be null or missing: its type is int?: write (o ?? 0)"},
		{"a + 0.5", Int, "a + 0.5 is a float, and an int is expected: write round(a + 0.5)"},
		{"s", Int, "s is a string, and an int is expected: write int(s)"},
		{"a", String, "a is an int, and a string is expected: write string(a)"},
		{"[a]", List(String), "is a list [int], and a list [string] is expected"},
		{"{x: a}", Object(Field{"x", Int}, Field{"y", Optional(Int)}), ""},
		{"{x: a}", Object(Field{"x", Int}, Field{"y", Int}), "is expected"},
	} {
		_, err := NewScope(Names{Row: row}).Compile(Source{Text: c.text}, c.want)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s as %s: %v, want %q", c.text, c.want, err, c.says)
		}
	}
}
