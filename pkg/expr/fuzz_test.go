package expr

import (
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

// fuzzRow is the row for which fuzz tests evaluate expressions.
const fuzzRow = `{"a": 7, "b": 0.5, "s": "ab", "l": [1, 2, "x", null], "o": {"z": 1, "": [2]}, "n": null, "t": "2026-11-30T14:00:00Z"}`

var fuzzType, _ = ParseType("{a: int, b: float, s: string, l: [any], o: {*: any}, n: string?, t: time, m: int?}")

// Whatever a document says, the parser and the compiler do not panic, the canonical text means the same, and an evaluation ends within its budget,
// twice with the same bytes. Where types are declared, it gives the same as without.
func FuzzExpression(f *testing.F) {
	for _, text := range mistaken {
		f.Add(text)
	}
	for _, g := range groups {
		for _, function := range g.functions {
			f.Add(function.example)
		}
	}
	for _, p := range properties {
		f.Add(p.text)
	}
	for _, text := range hostile {
		f.Add(text)
	}
	f.Add(`map(filter(l, x => x != null), x => type(x) == "int" ? string(x) + s : s)`)
	f.Add(`let x = a + 1; o?.z ?? {"k": [x, -x, !true], 'q': m ?? a}`)
	f.Add("(a ? b : l)[0]?.z ?? m not in l && !(a < b or b >= 1 and n == null)")
	f.Fuzz(func(t *testing.T, text string) {
		checkExpression(t, text)
	})
}

// checkExpression checks the properties of FuzzExpression for one text.
func checkExpression(t *testing.T, text string) {
	t.Helper()
	source := Source{Text: text}
	tree, mistake := parse(&source)
	if mistake != nil {
		if len(mistake.Error()) > 2*MaxText+1000 {
			t.Errorf("a message has %d bytes", len(mistake.Error()))
		}
		return
	}
	printed := tree.String()
	again, mistake := parse(&Source{Text: printed})
	switch {
	case mistake != nil && len(printed) <= MaxText && !strings.Contains(mistake.Message, "nested"):
		t.Fatalf("%q is printed as %q: %v", text, printed, mistake)
	case mistake == nil && again.String() != printed:
		t.Fatalf("%q is printed as %q, and that as %q", text, printed, again.String())
	}
	untyped, err := evaluateTwice(t, text, Any)
	if errors.As(err, new(Mistakes)) {
		return
	}
	typed, err2 := evaluateTwice(t, text, fuzzType)
	if err == nil && err2 == nil && untyped != typed {
		t.Errorf("%q gives %s, and %s where types are declared", text, untyped, typed)
	}
}

// evaluateTwice evaluates an expression on two frames with a small budget, and compares the results.
func evaluateTwice(t *testing.T, text string, row Type) (string, error) {
	t.Helper()
	scope := NewScope(Names{Row: row, Variables: []Field{{"row_id", String}}})
	program, err := scope.Compile(Source{Text: text}, Any)
	if err != nil {
		_ = err.Error()
		return "", err
	}
	if program.Type().String() == "" {
		t.Errorf("%q has no type", text)
	}
	var first []byte
	var firstErr error
	for try := range 2 {
		fr := scope.NewFrame(Budget{Steps: 20_000, Bytes: 200_000})
		if err := scope.ReadJSON(fr, fuzzRow); err != nil {
			return "", err
		}
		for i, in := range scope.Inputs() {
			if in.Variable {
				fr.Set(i, StringValue("id"))
			}
		}
		fr.steps, fr.bytes = 20_000, 200_000
		v, err := program.Value(fr)
		var b []byte
		if err == nil {
			b, err = fr.AppendJSON(nil, v)
		}
		if err != nil {
			var failure *Failure
			if !errors.As(err, &failure) || failure.Message == "" {
				t.Fatalf("%q fails with %v", text, err)
			}
			_, _ = failure.Error(), failure.Detail()
		} else if !json.Valid(b) {
			t.Errorf("%q gives %s, which is not JSON", text, b)
		}
		if try == 0 {
			first, firstErr = b, err
		} else if !bytes.Equal(b, first) && err == nil || (err == nil) != (firstErr == nil) || err != nil && err.Error() != firstErr.Error() {
			t.Errorf("%q gives %s (%v), and then %s (%v)", text, first, firstErr, b, err)
		}
	}
	return string(first), firstErr
}

// JSON is read as encoding/json reads it.
func FuzzReadJSON(f *testing.F) {
	for _, text := range []string{
		fuzzRow, `{"a": 1, "a": 2}`, `[1.5, -0, 0.0, 1e400, 18446744073709551616, "\ud83d\ude00\u00e9\/\ud800"]`, `{"a": {"b": [[[]]]}, "é": "\n"}`, `01`, `{"a":}`, `"\x"`, ` null `, `[1,]`,
		"\"\x01\"", "\"\xff\"", `["<&>", "\u2028\u2029 "]`, `{"":0}`, `-`, `1.`, `1e`, `tru`, `"\'"`, `"a`, `{"a" 1}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fr := NewScope(Names{Row: Any}).NewFrame(Budget{})
		r := reader{text: text, fr: fr, at: rowSite}
		v, ok := r.document()
		if ok != json.Valid([]byte(text)) {
			if !ok && fr.failure.Reason == ReasonBudget {
				return
			}
			t.Fatalf("%q is read as %v, and is valid: %v", text, ok, !ok)
		}
		if !ok {
			return
		}
		got, err := fr.AppendJSON(nil, v)
		if err != nil {
			return
		}
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var wanted any
		if err := d.Decode(&wanted); err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		if err := e.Encode(canonical(wanted)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, bytes.TrimSpace(want.Bytes())) {
			t.Errorf("%q is read as %s, and encoding/json reads %s", text, got, &want)
		}
	})
}

// canonical returns a value of encoding/json with its numbers as this package has them.
func canonical(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if strings.ContainsAny(v.String(), ".eE") {
			if f, err := v.Float64(); err == nil {
				return f + 0
			}
		}
	case []any:
		for i := range v {
			v[i] = canonical(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = canonical(v[k])
		}
	}
	return v
}

// nested returns a text that stands n times within another one.
func nested(before, middle, after string, n int) string {
	return strings.Repeat(before, n) + middle + strings.Repeat(after, n)
}

// doubled returns lets, each of which has the one before twice.
func doubled(first, twice string, n int) string {
	text := "let x0 = " + first + "; "
	name := func(i int) string { return "x" + string(rune('a'+i/10)) + string(rune('a'+i%10)) }
	before := "x0"
	for i := range n {
		text += "let " + name(i) + " = " + strings.ReplaceAll(twice, "?", before) + "; "
		before = name(i)
	}
	return text + before
}

// hostile are expressions of somebody who wants to use up time and memory.
var hostile = []string{
	nested("(", "1", ")", 5000), nested("[", "1", "]", 99), nested("{a: ", "1", "}", 99), nested("-", "a", "", 5000), nested("!", "true", "", 90), nested("a ? ", "1", " : 2", 500),
	nested("a ?? ", "1", "", 500), nested("let x = 1; ", "x", "", 500), nested("upper(", "s", ")", 97), "a" + strings.Repeat(" + a", 900), "a" + strings.Repeat(".b", 900), "s" + strings.Repeat(" + s", 900),
	doubled("s", "? + ?", 60), doubled(`"xxxxxxxxxxxxxxxx"`, "? + ?", 60), doubled("[1]", "? + ?", 60), doubled("[1]", "[?, ?]", 60), doubled("{a: 1}", "{a: ?, b: ?}", 60), doubled("l", "[?, ?]", 60),
	"json(" + doubled("[1]", "[?, ?]", 60) + ")", "(" + doubled("l", "[?, ?]", 60) + ") == 1", doubled("o", "{a: ?, b: ?}", 60),
	nested("reduce(l, 0, (all, x) => ", "all", ")", 90), nested("map(range(0, 9), x => ", "1", ")", 90), nested("reduce(range(0, 99), [], (all, x) => ", "[all]", ")", 8),
	"reduce(range(0, 100000), [], (all, x) => [all])", "json(reduce(range(0, 3000), [], (all, x) => [all]))", "reduce(range(0, 3000), [], (all, x) => [all]) == []",
	"sort(reverse(range(0, 100000000)))", "unique(map(range(0, 10000), x => [x]))", "repeat(s, 9223372036854775807)", "pad_left(s, 9223372036854775807)", "repeat(repeat(s, 60000), 60000)",
	"replace(repeat(s, 9000), \"a\", repeat(s, 9000))", "join(map(range(0, 9000), x => repeat(s, 9)), repeat(s, 90))", "split(repeat(s, 90000), \"\")", "find_all(repeat(s, 30000), ``)",
	"replace_pattern(repeat(s, 3000), `(.*)`, repeat(\"$1\", 90))", "matches(repeat(s, 50000), `(a|b|ab)*c`)", "matches(s, `((((a{9}){9}){9}){9})`)", "matches(s, `(?:" + strings.Repeat("a", 500) + "){900}`)",
	"matches(s, `" + nested("(", "a", ")*", 150) + "`)", "trim(repeat(s, 9000), repeat(\"xy\", 9000))", "upper(repeat(\"ŉ\", 60000))", "parse_json(repeat(\"[\", 90000))", "parse_json(\"[\" + join(map(range(0, 9000), x => \"1\"), \",\") + \"]\")",
	"count(range(0, 9999), x => all(range(0, 9999), y => x + y >= 0))", "flatten(map(range(0, 9999), x => range(0, 9999)))", "group_by(range(0, 9999), x => string(x))", "merge(" + strings.Repeat("o, ", 600) + "o)",
	strings.Repeat("matches(s, `x{900}`) || ", 300) + "true", strings.Repeat("unknown_function_name(s) + ", 300) + "1", strings.Repeat("hour(t, \"Europe/Nowhere\") + ", 300) + "1",
	"[" + strings.Repeat("sort(range(0, 4000)), ", 200) + "1]", "\"" + strings.Repeat("x", 20000) + "\"", strings.Repeat("\"", 1001), strings.Repeat("`", 1001), strings.Repeat("(a,", 900), "format_time(t, \"" + strings.Repeat("%B", 200) + "\")",
}

// A hostile expression is compiled or refused within 50 ms and 8 MiB, and ends within its budget. The bound of time in the test is wider, for slow
// machines.
func TestHostileExpressions(t *testing.T) {
	for _, text := range hostile {
		for _, row := range []Type{Any, fuzzType} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			scope := NewScope(Names{Row: row})
			program, err := scope.Compile(Source{Text: text}, Any)
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; took > 2*time.Second || used > 8<<20 {
				t.Errorf("%s is compiled in %v and %d KiB", shortened(text), took, used>>10)
			}
			t.Logf("%8v %6d KiB %v %.60s", took.Round(time.Microsecond), (after.TotalAlloc-before.TotalAlloc)>>10, err == nil, text)
			if err != nil {
				continue
			}
			fr := scope.NewFrame(Budget{})
			if err := scope.ReadJSON(fr, fuzzRow); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&before)
			began = time.Now()
			v, err := program.Value(fr)
			if err == nil {
				_, err = fr.AppendJSON(nil, v)
			}
			took = time.Since(began)
			runtime.ReadMemStats(&after)
			used := after.TotalAlloc - before.TotalAlloc
			if took > 5*time.Second || used > 6*DefaultBytes && !withRace {
				t.Errorf("%s ends in %v and %d KiB", shortened(text), took, used>>10)
			}
			t.Logf("    ran %8v %6d KiB steps %d bytes %d %v", took.Round(time.Microsecond), used>>10, DefaultSteps-fr.steps, DefaultBytes-fr.bytes, reasonOf(err))
		}
		checkExpression(t, text)
	}
}
