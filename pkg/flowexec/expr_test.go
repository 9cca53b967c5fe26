package flowexec_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// submitExpressions runs rows through a flow of functions, whose documents are given without kistype, as many times as times says: the first time in a
// Local of its own. register may be nil. The error is one of compiling the flow.
func submitExpressions(t *testing.T, register func(*kis.Registry), rows, functions []string, times int) ([]*batch.Result, error) {
	t.Helper()
	text := "kistype: flow\nflow_name: F\nstatus: 1\nshard_key: id\nflows:\n"
	for _, f := range functions {
		name, _, _ := strings.Cut(strings.TrimPrefix(f, "fname: "), "\n")
		text += "  - fname: " + name + "\n    params: {limit: 60, word: \"60\"}\n"
	}
	for _, f := range functions {
		text += "---\nkistype: func\n" + f
	}
	text += "---\nkistype: conn\ncname: M\ntype: memory\n"
	if register == nil {
		register = func(*kis.Registry) {}
	}
	local, err := flowexec.NewLocalFS(fstest.MapFS{"all.yml": {Data: []byte(text)}}, register)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := local.Close(); err != nil {
			t.Error(err)
		}
	}()
	var raw []json.RawMessage
	for _, r := range rows {
		raw = append(raw, json.RawMessage(r))
	}
	var results []*batch.Result
	for range times {
		result, err := local.Submit(t.Context(), "F", batch.Rows(raw...))
		if result == nil {
			t.Fatal(err)
		}
		results = append(results, result)
	}
	return results, nil
}

// runExpressions runs rows through a flow of functions as submitExpressions does. It returns how each row ended: its output rows, or its outcome, code
// and reason. The rows run twice, and have to end in the same way, byte for byte.
func runExpressions(t *testing.T, register func(*kis.Registry), rows [][2]string, functions []string) []string {
	t.Helper()
	var texts []string
	for _, r := range rows {
		texts = append(texts, r[0])
	}
	results, err := submitExpressions(t, register, texts, functions, 2)
	if err != nil {
		return []string{err.Error()}
	}
	var ended [2][]string
	for k, result := range results {
		ended[k] = make([]string, len(rows))
		for i, o := range result.Output.Origins {
			ended[k][o] += string(result.Output.Rows.Row(i))
		}
		for _, o := range result.NotDone {
			ended[k][o.Row] = fmt.Sprintf("%v %s %s: %s", o.Outcome, o.Code, o.Function, o.Reason)
		}
	}
	if !slices.Equal(ended[0], ended[1]) {
		t.Errorf("the same rows end as\n%s\nand then as\n%s", strings.Join(ended[0], "\n"), strings.Join(ended[1], "\n"))
	}
	return ended[0]
}

type goRow struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
	Note *int   `json:"note"`
}

