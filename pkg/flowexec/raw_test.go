package flowexec_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Rows that a function takes and gives as json.RawMessage pass as they came.
func TestRawRows(t *testing.T) {
	l := local(t, chain("", "pass Calculate", "twist Calculate"), func(r *kis.Registry) {
		r.Func("pass", kis.Calculate(func(_ context.Context, row json.RawMessage) (json.RawMessage, error) { return row, nil }))
		r.Func("twist", kis.Calculate(func(_ context.Context, row json.RawMessage) (json.RawMessage, error) {
			switch {
			case strings.Contains(string(row), "cut"):
				return row[1:], nil
			case strings.Contains(string(row), "none"):
				return nil, nil
			case strings.Contains(string(row), "grow"):
				return append(row, ' '), nil // in memory of its own: the next row lies behind it
			}
			return row, nil
		}))
	})
	expect(t, submit(t, l, `{"a": "\u00e4"}`, ` [1] `, `{"a":}`, ``, `"cut"`, `"none"`, `"grow"`, `null`), `
		2 dead ROW_UNDECODABLE pass: the row does not fit pass: it is not JSON: invalid character '}' looking for beginning of value
		3 dead ROW_UNDECODABLE pass: the row does not fit pass: it is not JSON: unexpected end of JSON input
		4 dead ROW_UNENCODABLE twist: the row that the flow passed on can't be written: what the function passed on is not JSON
		5 dead ROW_UNENCODABLE twist: the row that the flow passed on can't be written: what the function passed on is not JSON
		0 → {"a": "\u00e4"}
		1 → [1]
		6 → "grow" `+`
		7 → null`)
}

// They turn into rows of other types, and those into them.
func TestRawRowsConvert(t *testing.T) {
	l := local(t, chain("", "make Calculate", "raw Calculate", "check Verify", "list Calculate"), func(r *kis.Registry) {
		r.Func("make", kis.Calculate(double))
		r.Func("raw", kis.Calculate(func(_ context.Context, row json.RawMessage) (json.RawMessage, error) {
			if strings.Contains(string(row), `"odd"`) {
				return json.RawMessage(`{"m":"x"}`), nil
			}
			return row, nil
		}))
		r.Func("check", kis.Verify(func(_ context.Context, row out) error { return nil }))
		r.FaaS("list", func(_ context.Context, flow kis.Flow, rows []json.RawMessage, same []*out) error {
			for i, row := range rows {
				if row[0] != '{' || same[i].M == 0 {
					return kis.Drop("%s is not %+v", row, same[i])
				}
				if err := flow.CommitRow(row); err != nil {
					return err
				}
			}
			return nil
		})
	})
	expect(t, submit(t, l, row("a", 1), row("odd", 2), row("c", 3)), `
		1 dead CONVERSION_FAILED check: the row does not fit check: m must be a whole number, it is a string
		0 → {"k":"a","m":2}
		2 → {"k":"c","m":6}`)
}

