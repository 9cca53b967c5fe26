package flowexec_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

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
		2 dead ROW_UNDECODABLE pass: the row does not fit json.RawMessage, which pass reads: invalid character '}' looking for beginning of value
		3 dead ROW_UNDECODABLE pass: the row does not fit json.RawMessage, which pass reads: unexpected end of JSON input
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
		1 dead CONVERSION_FAILED check: the row does not fit flowexec_test.out, which check reads: json: cannot unmarshal string into Go struct field out.m of type int
		0 → {"k":"a","m":2}
		2 → {"k":"c","m":6}`)
}