func TestExpressionFunctions(t *testing.T) {
	none := func(*kis.Registry) {}
	for name, c := range map[string]struct {
		register  func(*kis.Registry)
		functions []string
		rows      [][2]string // each with how it ends
	}{
		"verify": {
			none, []string{"fname: V\nfmode: Verify\nsource: {fields: {id: int, score: int}}\noption:\n  verify: score > params.limit && params.word == \"60\"\n  reason: >-\n    \"row \" + string(id) + \" has \" +\n    string(score)\n"},
			[][2]string{
				{`{"id":1,"score":61,"x":[1.50]}`, `{"id":1,"score":61,"x":[1.50]}`},
				{`{"id":2,"score":60}`, "filtered DROPPED V: row 2 has 60"},
				{`{"id":3}`, "dead MISSING_FIELD V: the row lacks score, which source.fields of V declares as int: write int? if it may be null or missing"},
				{`{"id":4,"score":null}`, "dead MISSING_FIELD V: the row lacks score, which source.fields of V declares as int: write int? if it may be null or missing"},
			},
		},
		"verify without types": {
			none, []string{"fname: V\nfmode: Verify\noption:\n  verify: score > 60\n"},
			[][2]string{
				{`{"id":1,"score":61}`, `{"id":1,"score":61}`},
				{`{"id":2,"score":null}`, "dead FUNCTION_ERROR V: V: all.yml:13:11: option.verify: score: is null; a number, a string, a time or a duration is needed: write ?? and a default behind it, or test it with != null"},
				{`{"id":3}`, "dead FUNCTION_ERROR V: V: all.yml:13:11: option.verify: score: is missing; a number, a string, a time or a duration is needed: write ?? and a default behind it, or test it with has(…)"},
				{`{"id":4,"score":"secret"}`, "dead FUNCTION_ERROR V: V: all.yml:13:11: option.verify: score > 60: compares a string with an int"},
			},
		},
		"calculate": {
			none, []string{"fname: C\nfmode: Calculate\nsource: {fields: {id: int, a: int, o: \"int?\"}}\noption:\n  calculate:\n    id: id\n    sum: a + 1\n    half: a / 2\n    o: o\n    l: \"[a, o ?? 0]\"\n"},
			[][2]string{
				{`{"id":1,"a":9007199254740993,"o":2}`, "dead FUNCTION_ERROR C: C: all.yml:17:11: option.calculate.half: a: is an int that a float can't hold exactly: write div(a, b) or round(a) to stay with ints"},
				{`{"id":2,"a":3,"o":null}`, `{"id":2,"sum":4,"half":1.5,"o":null,"l":[3,0]}`},
				{`{"id":3,"a":3}`, `{"id":3,"sum":4,"half":1.5,"l":[3,0]}`},
				{`{"id":4,"a":9223372036854775807}`, "dead FUNCTION_ERROR C: C: all.yml:16:10: option.calculate.sum: a + 1: the sum of two ints is outside of 64 bits: write float(a) to calculate with floats"},
			},
		},
		"calculate and keep": {
			none, []string{"fname: C\nfmode: Calculate\noption:\n  calculate: {total: n * price}\n  keep: all\n", "fname: D\nfmode: Calculate\noption:\n  calculate: {double: total * 2}\n  keep: [id, x]\n"},
			[][2]string{
				{`{"id": 1, "n": 2, "price": 1.5, "x": {"b": 1.50, "a": [ ]}, "total": 0}`, `{"double":6,"id":1,"x":{"b": 1.50, "a": [ ]}}`},
			},
		},
		"expand": {
			none, []string{"fname: E\nfmode: Expand\nsource: {fields: {id: int, items: [{sku: string, n: int}]}}\noption:\n  expand: {each: items, where: item.n > 0, set: {order: id, sku: item.sku, n: item.n, row: row_id != \"\"}}\n"},
			[][2]string{
				{`{"id":1,"items":[{"sku":"a","n":2},{"sku":"b","n":0},{"sku":"c","n":1}]}`, `{"order":1,"sku":"a","n":2,"row":true}{"order":1,"sku":"c","n":1,"row":true}`},
				{`{"id":2,"items":[]}`, ``},
				{`{"id":3,"items":[{"sku":"a","n":1},{"sku":"b"}]}`, "dead FUNCTION_ERROR E: E: all.yml:14:32: option.expand.where: item.n: is missing; a number, a string, a time or a duration is needed: write ?? and a default behind it, or test it with has(…)"},
			},
		},
		"types of rows that came": {
			none, []string{"fname: V\nfmode: Verify\nsource: {fields: {id: int, f: float, s: string, t: \"time?\"}}\noption:\n  verify: f > 0 && s != \"\" && (t ?? time(\"2000-01-01T00:00:00Z\")) > time(\"1999-01-01T00:00:00Z\")\n"},
			[][2]string{
				{`{"id":1,"F":61,"s":"x"}`, `{"id":1,"F":61,"s":"x"}`},
				{`{"id":2,"f":9007199254740993,"s":"x"}`, "dead ROW_UNDECODABLE V: the row does not fit source.fields of V: f is an int and was declared as float, which can't hold it exactly"},
				{`{"id":3,"f":1,"s":7}`, "dead ROW_UNDECODABLE V: the row does not fit source.fields of V: s is an int and was declared as string"},
				{`{"id":4,"f":1,"s":"x","t":"secret"}`, "dead ROW_UNDECODABLE V: the row does not fit source.fields of V: t is a string and was declared as time?, and it is not a time of RFC 3339"},
				{`{"id":5,"f":-0.0,"s":"x"}`, "filtered DROPPED V: the row does not pass"},
				{`{"id":6,"f":null,"s":7}`, "dead MISSING_FIELD V: the row lacks f, which source.fields of V declares as float: write float? if it may be null or missing"},
			},
		},
		"the same for rows that stay JSON": {
			none, []string{"fname: V\nfmode: Verify\nsource: {fields: {id: int, f: float, s: string}}\noption:\n  verify: f > 0 && s != \"\" && len(row) > 0\n"},
			[][2]string{
				{`{"id":1,"F":61,"s":"x"}`, `{"id":1,"F":61,"s":"x"}`},
				{`{"id":2,"f":9007199254740993,"s":"x"}`, "dead ROW_UNDECODABLE V: the row does not fit source.fields of V: f is an int and was declared as float, which can't hold it exactly"},
				{`{"id":3,"f":1,"s":7}`, "dead ROW_UNDECODABLE V: the row does not fit source.fields of V: s is an int and was declared as string"},
				{`{"id":6,"f":null,"s":"x"}`, "dead MISSING_FIELD V: the row lacks f, which source.fields of V declares as float: write float? if it may be null or missing"},
			},
		},
		"elements as rows": {
			none, []string{"fname: E\nfmode: Expand\noption:\n  expand: {each: items, as: x}\n", "fname: V\nfmode: Verify\noption:\n  verify: len(row) == 1\n"},
			[][2]string{{`{"id":1,"items":[{"a":1},{"b":2}]}`, `{"a":1}{"b":2}`}, {`{"id":2,"items":[{"a":1,"b":2}]}`, "filtered DROPPED V: the row does not pass"}},
		},
		"Go and expressions": {
			func(r *kis.Registry) {
				r.Func("G", kis.Calculate(func(_ context.Context, row goRow) (goRow, error) {
					return goRow{row.ID + 1, row.Name + "!", row.Note}, nil
				}))
			},
			[]string{
				"fname: C\nfmode: Calculate\nsource: {fields: {id: int, name: string}}\noption:\n  calculate: {id: id * 2, name: upper(name), note: \"missing\"}\n",
				"fname: G\nfmode: Calculate\n",
				"fname: D\nfmode: Calculate\nsource: {fields: {id: int, name: string, note: \"int?\"}}\noption:\n  calculate: {id: id, text: 'name + \"-\" + string(note ?? 0)'}\n",
			},
			[][2]string{{`{"id":3,"name":"ab"}`, `{"id":7,"text":"AB!-0"}`}},
		},
		"keys and values of a Save": {
			none, []string{
				"fname: S\nfmode: Save\noption:\n  cname: M\n  save: {key: '= \"k-\" + string(id)', set: {total: = n * 2, plain: n, at: '= time(at)'}}\n",
				"fname: L\nfmode: Load\noption:\n  cname: M\n  load: {key: '= \"k-\" + string(id)', set: {total: total, plain: plain, stored: at}}\n",
			},
			[][2]string{
				{`{"id":1,"n":4,"at":"2026-11-30T14:00:00+02:00"}`, `{"at":"2026-11-30T14:00:00+02:00","id":1,"n":4,"plain":4,"stored":"2026-11-30T12:00:00Z","total":8}`},
				{`{"id":2,"n":"x","at":"2026-11-30T14:00:00Z"}`, "dead FUNCTION_ERROR S: S: all.yml:16:53: option.save.set.total: n * 2: can't have a string on the left of * and an int on the right"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ended := runExpressions(t, c.register, c.rows, c.functions)
			if len(ended) != len(c.rows) {
				t.Fatal(ended)
			}
			for i, row := range c.rows {
				if ended[i] != row[1] {
					t.Errorf("%s ends as\n%s\nwant\n%s", row[0], ended[i], row[1])
				}
			}
		})
	}
}

// Mistakes in expressions are told when a flow is compiled, all of them, with their places; types are checked across functions.
func TestMistakesInExpressionFunctions(t *testing.T) {
	for name, c := range map[string]struct {
		functions []string
		want      []string
	}{
		"types": {
			[]string{"fname: V\nfmode: Verify\nsource: {fields: {id: int, name: string}}\noption:\n  verify: >-\n    idd > 1 &&\n    name > 2\n  reason: id\n"},
			[]string{"all.yml:15:5: option.verify: idd is not a field of the row: write id", "all.yml:16:5: option.verify: > can't compare a string with an int: write int(name)\n    name > 2\n    ^^^^^^^^", "all.yml:17:11: option.reason: id is an int, and a string is expected: write string(id)"},
		},
		"syntax": {
			[]string{"fname: C\nfmode: Calculate\noption:\n  calculate:\n    a: b = 1\n    c: (d\n"},
			[]string{"all.yml:14:10: option.calculate.a: = does not compare: write ==\n    b = 1\n      ^", "all.yml:15:8: option.calculate.c: this ( has no ): write ) where it ends"},
		},
		"across functions": {
			[]string{
				"fname: C\nfmode: Calculate\nsource: {fields: {id: int}}\noption:\n  calculate: {id: id, name: string(id)}\n",
				"fname: D\nfmode: Calculate\nsource: {fields: {id: int, nam: string, name: int}}\noption:\n  calculate: {id: id, text: nam, n: name}\n",
			},
			[]string{"D reads", "nam", "did you mean \"name\"?"},
		},
		"behind a Verify": {
			[]string{
				"fname: V\nfmode: Verify\nsource: {fields: {id: int, name: string?}}\noption:\n  verify: id > 0 && (name ?? \"\") != \"\"\n",
				"fname: C\nfmode: Calculate\noption:\n  calculate: {id: id * \"x\", other: other + 1, name: name}\n  keep: all\n",
			},
			[]string{`option.calculate.id: * can`},
		},
		"behind a Save": {
			[]string{
				"fname: S\nfmode: Save\nsource: {fields: {id: int}}\noption:\n  cname: C\n  save: {key: \"= string(id)\", set: {v: other}}\n",
				"fname: C\nfmode: Calculate\noption:\n  calculate: {a: id + true}\n",
			},
			[]string{"option.calculate.a: true is a bool"},
		},
		"behind fields that were passed on": {
			[]string{
				"fname: V\nfmode: Verify\nsource: {fields: {id: int, n: int}}\noption:\n  verify: id > n\n",
				"fname: C\nfmode: Calculate\noption:\n  calculate: {n: string(id)}\n  keep: all\n",
				"fname: D\nfmode: Calculate\noption:\n  calculate: {id: id && true, n: n + 1}\n",
			},
			[]string{"option.calculate.id: ", "option.calculate.n: + can't have a string"},
		},
		"declared otherwise behind a Verify": {
			[]string{
				"fname: V\nfmode: Verify\nsource: {fields: {id: int}}\noption:\n  verify: id > 0\n",
				"fname: D\nfmode: Calculate\nsource: {fields: {id: string, other: bool}}\noption:\n  calculate: {id: id, other: other}\n",
			},
			[]string{"in the flow F D reads the field id as string, but it is int in {id: int}, that V passes on: make the two types agree"},
		},
		"modes": {
			[]string{"fname: C\nfmode: Calculate\noption:\n  verify: a > 1\n"},
			[]string{"option.verify: is for functions of fmode Verify; this one is Calculate"},
		},
		"source.fields": {
			[]string{"fname: C\nfmode: Calculate\nsource: {fields: {a: integer, b: [int, int], c: {d: [\"string?\"]}}}\noption:\n  calculate: {a: a}\n"},
			[]string{`source.fields.a: "integer" is not a type`, "source.fields.b: has 2 types"},
		},
	} {
		got := strings.Join(runExpressions(t, func(*kis.Registry) {}, [][2]string{{`{"id": 1}`}}, c.functions), "\n")
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: without %q:\n%s", name, want, got)
			}
		}
	}
}
