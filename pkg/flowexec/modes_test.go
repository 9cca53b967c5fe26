package flowexec_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// initial is written as its first letter, and read as JSON.
type initial struct {
	kis.DefaultSerialize
	K string `json:"k"`
}

func (*initial) Marshal(row any) ([]any, error) {
	return []any{fmt.Sprintf(`{"initial":%q}`, row.(initial).K[:1])}, nil
}

func TestModes(t *testing.T) {
	verify := kis.Verify(ctxErr(func(k key) error {
		if k.K == "drop" {
			return kis.Drop("%s is not wanted", k.K)
		}
		return nil
	}))
	calls := new(atomic.Int32)
	for _, test := range []struct {
		name      string
		flow      string
		functions []string
		register  func(r *kis.Registry)
		rows      []string
		want      string
	}{
		{
			name: "a Verify passes the row on whole, also what its type lacks", functions: []string{"v Verify"},
			register: func(r *kis.Registry) { r.Func("v", verify) },
			rows:     []string{`{"k":"a","n":1,"x":[1, 2]}`, `{"k":"drop"}`, ` {"k":"b"}`},
			want: `1 filtered DROPPED v: drop is not wanted
				0 → {"k":"a","n":1,"x":[1, 2]}
				2 →  {"k":"b"}`,
		},
		{
			name: "what a Verify's type lacks is there for the next function", functions: []string{"v Verify", "c Calculate"},
			register: func(r *kis.Registry) { r.Func("v", verify); r.Func("c", kis.Calculate(double)) },
			rows:     []string{row("a", 1), row("drop", 2), row("b", 3)},
			want: `1 filtered DROPPED v: drop is not wanted
				0 → {"k":"a","m":2}
				2 → {"k":"b","m":6}`,
		},
		{
			name: "a Verify of another type passes typed rows on whole", functions: []string{"c Calculate", "v Verify", "d Calculate"},
			register: func(r *kis.Registry) {
				r.Func("c", kis.Calculate(double))
				r.Func("v", verify)
				r.Func("d", kis.Calculate(func(_ context.Context, o out) (in, error) { return in{o.K, o.M + 1}, nil }))
			},
			rows: []string{row("a", 1), row("drop", 2), row("b", 3)},
			want: `1 filtered DROPPED v: drop is not wanted
				0 → {"k":"a","n":3}
				2 → {"k":"b","n":7}`,
		},
		{
			name: "a nil that is passed on as any is a row's own failure", functions: []string{"n Calculate", "c Calculate"},
			register: func(r *kis.Registry) {
				r.Func("n", kis.Calculate(func(_ context.Context, i in) (any, error) {
					if i.N == 1 {
						return nil, nil //nolint:nilnil // what is tested
					}
					return i, nil
				}))
				r.Func("c", kis.Calculate(double))
			},
			rows: []string{row("a", 1), row("b", 2)},
			want: `0 dead CONVERSION_FAILED c: the row does not fit c: it is nil
				1 → {"k":"b","m":4}`,
		},
		{
			name: "a row type's own Marshal writes what leaves the flow, typed or committed", functions: []string{"v Verify", "c Calculate", "k Calculate"},
			register: func(r *kis.Registry) {
				r.Func("v", kis.Verify(ctxErr(func(in) error { return nil })))
				r.Func("c", kis.Calculate(func(_ context.Context, i in) (initial, error) { return initial{K: i.K}, nil }))
				r.FaaS("k", func(_ context.Context, flow kis.Flow, rows []initial) error { return flow.CommitRowBatch(rows) })
			},
			rows: []string{row("abc", 1), row("", 2)},
			want: `1 dead ROW_UNENCODABLE k: the row that the flow passed on can't be written: *flowexec_test.initial.Marshal: panic: …
				0 → {"initial":"a"}`,
		},
		{
			name: "one bad row among good ones", flow: "shard_key: k\n", functions: []string{"v Verify", "c Calculate"},
			register: func(r *kis.Registry) { r.Func("v", verify); r.Func("c", kis.Calculate(double)) },
			rows:     []string{row("a", 1), `{"k":"b","n":"x"}`, row("c", 3), `{"k":"d"`, `null`, `{"k":null}`, row("e", 5)},
			want: `1 dead ROW_UNDECODABLE c: the row does not fit c: n must be a whole number, it is a string
				3 dead ROW_UNDECODABLE : …
				4 dead MISSING_SHARD_KEY : …
				5 dead MISSING_SHARD_KEY : …
				0 → {"k":"a","m":2}
				2 → {"k":"c","m":6}
				6 → {"k":"e","m":10}`,
		},
		{
			name: "an Expand passes any number on", functions: []string{"e Expand", "c Calculate"},
			register: func(r *kis.Registry) {
				r.Func("e", kis.Expand(func(_ context.Context, i in, emit func(in)) error {
					for n := range i.N {
						emit(in{i.K, n})
					}
					if i.N == 4 {
						return errors.New("four is too many")
					}
					return nil
				}))
				r.Func("c", kis.Calculate(double))
			},
			rows: []string{row("a", 2), row("b", 0), row("c", 4), row("d", 1)},
			want: `1 filtered NOT_COMMITTED e: the function passed nothing on for it
				2 dead FUNCTION_ERROR e: four is too many
				0 → {"k":"a","m":0}
				0 → {"k":"a","m":2}
				3 → {"k":"d","m":0}`,
		},
		{
			name: "a row of which the last function passes nothing on is done", functions: []string{"e Expand"},
			register: func(r *kis.Registry) {
				r.Func("e", kis.Expand(func(_ context.Context, i in, emit func(in)) error {
					if i.N > 0 {
						emit(i)
					}
					return nil
				}))
			},
			rows: []string{row("a", 0), row("b", 1)},
			want: `1 → {"k":"b","n":1}`,
		},
		{
			name: "an expanded row ends as the worst of its outputs", functions: []string{"e Expand", "f Expand", "v Verify"},
			register: func(r *kis.Registry) {
				r.Func("e", kis.Expand(func(_ context.Context, i in, emit func(in)) error {
					for n := range i.N {
						emit(in{i.K, n})
					}
					return nil
				}))
				r.Func("f", kis.Expand(func(_ context.Context, i in, emit func(in)) error { emit(i); emit(in{i.K, i.N + 10}); return nil }))
				r.Func("v", kis.Verify(ctxErr(func(i in) error {
					switch i.N {
					case 1:
						return kis.Drop("one")
					case 12:
						return errors.New("twelve")
					}
					return nil
				})))
			},
			rows: []string{row("a", 1), row("b", 2), row("c", 3)},
			want: `1 filtered DROPPED v: one
				2 dead FUNCTION_ERROR v: twelve
				0 → {"k":"a","n":0}
				0 → {"k":"a","n":10}
				1 → {"k":"b","n":0}
				1 → {"k":"b","n":10}
				1 → {"k":"b","n":11}
				2 → {"k":"c","n":0}
				2 → {"k":"c","n":10}
				2 → {"k":"c","n":11}
				2 → {"k":"c","n":2}`,
		},
		{
			name: "errors are retried", functions: []string{"c Calculate; retry_times: 2"},
			register: func(r *kis.Registry) {
				r.Func("c", kis.Calculate(func(ctx context.Context, i in) (out, error) {
					if attempt := kis.From(ctx).Attempt; attempt <= i.N {
						return out{}, fmt.Errorf("try %d of %s", attempt, i.K)
					}
					return out{i.K, i.N}, nil
				}))
			},
			rows: []string{row("a", 0), row("b", 1), row("c", 9), row("d", 2)},
			want: `2 dead FUNCTION_ERROR c: try 3 of c (3 attempts)
				0 → {"k":"a","m":0}
				1 → {"k":"b","m":1}
				3 → {"k":"d","m":2}`,
		},
		{
			name: "a panic is its row's", functions: []string{"c Calculate; retry_times: 1", "v Verify"},
			register: func(r *kis.Registry) {
				r.Func("c", kis.Calculate(func(ctx context.Context, i in) (in, error) { return in{i.K, 6 / i.N}, nil }))
				r.Func("v", kis.Verify(ctxErr(func(i in) error {
					if i.N == 2 {
						panic("two")
					}
					return nil
				})))
			},
			rows: []string{row("a", 1), row("b", 0), row("c", 3), row("d", 2)},
			want: `1 dead FUNCTION_PANIC c: panic: runtime error: integer divide by zero (2 attempts)
				2 dead FUNCTION_PANIC v: panic: two
				0 → {"k":"a","n":6}
				3 → {"k":"d","n":3}`,
		},
		{
			name: "pointers", functions: []string{"v Verify", "c Calculate", "e Expand"},
			register: func(r *kis.Registry) {
				r.Func("v", kis.Verify(ctxErr(func(*key) error { return nil })))
				r.Func("c", kis.Calculate(func(_ context.Context, i *in) (*out, error) {
					if i.N == 0 {
						return nil, nil
					}
					return &out{i.K, i.N}, nil
				}))
				r.Func("e", kis.Expand(func(_ context.Context, o *out, emit func(*out)) error {
					emit(o)
					if o.M == 2 {
						emit(nil)
					}
					return nil
				}))
			},
			rows: []string{row("a", 1), row("b", 0), `null`, row("c", 2)},
			want: `1 dead FUNCTION_ERROR c: the function passed on a nil *flowexec_test.out and no error: return kis.Drop to leave a row out
				2 dead ROW_UNDECODABLE v: the row does not fit v: it must be an object, it is null
				3 dead FUNCTION_ERROR e: the function passed on a nil *flowexec_test.out and no error: return kis.Drop to leave a row out
				0 → {"k":"a","m":1}
				3 → {"k":"c","m":2}`,
		},
		{
			name: "maps, any and raw rows", functions: []string{"m Calculate", "a Verify", "c Calculate"},
			register: func(r *kis.Registry) {
				r.Func("m", kis.Calculate(func(_ context.Context, m map[string]any) (map[string]any, error) {
					m["n"] = 7
					return m, nil
				}))
				r.Func("a", kis.Verify(ctxErr(func(row any) error {
					if row.(map[string]any)["k"] == "b" {
						return kis.Drop("b")
					}
					return nil
				})))
				r.Func("c", kis.Calculate(double))
			},
			rows: []string{row("a", 1), row("b", 2)},
			want: `1 filtered DROPPED a: b
				0 → {"k":"a","m":14}`,
		},
		{
			name: "output that can't be written", functions: []string{"c Calculate"},
			register: func(r *kis.Registry) {
				r.Func("c", kis.Calculate(func(_ context.Context, i in) (map[string]any, error) {
					if i.N == 0 {
						return map[string]any{"f": func() {}}, nil
					}
					return map[string]any{"n": i.N}, nil
				}))
			},
			rows: []string{row("a", 0), row("b", 1)},
			want: `0 dead RO…
				1 → {"n":1}`,
		},
		{
			name: "a row must have its source's fields", functions: []string{"v Verify; source: {name: s, must: [k, X]}"},
			register: func(r *kis.Registry) { r.Func("v", verify) },
			rows:     []string{`{"k":"a","x":1}`, `{"K":"a"}`, `{"k":"a","X":null}`, `[]`},
			want: `1 dead MISSING_FIELD v: the row lacks X, which source.must of v asks for
				2 dead MISSING_FIELD v: the row lacks X, which source.must of v asks for
				3 dead ROW_UNDECODABLE v: …
				0 → {"k":"a","x":1}`,
		},
		{
			name:      "rows decoded once for two types",
			functions: []string{"v Verify; source: {must: [n]}", "c Calculate; source: {must: [k]}"},
			register:  func(r *kis.Registry) { r.Func("v", verify); r.Func("c", kis.Calculate(double)) },
			rows: []string{row("a", 1), `{"k":"b"}`, `{"k":"c","n":null}`, `{"n":2}`, `{"k":"e","N":3}`, `{"k":"drop","n":"x"}`, `{"k":"g","n":"x"}`,
				`{"k":"h\u0068","n":4}`, row("drop", 5)},
			want: `1 dead MISSING_FIELD v: the row lacks n, which source.must of v asks for
				2 dead MISSING_FIELD v: …
				3 dead MISSING_FIELD c: the row lacks k, which source.must of c asks for
				5 filtered DROPPED v: drop is not wanted
				6 dead ROW_UNDECODABLE c: …
				8 filtered DROPPED v: drop is not wanted
				0 → {"k":"a","m":2}
				4 → {"k":"e","m":6}
				7 → {"k":"hh","m":8}`,
		},
		{
			name: "parameters and the call", functions: []string{"c Calculate; default_params: {school: north, city: x}"}, flow: "shard_key: k\n",
			register: func(r *kis.Registry) {
				r.Func("c", kis.Calculate(func(ctx context.Context, i in) (map[string]string, error) {
					c := kis.From(ctx)
					return map[string]string{"v": c.Flow + c.Function + c.Param("school") + c.Param("none") + fmt.Sprint(c.RowID().Row)}, nil
				}))
			},
			rows: []string{row("a", 0), `{"k":null}`, row("b", 0)},
			want: `1 dead MISSING_SHARD_KEY : …
				0 → {"v":"Fcnorth0"}
				2 → {"v":"Fcnorth2"}`,
		},
		{
			name: "no key is called twice for a decoded type", functions: []string{"v Verify", "w Verify"},
			register: func(r *kis.Registry) {
				count := kis.Verify(ctxErr(func(counted) error { return nil }))
				r.Func("v", count)
				r.Func("w", count)
				counting = calls
			},
			rows: []string{row("a", 0), row("b", 0)},
			want: "0 → {\"k\":\"a\",\"n\":0}\n1 → {\"k\":\"b\",\"n\":0}",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := local(t, chain(test.flow, test.functions...), test.register)
			expect(t, submit(t, l, test.rows...), test.want)
			// A failed run leaves nothing for the next.
			expect(t, submit(t, l, test.rows...), test.want)
		})
	}
	if got := calls.Load(); got != 4 {
		t.Errorf("two batches of two rows were decoded %d times, not once for each row", got)
	}
}

var counting *atomic.Int32

type counted struct{ in }

func (c *counted) UnmarshalJSON(b []byte) error {
	counting.Add(1)
	return nil
}
