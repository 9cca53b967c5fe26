package expr

import (
	"strings"
	"testing"
)

// property is a line of the table of what the language must be. fails is "refused" where it has to be refused when it is compiled, or the reason
// why a row fails.
type property struct {
	about, fields, row, text, want, fails string
}

// properties are what the language must be, for any language that could stand here. docs/decisions/0017 says how others do.
var properties = []property{
	{"ints divide to floats", "", "", "7 / 2", "3.5", ""},
	{"the average of two scores", "{a: int, b: int}", `{"a": 80, "b": 95}`, "(a + b) / 2", "87.5", ""},
	{"the same without declared fields", "", `{"a": 80, "b": 95}`, "(a + b) / 2", "87.5", ""},
	{"ints and floats mix", "{a: int, b: float}", `{"a": 1, "b": 0.5}`, "a + b", "1.5", ""},
	{"ints keep all their digits", "", `{"a": 9007199254740993}`, "a + 0", "9007199254740993", ""},
	{"and through a list", "", `{"a": [9007199254740993]}`, "a[0]", "9007199254740993", ""},
	{"an int that a float can't hold is no operand of /", "{a: int}", `{"a": 9007199254740993}`, "a / 1", "", "lossy"},
	{"nor of a sum with a float", "", `{"a": 9007199254740993}`, "a + 0.5", "", "lossy"},
	{"a sum does not wrap", "{a: int}", `{"a": 9223372036854775807}`, "a + 1", "", "overflow"},
	{"a sum of the row's own types does not wrap", "", `{"a": 9223372036854775807}`, "a + 1", "", "overflow"},
	{"a difference does not wrap", "{a: int}", `{"a": -9223372036854775808}`, "a - 1", "", "overflow"},
	{"a product does not wrap", "{a: int}", `{"a": 4611686018427387904}`, "a * 2", "", "overflow"},
	{"a sign does not wrap", "{a: int}", `{"a": -9223372036854775808}`, "-a", "", "overflow"},
	{"a float does not become infinite", "{a: float}", `{"a": 1e308}`, "a * 10", "", "overflow"},
	{"division by zero fails", "{a: int}", `{"a": 0}`, "1 / a", "", "zero"},
	{"also of floats", "{a: float}", `{"a": 0.0}`, "1.0 / a", "", "zero"},
	{"also of whole quotients", "{a: int}", `{"a": 0}`, "div(1, a)", "", "zero"},
	{"a conversion loses nothing", "{a: float}", `{"a": 1.5}`, "int(a)", "", "lossy"},
	{"an int compares with a float exactly", "{a: int, b: float}", `{"a": 9007199254740993, "b": 9007199254740992.0}`, "a == b", "false", ""},
	{"missing is not null", "{a: int?}", `{}`, "has(a)", "false", ""},
	{"null is not missing", "{a: int?}", `{"a": null}`, "has(a)", "true", ""},
	{"null is not zero", "{a: int?}", `{"a": null}`, "(a ?? 5) == 0", "false", ""},
	{"zero is there", "{a: int?}", `{"a": 0}`, "a ?? 5", "0", ""},
	{"the empty text is there", "{a: string?}", `{"a": ""}`, `a ?? "x"`, `""`, ""},
	{"false is there", "{a: bool?}", `{"a": false}`, "a ?? true", "false", ""},
	{"a value that may be absent has to be tested", "{a: int?}", `{"a": 1}`, "a + 1", "", "refused"},
	{"after a test it is there", "{a: int?}", `{"a": 1}`, "a != null && a > 0", "true", ""},
	{"null in arithmetic fails", "", `{"a": null}`, "a + 1", "", "null"},
	{"missing in arithmetic fails", "", `{}`, "a + 1", "", "missing"},
	{"null in a condition fails, and is not false", "", `{"a": null}`, "a > 1", "", "null"},
	{"a number is no text", "", `{"a": 200}`, `a == "200"`, "", "type"},
	{"an unknown field is refused", "{a: int}", `{}`, "b > 1", "", "refused"},
	{"types are checked before rows run", "{a: string}", `{}`, "a * 2", "", "refused"},
	{"the keys of objects are sorted", "", `{"a": {"z": 1, "b": 2, "": 3}}`, "keys(a)", `["","b","z"]`, ""},
	{"a field named as a keyword", "", `{"let": 1}`, `row["let"]`, "1", ""},
	{"a field named as a function", "", `{"count": 1}`, "row.count + count", "2", ""},
	{"no clock", "", "", "now()", "", "refused"},
	{"no randomness", "", "", "random()", "", "refused"},
	{"time zones", "", "", `hour(time("2026-07-01T00:00:00Z"), "Europe/Zurich")`, "2", ""},
	{"no fused multiply-add", "{a: float, b: float, c: float}", `{"a": 1.0000000000000002, "b": 1.0000000000000002, "c": -1.0000000000000004}`, "a * b + c", "0", ""},
	{"text that doubles again and again ends", "", `{"a": "xxxxxxxx"}`, "reduce(range(0, 60), a, (all, x) => all + all)", "", "budget"},
	{"lists that double again and again end", "", `{"a": [1]}`, "reduce(range(0, 60), a, (all, x) => all + all)", "", "budget"},
	{"nested loops end", "", `{"n": 10000}`, "count(range(0, n), x => all(range(0, n), y => x + y >= 0))", "", "budget"},
	{"a repeated text is counted before it is made", "", `{"n": 9000000000000000000}`, `repeat("ab", n)`, "", "budget"},
	{"a large regular expression is refused", "", `{"a": "x"}`, "matches(a, `((a{30}){30}){30}`)", "", "refused"},
	{"deep nesting is refused", "", "", strings.Repeat("(", 10000) + "1" + strings.Repeat(")", 10000), "", "refused"},
	{"a missing result leaves its field out", "", `{}`, "{a: 1, b: x}", `{"a":1}`, ""},
	{"a null result is written", "", `{"x": null}`, "{a: 1, b: x}", `{"a":1,"b":null}`, ""},
}

func TestProperties(t *testing.T) {
	for _, p := range properties {
		got, err := run(t, p.text, p.fields, p.row)
		if got != p.want || reasonOf(err) != p.fails {
			t.Errorf("%s: %s gives %q, %v; want %q, %s", p.about, shortened(p.text), got, err, p.want, p.fails)
		}
	}
}

// shortened returns a text of at most 100 bytes, for messages of tests.
func shortened(text string) string {
	if len(text) > 100 {
		return text[:100] + "…"
	}
	return text
}
