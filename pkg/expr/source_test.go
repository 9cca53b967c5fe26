package expr

import (
	"errors"
	"strings"
	"testing"
)

// A mistake points into the document, also in the lines of a block, and counts characters.
func TestPlacesOfMistakes(t *testing.T) {
	for _, c := range []struct {
		name   string
		source Source
		want   string
	}{
		{
			"one line", Source{Text: "a > 1 && b > 1", Document: "conf/V.yml", Path: "option.verify", Function: "V", Line: 5, Column: 11},
			"conf/V.yml:5:20: option.verify: b is not a field of the row: its fields are a; add b to source.fields if rows have it\n    a > 1 && b > 1\n             ^",
		},
		{
			"a block", Source{Text: "a > 1 &&\nb > 1\n", Document: "V.yml", Line: 6, Column: 5, Margin: 5},
			"V.yml:7:5: b is not a field of the row: its fields are a; add b to source.fields if rows have it\n    b > 1\n    ^",
		},
		{
			"characters", Source{Text: `"学生" == b`, Line: 1, Column: 3},
			"line 1, column 11: b is not a field of the row: its fields are a; add b to source.fields if rows have it\n    \"学生\" == b\n            ^",
		},
		{"no place", Source{Text: "b"}, "b is not a field of the row: its fields are a; add b to source.fields if rows have it\n    b\n    ^"},
		{
			"a tab, and a part of two lines", Source{Text: "\tupper(\n1)", Document: "V.yml"},
			"V.yml: 1 is an int, and the text of upper is a string: write \"1\"\n    1)\n    ^",
		},
	} {
		_, err := NewScope(Names{Row: Object(Field{"a", Int})}).Compile(c.source, Any)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got\n%v\nwant\n%s", c.name, err, c.want)
		}
	}
	long := Source{Text: strings.Repeat("a + ", 100) + "b" + strings.Repeat(" + a", 100)}
	_, err := NewScope(Names{Row: Object(Field{"a", Int})}).Compile(long, Any)
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 || len(lines[1]) > 110 || lines[1][strings.IndexByte(lines[2], '^')] != 'b' {
		t.Errorf("a long line is shown as\n%v", err)
	}
}

// All mistakes of an expression, and of all expressions of a record, come together, in the order of the text.
func TestAllMistakesTogether(t *testing.T) {
	scope := NewScope(Names{Row: Object(Field{"a", Int})})
	_, err := scope.CompileRecord([]RecordSource{
		{"x", Source{Text: "b + upper(a) + c", Path: "option.calculate.x"}}, {"ok", Source{Text: "a"}}, {"y", Source{Text: "d", Path: "option.calculate.y"}},
	})
	mistakes, _ := errors.AsType[Mistakes](err)
	var found []string
	for _, m := range mistakes {
		found = append(found, m.Source.Path+" "+m.Source.Text[m.From:m.To])
	}
	if got, want := strings.Join(found, ", "), "option.calculate.x b, option.calculate.x a, option.calculate.x c, option.calculate.y d"; got != want {
		t.Errorf("found %s, want %s", got, want)
	}
	// The field a is still read: by the record's field ok, which has no mistake.
	if inputs := scope.Inputs(); len(inputs) != 1 || inputs[0].Name != "a" {
		t.Errorf("the scope reads %v", inputs)
	}
	_, err = scope.Compile(Source{Text: strings.Repeat("b + ", 500) + "b"}, Any)
	if mistakes, _ := errors.AsType[Mistakes](err); len(mistakes) != maxMistakes {
		t.Errorf("%d mistakes are told of 501", len(mistakes))
	}
}

// A failure names function, key, place, expression and types, and no value.
func TestTextsOfFailures(t *testing.T) {
	scope := NewScope(Names{Row: Object(Field{"a", Int}, Field{"s", String}, Field{"o", Optional(Int)})})
	source := Source{Document: "conf/AvgStuScore12.yml", Path: "option.calculate.avg", Function: "AvgStuScore12", Line: 9, Column: 14}
	place := "AvgStuScore12: conf/AvgStuScore12.yml:9:"
	for _, c := range []struct{ text, row, want string }{
		{"a + 9223372036854775807", `{"a": 4711}`, place + "14: option.calculate.avg: a + 9223372036854775807: the sum of two ints is outside of 64 bits: write float(a) to calculate with floats"},
		{"1 / (a - 4711)", `{"a": 4711}`, place + "14: option.calculate.avg: 1 / (a - 4711): divides by zero"},
		{"a * 2", `{}`, place + "14: option.calculate.avg: a: is missing, and was declared as int: declare it as int? if rows may lack it"},
		{"2 * a", `{"a": null}`, place + "18: option.calculate.avg: a: is null, and was declared as int: declare it as int? if it may be null"},
		{"int(s)", `{"s": "secret"}`, place + "14: option.calculate.avg: int(s): the text is not an int of 64 bits"},
		{"[1][a]", `{"a": 4711}`, place + "14: option.calculate.avg: [1][a]: the list has no element of this number: write ?.[…] for one that may not be there"},
		{"a + 0.5", `{"a": 9007199254740993}`, place + "14: option.calculate.avg: a: is an int that a float can't hold exactly: write div(a, b) or round(a) to stay with ints"},
	} {
		source.Text = c.text
		program, err := scope.Compile(source, Any)
		if err != nil {
			t.Fatal(err)
		}
		_, err = evaluate(scope, program, c.row)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got\n%v\nwant\n%s", c.text, err, c.want)
		}
	}
	for row, want := range map[string]string{
		`{"a": "4711"}`: "a is a string and was declared as int", `{"a": 1.5}`: "a is a float and was declared as int", `[1]`: "the row is no object of JSON",
		`{"a": 1`: "the text is not JSON", `{"a": 18446744073709551616}`: "a is a number and was declared as int", `{"s": 5}`: "s is an int and was declared as string",
	} {
		if err := scope.ReadJSON(scope.NewFrame(Budget{}), row); err == nil || err.Error() != want {
			t.Errorf("%s is read with %v, want %s", row, err, want)
		}
	}
}

// A source can be checked before the types of rows are known, and a mistake told without its place.
func TestCheck(t *testing.T) {
	source := Source{Text: "unknown > 1 &&", Document: "V.yml", Line: 3, Column: 7}
	mistakes, ok := errors.AsType[Mistakes](source.Check())
	if !ok || len(mistakes) != 1 {
		t.Fatalf("it has the mistakes %v", mistakes)
	}
	line, column := mistakes[0].Position()
	want := "a value is expected here; found the end: write a name, a number, a text within quotes, or a call\n    unknown > 1 &&\n                  ^"
	if got := mistakes[0].Explain(); got != want || line != 3 || column != 21 {
		t.Errorf("at %d:%d: got\n%s\nwant\n%s", line, column, got, want)
	}
	source.Text = "unknown > 1"
	if err := source.Check(); err != nil {
		t.Errorf("a name that nobody knows yet is wrong: %v", err)
	}
}
