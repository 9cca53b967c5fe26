package expr

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// mistakenRow is the type of the rows for which testdata/mistakes.txt has expressions with mistakes.
const mistakenRow = `{stu_id: int, score_1: int, score_2: int, avg: float, name: string, note: string?, bonus: int?, active: bool, at: time, took: duration,
	tags: [string], items: [{sku: string, n: int}], address: {city: string, zip: string?}, parent: {city: string}?, extra: {*: int}, raw: any, count: int}`

// mistaken are expressions with mistakes that people make.
var mistaken = []string{
	// Names.
	"stu_idd > 1", "scor_1 + score_3", "Score_1 > 60", "unknown", "address.town", "address.citty", "items[0].skuu", "params.limt", "tags.name", "name.first", "items.n",
	"row.stu_idd", `row["stu idd"]`, "lower", "nil", "True", "this.name", "$name", "@name", "{{name}}", "item.n > 0",
	// Absent values.
	"bonus + 1", "bonus > 5", "note == \"\"", "upper(note)", "-bonus", "!note", "parent.city", "address.zip + name", "bonus in [1, 2]", "bonus ?? \"none\"", "null + 1",
	"note == missing", "name != missing", "parent?.city + name", "extra.a + 1", "first(tags) + \"x\"", "active ? bonus + 1 : 0", "find(name, `a`) + \"x\"",
	// Types.
	"name + 1", "1 + name", "score_1 + name", "name * 2", "name > 60", "score_1 == \"60\"", "name == 60", "active == 1", "active && score_1", "score_1 || active", "!name", "-name",
	"at + 3600", "at + at", "took * 1.5", "tags + \"x\"", "address + address", "active + 1", "tags > 1", "active < true", "name[0]", "score_1[0]", "tags[\"a\"]", "tags[-1]", "address[0]",
	"extra[1]", "score_1 in 5", "name in \"abc\"", "stu_id in tags", "stu_id in extra", "score_1 ? 1 : 2", "{a: bonus + 1, b: stu_idd}", "[name + 1, stu_idd]",
	// Functions.
	"lenght(name)", "length(name)", "toUpper(name)", "substr(name, 1)", "now()", "rand()", "if(active, 1, 2)", "coalesce(note, \"\")", "isNull(note)", "concat(name, name)", "date(name)",
	"upper()", "upper(name, name)", "upper(score_1)", "len(score_1)", "round(name)", "int(active)", "sum(1, 2)", "sum(score_1)", "join(name, \",\")", "split(name)", "contains(name, 5)",
	"contains(tags, 5)", "name(1)", "count(tags)", "count > 1 && count()", "name.upper()", "items.map(i => i.n)", "foo(1)", "div(avg, 2)", "matches(name, note)", "matches(name, name)",
	"matches(name, `(`)", "matches(name, `(?=a)b`)", "matches(name, `((a{30}){30}){30}`)", "format_time(at, \"%Q\")", "format_time(at, \"YYYY-MM-DD\")", "format_time(at, \"%Y\", \"Europe/Zuerich\")",
	"hour(at, \"CEST\")", "start_of(at, \"fortnight\")", "parse_time(name)", "time(score_1)", "duration(5)", "pick(address, \"town\")", "year(name)",
	// Functions of each element.
	"map(tags, upper)", "map(tags, upper(name))", "map(items, i => i.m)", "filter(items, i => i.n)", "filter(items, (i, j) => i.n > 0)", "x => x + 1", "upper(x => x)", "any(items, n > 0)",
	"reduce(items, 0, i => i.n)", "reduce(items, 0, (sum, i) => sum + i.sku)", "sort_by(items, n)", "let x = y; x", "let x = 5; x + name", "map(tags, row => row)", "all(tags, null => true)",
	// Syntax.
	"", "   ", "score_1 >", "> 60", "score_1 = 60", "score_1 === 60", "score_1 <> 60", "score_1 % 2", "score_1 // 2", "score_1 ** 2", "score_1 ^ 2", "name ~ \"a\"", "score_1 & 1", "tags | upper",
	"0 <= stu_id <= 999", "a == b == c", "(score_1 + 1", "score_1 + 1)", "[1, 2", "{a: 1", "{a 1}", "{1: 2}", "{a: 1, a: 2}", "upper(name", "\"abc", "'abc", "`abc", "\"a\\d\"", "12abc", "5m", "007",
	"99999999999999999999", "0xZZ", "1e999", "score_1 60", "score_1 is 60", "if active then 1 else 2", "active ? 1", "active ? 1 : ", "let = 5; 1", "let x 5; x", "let x = 5 x", "let x = 5", "1; 2",
	"tags[0:2]", "name.", "name.5", "name?.", ".name", "+5", "not", "and active", "active and", "not in tags", "score_1 in", "let.x", "true = active", "“abc”", "a # comment", "a -> b", "x := 5", "5(1)", "(1)(2)",
	// Constants.
	"1 / 0", "div(1, 0)", "9223372036854775807 + 1", "9007199254740993 / 2", "int(\"x\")", "int(1.5)", "time(\"yesterday\")", "parse_json(\"{\")", "[1, 2][2]", "clamp(1, 3, 2)", "range(0, 3)[5]", "duration(\"1d\")", "round(1.5, 20)",
}

// Each mistake is explained with its place, and mostly with the edit. The messages stand in testdata/mistakes.txt, for review.
func TestMistakes(t *testing.T) {
	row, err := ParseType(strings.Join(strings.Fields(mistakenRow), " "))
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	withoutEdit := 0
	for _, text := range mistaken {
		scope := NewScope(Names{Row: row, Params: ObjectValue(map[string]Value{"limit": IntValue(60)})})
		_, err := scope.Compile(Source{Text: text, Document: "f.yml", Path: "option.verify", Line: 6, Column: 11}, Any)
		var mistakes Mistakes
		if !errors.As(err, &mistakes) {
			t.Errorf("%s: nothing is wrong with it: %v", text, err)
			continue
		}
		for _, m := range mistakes {
			if m.Edit == "" && !strings.Contains(m.Message, ": ") {
				withoutEdit++
			}
			if m.From < 0 || m.From > m.To || m.To > len(text) {
				t.Errorf("%s: a mistake is at %d to %d", text, m.From, m.To)
			}
		}
		fmt.Fprintf(&table, "%s\n", err)
	}
	if len(mistaken) < 80 || withoutEdit*10 > len(mistaken) {
		t.Errorf("%d mistakes, %d of them without an edit", len(mistaken), withoutEdit)
	}
	golden(t, "mistakes.txt", table.String())
}
