package flowexec_test

import (
	"context"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// madeRow is a row that a Go function makes, with all kinds of fields that expressions may read.
type madeRow struct {
	ID      int64    `json:"id"`
	Score   float64  `json:"score"`
	Count   uint8    `json:"count"`
	Pointer *int     `json:"pointer"`
	Omitted int      `json:"omitted,omitempty"`
	Any     any      `json:"any"`
	Items   []string `json:"items"`
	Big     int64    `json:"big"`
	Name    string   `json:"name"`
}

// makes registers the Go function G, which makes a madeRow of each row, and M, which makes a map.
func makes(made madeRow, mapped map[string]any) func(*kis.Registry) {
	return func(r *kis.Registry) {
		r.Func("G", kis.Calculate(func(_ context.Context, row struct {
			ID int64 `json:"id"`
		}) (madeRow, error) {
			made.ID = row.ID
			return made, nil
		}))
		r.Func("M", kis.Calculate(func(context.Context, struct{}) (map[string]any, error) { return mapped, nil }))
		r.Func("R", kis.Calculate(func(_ context.Context, row struct {
			ID   int64  `json:"id"`
			Name string `json:"name"`
		}) (madeRow, error) {
			return madeRow{ID: row.ID, Name: row.Name}, nil
		}))
	}
}

// Expressions read the rows of Go functions as they would read their JSON: what is null or missing there is never 0.
func TestExpressionsOverGoRows(t *testing.T) {
	five := 5
	block := func(give string) string { return "    " + strings.ReplaceAll(give, "; ", "\n    ") + "\n" }
	const g, m = "fname: G\nfmode: Calculate\n", "fname: M\nfmode: Calculate\n"
	declared := func(fields, give string) string {
		return "fname: C\nfmode: Calculate\nsource: {fields: {" + fields + "}}\noption:\n  calculate:\n" + block(give)
	}
	undeclared := func(give string) string { return "fname: C\nfmode: Calculate\noption:\n  calculate:\n" + block(give) }
	full := madeRow{Score: 87.5, Count: 3, Pointer: &five, Omitted: 4, Any: 6, Items: []string{"a"}, Big: 1<<53 + 1, Name: "ü"}
	for name, c := range map[string]struct {
		made   madeRow
		mapped map[string]any
		before string
		code   string
		want   string
	}{
		"declared":           {full, nil, g, declared(`id: int, score: float, count: int, pointer: "int?", omitted: "int?", any: int, items: [string], big: int, name: string`, "a: score + count; b: (pointer ?? 0) + (omitted ?? 0) + any; c: len(items); d: big; e: name"), `{"a":90.5,"b":15,"c":1,"d":9007199254740993,"e":"ü"}`},
		"not declared":       {full, nil, g, undeclared("a: score + count; b: (pointer ?? 0) + (omitted ?? 0) + any; c: len(items); d: big; e: name"), `{"a":90.5,"b":15,"c":1,"d":9007199254740993,"e":"ü"}`},
		"null and missing":   {madeRow{}, nil, g, undeclared(`a: '[has(pointer), has(omitted), has(any), has(items)]'; b: pointer ?? 1; c: omitted ?? 2; d: any ?? 3; e: items ?? []`), `{"a":[true,false,true,true],"b":1,"c":2,"d":3,"e":[]}`},
		"optional":           {madeRow{}, nil, g, declared(`pointer: "int?", omitted: "int?", any: "int?", items: "[string]?"`, "b: pointer ?? 1; c: omitted ?? 2; d: any ?? 3; e: items ?? []"), `{"b":1,"c":2,"d":3,"e":[]}`},
		"null any":           {madeRow{}, nil, g, declared("any: int", "a: any"), "dead MISSING_FIELD C: the row lacks any, which source.fields of C declares as int: write int? if it may be null or missing"},
		"any of another":     {madeRow{Any: "secret"}, nil, g, declared("any: int", "a: any"), "dead CONVERSION_FAILED C: the row does not fit source.fields of C: any is a string and was declared as int"},
		"null list":          {madeRow{}, nil, g, declared("items: [string]", "a: items"), "dead MISSING_FIELD C: the row lacks items, which source.fields of C declares as [string]: write [string]? if it may be null or missing"},
		"no exact float":     {madeRow{Big: 1<<53 + 1}, nil, g, declared("big: float", "a: big"), "dead CONVERSION_FAILED C: the row does not fit source.fields of C: big is an int and was declared as float, which can't hold it exactly"},
		"float as int":       {madeRow{Score: 87}, nil, g, declared("score: int", "a: score"), `{"a":87}`},
		"fraction as int":    {madeRow{Score: 87.5}, nil, g, declared("score: int", "a: score"), "dead CONVERSION_FAILED C: the row does not fit source.fields of C: score is a float and was declared as int"},
		"map":                {madeRow{}, map[string]any{"n": 7, "s": "x"}, m, declared("n: int, s: string", "a: n; b: s"), `{"a":7,"b":"x"}`},
		"null in a map":      {madeRow{}, map[string]any{"n": nil}, m, declared("n: int", "a: n"), "dead MISSING_FIELD C: the row lacks n, which source.fields of C declares as int: write int? if it may be null or missing"},
		"missing in a map":   {madeRow{}, map[string]any{}, m, undeclared("a: n ?? 1; b: has(n)"), `{"a":1,"b":false}`},
		"pointer":            {full, nil, g, declared("pointer: int", "a: pointer"), "source.fields.pointer: in the flow F C reads the field pointer as int, but it is *int in flowexec_test.madeRow, that G passes on: which may be null or missing: write int? in source.fields, and a default such as ?? 0 where it is used"},
		"omitempty":          {full, nil, g, declared("omitted: int", "a: omitted"), "source.fields.omitted: in the flow F C reads the field omitted as int, but it is int in flowexec_test.madeRow, that G passes on: which may be null or missing"},
		"another type":       {full, nil, g, declared("name: int", "a: name"), "C reads the field name as int, but it is string in flowexec_test.madeRow, that G passes on: make the two types agree"},
		"lacking":            {full, nil, g, declared("scor: float", "a: scor"), `C reads the field scor, which flowexec_test.madeRow lacks, that G passes on (it has id, score, count, pointer, omitted, any, items, big, name): add the field there; did you mean "score"?`},
		"lacking undeclared": {full, nil, g, undeclared("a: scor + 1"), "option.calculate.a: scor is not a field of the row: write score if you mean that, or add scor to source.fields\n    scor + 1\n    ^^^^"},
		"element":            {full, nil, g, declared("items: [int]", "a: items"), "C reads the field items as [int], but it is []string in flowexec_test.madeRow"},
		"expression to Go": {full, nil, undeclared("id: id; nam: 1"), "fname: R\nfmode: Calculate\n",
			`R reads (as struct { ID int64 "json:\"id\""; Name string "json:\"name\"" }) the field name, which {id: any, nam: int} lacks, that C passes on (it has id, nam): add the field there; did you mean "nam"?`},
		"another type to Go": {full, nil, undeclared("id: id; name: '[1]'"), "fname: R\nfmode: Calculate\n", "the field name as string, but it is [int] in {id: any, name: [int]}, that C passes on"},
		"any to Go":          {full, nil, undeclared("id: id; name: id"), "fname: R\nfmode: Calculate\n", "dead CONVERSION_FAILED R: the row does not fit R: name must be a string, it is a number"},
		"float to int":       {full, nil, undeclared("x: 7 / 2"), declared("x: int", "a: x"), "C reads the field x as int, but it is float in {x: float}, that B passes on: make the two types agree: write int(…) or round(…) there, or float here"},
		"retries":            {full, nil, undeclared("x: id - 1"), "fname: C\nfmode: Calculate\noption:\n  retry_times: 5\n  retry_duration: 1h\n  calculate: {a: 1 / x}\n", "dead FUNCTION_ERROR C: C: all.yml:24:18: option.calculate.a: 1 / x: divides by zero"},
	} {
		t.Run(name, func(t *testing.T) {
			before := c.before
			if strings.HasPrefix(before, "fname: C") && strings.HasPrefix(c.code, "fname: C") {
				before = strings.Replace(before, "fname: C", "fname: B", 1)
			}
			got := strings.Join(runExpressions(t, makes(c.made, c.mapped), [][2]string{{`{"id":1}`}}, []string{before, c.code}), "\n")
			if !strings.Contains(got, c.want) || strings.Contains(got, "F0 ") || strings.Contains(got, "secret") {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}