// texts are what strings of KisFlow's rows may be: also what looks like JSON, but for its strings, which are read as that.
var texts = []string{"123", "true", "null", "1e3", "-0", `{"a":1}`, `{"a": 1}`, "[1, 2]", " 7 ", "plain", "a<b>&c", "", `"`, "\u2028", `\`, `"a`, "\xff"}

// A string that a function in KisFlow's shape passes on comes to the next as it went, whatever it looks like.
func TestTextsComeAsTheyWent(t *testing.T) {
	type text string
	for name, second := range map[string]func(*kis.Registry, func(string)){
		"[]string": func(r *kis.Registry, saw func(string)) {
			r.FaaS("second", func(_ context.Context, _ kis.Flow, rows []string) error {
				for _, row := range rows {
					saw(row)
				}
				return nil
			})
		},
		"a string type": func(r *kis.Registry, saw func(string)) {
			r.FaaS("second", func(_ context.Context, _ kis.Flow, rows []text) error {
				for _, row := range rows {
					saw(string(row))
				}
				return nil
			})
		},
		"pointers": func(r *kis.Registry, saw func(string)) {
			r.FaaS("second", func(_ context.Context, _ kis.Flow, rows []*string) error {
				for _, row := range rows {
					saw(*row)
				}
				return nil
			})
		},
		"Batch": func(r *kis.Registry, saw func(string)) {
			r.Func("second", kis.Batch(func(_ context.Context, rows []string) ([]string, error) {
				for _, row := range rows {
					saw(row)
				}
				return rows, nil
			}))
		},
		"Calculate": func(r *kis.Registry, saw func(string)) {
			r.Func("second", kis.Calculate(func(_ context.Context, row string) (string, error) { saw(row); return row, nil }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []string
			l := local(t, chain("", "first Calculate", "second Calculate"), func(r *kis.Registry) {
				r.FaaS("first", func(_ context.Context, flow kis.Flow, _ []json.RawMessage) error { return flow.CommitRowBatch(texts) })
				second(r, func(row string) { seen = append(seen, row) })
			})
			if told := submit(t, l, `{}`); strings.Contains(told, "dead") || !slices.Equal(seen, texts) {
				t.Errorf("of %q the second function saw %q:\n%s", texts, seen, told)
			}
		})
	}
}

// A row of JSON that is no string comes as the text that it is to a function in KisFlow's shape that takes strings, and leaves so.
func TestJSONAsTexts(t *testing.T) {
	l := local(t, chain("", "first Calculate", "second Calculate"), func(r *kis.Registry) {
		pass := func(_ context.Context, flow kis.Flow, rows []string) error { return flow.CommitRowBatch(rows) }
		r.FaaS("first", pass)
		r.FaaS("second", pass)
	})
	expect(t, submit(t, l, `123`, `true`, `null`, `1.50`, `{"a": "\u003c"}`, `[1, 2]`, `"text"`, `"a<b"`), `
		0 → 123
		1 → true
		2 → null
		3 → 1.50
		4 → {"a": "\u003c"}
		5 → [1, 2]
		6 → "text"
		7 → "a<b"`)
}

// '<', '>' and '&' leave a flow as they came, whatever writes the row.
func TestWritesNoHTML(t *testing.T) {
	type named struct {
		K string `json:"k"`
	}
	type nested struct {
		K string         `json:"k"`
		M map[string]any `json:"m,omitempty"`
	}
	for name, code := range map[string]func(r *kis.Registry){
		"Verify": func(r *kis.Registry) { r.Func("f", kis.Verify(func(context.Context, named) error { return nil })) },
		"Calculate": func(r *kis.Registry) {
			r.Func("f", kis.Calculate(func(_ context.Context, n named) (named, error) { return n, nil }))
		},
		"a nested type": func(r *kis.Registry) {
			r.Func("f", kis.Calculate(func(_ context.Context, n nested) (*nested, error) { return &n, nil }))
		},
		"a map": func(r *kis.Registry) {
			r.Func("f", kis.Calculate(func(_ context.Context, m map[string]any) (map[string]any, error) { return m, nil }))
		},
		"KisFlow's shape": func(r *kis.Registry) {
			r.FaaS("f", func(_ context.Context, flow kis.Flow, rows []*named) error { return flow.CommitRowBatch(rows) })
		},
		"KisFlow's serializer": func(r *kis.Registry) {
			r.FaaS("f", func(_ context.Context, flow kis.Flow, rows []*named) error {
				for _, row := range rows {
					texts, err := new(kis.DefaultSerialize).Marshal(row)
					if err != nil {
						return err
					}
					if err := flow.CommitRow(texts[0]); err != nil {
						return err
					}
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			mode := "Calculate"
			if name == "Verify" {
				mode = name
			}
			l := local(t, chain("", "f "+mode), code)
			for _, rows := range []*batch.Batch{batch.Rows(`{"k":"<a>&"}`), batch.Rows(named{"<a>&"})} {
				result, err := l.Submit(t.Context(), "F", rows)
				if err != nil {
					t.Fatal(err)
				}
				expect(t, tell(result), `0 → {"k":"<a>&"}`)
			}
		})
	}
}

// withMethod is written by a method of pointers to it.
type withMethod struct{ N int }

func (w *withMethod) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `{"N":%d,"by":"method"}`, w.N), nil
}

// A struct leaves a flow with all of its methods, whether a function passes on the struct or a pointer to it, and so it comes to the next.
func TestStructsHaveTheirMethods(t *testing.T) {
	type held struct {
		W withMethod     `json:"w"`
		L [1]withMethod  `json:"l"`
		P *withMethod    `json:"p"`
		M map[string]int `json:"m,omitempty"`
	}
	row := held{W: withMethod{1}, L: [1]withMethod{{2}}, P: &withMethod{3}}
	for name, code := range map[string]func(r *kis.Registry){
		"Calculate": func(r *kis.Registry) {
			r.Func("f", kis.Calculate(func(context.Context, in) (held, error) { return row, nil }))
		},
		"Calculate of pointers": func(r *kis.Registry) {
			r.Func("f", kis.Calculate(func(context.Context, in) (*held, error) { return &row, nil }))
		},
		"Calculate of any": func(r *kis.Registry) {
			r.Func("f", kis.Calculate(func(context.Context, in) (any, error) { return row, nil }))
		},
		"KisFlow's shape": func(r *kis.Registry) {
			r.FaaS("f", func(_ context.Context, flow kis.Flow, _ []in) error { return flow.CommitRow(row) })
		},
		"KisFlow's shape with pointers": func(r *kis.Registry) {
			r.FaaS("f", func(_ context.Context, flow kis.Flow, _ []in) error { return flow.CommitRow(&row) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			const want = `{"w":{"N":1,"by":"method"},"l":[{"N":2,"by":"method"}],"p":{"N":3,"by":"method"}}`
			expect(t, submit(t, local(t, chain("", "f Calculate"), code), `{}`), "0 → "+want)
			next := local(t, chain("", "f Calculate", "next Calculate"), func(r *kis.Registry) {
				code(r)
				r.Func("next", kis.Calculate(func(_ context.Context, row struct {
					W, P map[string]any
				}) (string, error) {
					return fmt.Sprint(row.W["by"], row.P["by"]), nil
				}))
			})
			expect(t, submit(t, next, `{}`), `0 → "methodmethod"`)
		})
	}
}
