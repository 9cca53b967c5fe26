package flowexec_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// batchOf makes a Batch function of rows of type in.
func batchOf(f func(context.Context, []in) ([]in, error)) kis.Func { return kis.Batch(f) }

func TestLineage(t *testing.T) {
	rows := []string{row("a", 1), row("b", 2), row("c", 3)}
	// The functions stand before a Calculate that doubles, as some lineage is only lost in the middle of a flow.
	for _, test := range []struct {
		name     string
		mode     string // default Calculate
		register func(r *kis.Registry)
		whole    string // without a shard key
		sharded  string // with one, all rows in one lane; "": the same
	}{
		{
			name: "as many rows: by position",
			register: func(r *kis.Registry) {
				r.Func("f", batchOf(func(_ context.Context, rows []in) ([]in, error) {
					slices.Reverse(rows)
					return rows, nil
				}))
			},
			whole: "0 → {\"k\":\"c\",\"m\":6}\n1 → {\"k\":\"b\",\"m\":4}\n2 → {\"k\":\"a\",\"m\":2}",
		},
		{
			name: "the same pointers",
			register: func(r *kis.Registry) {
				r.Func("f", kis.Batch(func(_ context.Context, rows []*in) ([]*in, error) {
					slices.Reverse(rows)
					return rows, nil
				}))
			},
			whole: "0 → {\"k\":\"a\",\"m\":2}\n1 → {\"k\":\"b\",\"m\":4}\n2 → {\"k\":\"c\",\"m\":6}",
		},
		{
			name: "some of the same pointers, one twice",
			register: func(r *kis.Registry) {
				r.Func("f", kis.Batch(func(_ context.Context, rows []*in) ([]*in, error) {
					return []*in{rows[2], rows[0], rows[2]}, nil
				}))
			},
			whole: `1 filtered NOT_COMMITTED f: the function passed nothing on for it
				0 → {"k":"a","m":2}
				2 → {"k":"c","m":6}
				2 → {"k":"c","m":6}`,
		},
		{
			name: "named origins",
			register: func(r *kis.Registry) {
				r.Func("f", batchOf(func(ctx context.Context, rows []in) ([]in, error) {
					kis.From(ctx).Origins(2, 1)
					return []in{rows[2], rows[1]}, nil
				}))
			},
			whole: `0 filtered NOT_COMMITTED f: the function passed nothing on for it
				1 → {"k":"b","m":4}
				2 → {"k":"c","m":6}`,
		},
		{
			name: "wrong origins",
			register: func(r *kis.Registry) {
				r.Func("f", batchOf(func(ctx context.Context, rows []in) ([]in, error) {
					kis.From(ctx).Origins(3)
					return rows[:1], nil
				}))
			},
			whole: `0 dead FUNCTION_ERROR f: Origins named row 3 as the origin of row 0: 3 rows were given
				1 dead FUNCTION_ERROR f: …
				2 dead FUNCTION_ERROR f: …`,
			sharded: `0 dead FUNCTION_ERROR f: Origins named row 3 as the origin of row 0: 1 rows were given
				1 dead FUNCTION_ERROR f: …
				2 dead FUNCTION_ERROR f: …`,
		},
		{
			name: "lost",
			register: func(r *kis.Registry) {
				r.Func("f", batchOf(func(_ context.Context, rows []in) ([]in, error) { return []in{{"sum", 6}, {"max", 3}}, nil }))
			},
			whole: "all → {\"k\":\"sum\",\"m\":12}\nall → {\"k\":\"max\",\"m\":6}",
			sharded: `0 dead LINEAGE_LOST f: the function made 2 rows of 3, and nobody can say which comes from which, …
				1 dead LINEAGE_LOST f: …
				2 dead LINEAGE_LOST f: …`,
		},
		{
			name: "nothing passed on",
			register: func(r *kis.Registry) {
				r.Func("f", batchOf(func(context.Context, []in) ([]in, error) { return nil, nil }))
			},
			whole: `0 filtered NOT_COMMITTED f: the function passed nothing on for it
				1 filtered NOT_COMMITTED f: …
				2 filtered NOT_COMMITTED f: …`,
		},
		{
			name: "dropped, all of them",
			register: func(r *kis.Registry) {
				r.Func("f", batchOf(func(context.Context, []in) ([]in, error) { return nil, kis.Drop("too late") }))
			},
			whole: "0 filtered DROPPED f: too late\n1 filtered DROPPED f: too late\n2 filtered DROPPED f: too late",
		},
		{
			name: "aborted",
			register: func(r *kis.Registry) {
				r.Func("f", batchOf(func(context.Context, []in) ([]in, error) { return nil, kis.Abort("no header") }))
			},
			whole: "0 aborted ABORTED f: no header\n1 aborted ABORTED f: no header\n2 aborted ABORTED f: no header",
			sharded: `0 dead NEEDS_WHOLE_BATCH f: the function aborts its batch (no header), but the flow's shard_key splits batches: use kis.Drop, or remove shard_key
				1 dead NEEDS_WHOLE_BATCH f: …
				2 dead NEEDS_WHOLE_BATCH f: …`,
		},
		{
			name: "aborted by one row", mode: "Verify",
			register: func(r *kis.Registry) {
				r.Func("f", kis.Verify(ctxErr(func(i in) error {
					if i.N == 2 {
						return kis.Abort("two")
					}
					return nil
				})))
			},
			whole: "0 aborted ABORTED f: two\n1 aborted ABORTED f: two\n2 aborted ABORTED f: two",
			sharded: `1 dead NEEDS_WHOLE_BATCH f: the function aborts its batch (two), …
				0 → {"k":"a","m":2}
				2 → {"k":"c","m":6}`,
		},
		{
			name: "an error is tried key by key where batches are split",
			register: func(r *kis.Registry) {
				r.Func("f", batchOf(func(_ context.Context, rows []in) ([]in, error) {
					for _, i := range rows {
						if i.N == 2 {
							panic("two")
						}
					}
					return rows, nil
				}))
			},
			whole: "0 dead FUNCTION_PANIC f: panic: two\n1 dead FUNCTION_PANIC f: panic: two\n2 dead FUNCTION_PANIC f: panic: two",
			sharded: `1 dead FUNCTION_PANIC f: panic: two
				0 → {"k":"a","m":2}
				2 → {"k":"c","m":6}`,
		},
		{
			name: "FaaS: as many rows", register: func(r *kis.Registry) {
				r.FaaS("f", func(_ context.Context, flow kis.Flow, rows []*in) error {
					for _, i := range rows {
						if err := flow.CommitRow(in{i.K + "!", i.N}); err != nil {
							return err
						}
					}
					return nil
				})
			},
			whole: "0 → {\"k\":\"a!\",\"m\":2}\n1 → {\"k\":\"b!\",\"m\":4}\n2 → {\"k\":\"c!\",\"m\":6}",
		},
		{
			name: "FaaS: the same pointers, parameters in another order", register: func(r *kis.Registry) {
				r.FaaS("f", func(rows []*in, n int, flow kis.Flow, more []key, ctx context.Context) error {
					if n != 0 || len(more) != len(rows) || more[0].K != rows[0].K {
						return fmt.Errorf("got %d, %v", n, more)
					}
					return flow.CommitRowBatch(slices.DeleteFunc(rows, func(i *in) bool { return i.N == 2 }))
				})
			},
			whole: `1 filtered NOT_COMMITTED f: the function passed nothing on for it
				0 → {"k":"a","m":2}
				2 → {"k":"c","m":6}`,
			sharded: `1 filtered NOT_COMMITTED f: the function passed nothing on for it
				0 → {"k":"a","m":2}
				2 → {"k":"c","m":6}`,
		},
		{
			name: "FaaS: From", register: func(r *kis.Registry) {
				r.FaaS("f", func(_ context.Context, flow kis.Flow, rows []in) error {
					return errors.Join(flow.From(2).CommitRow(rows[2]), flow.From(0).CommitRowBatch([]string{`{"n":5}`, `{"n":6}`}))
				})
			},
			whole: `1 filtered NOT_COMMITTED f: the function passed nothing on for it
				0 → {"k":"","m":10}
				0 → {"k":"","m":12}
				2 → {"k":"c","m":6}`,
		},
		{
			name: "FaaS: raw rows", register: func(r *kis.Registry) {
				r.FaaS("f", func(_ context.Context, flow kis.Flow) error {
					for _, row := range flow.Input() {
						if err := flow.CommitRow(strings.ToUpper(row.(string))); err != nil {
							return err
						}
					}
					return nil
				})
			},
			whole: "0 → {\"k\":\"A\",\"m\":2}\n1 → {\"k\":\"B\",\"m\":4}\n2 → {\"k\":\"C\",\"m\":6}",
		},
		{
			name: "FaaS: DataReuse", register: func(r *kis.Registry) {
				r.FaaS("f", func(_ context.Context, flow kis.Flow, rows []in) error {
					if err := flow.CommitRow(1); err != nil {
						return err
					}
					return flow.Next(kis.ActionDataReuse)
				})
			},
			whole: "0 → {\"k\":\"a\",\"m\":2}\n1 → {\"k\":\"b\",\"m\":4}\n2 → {\"k\":\"c\",\"m\":6}",
		},
		{
			name: "FaaS: what does not fit the next function", register: func(r *kis.Registry) {
				r.FaaS("f", func(_ context.Context, flow kis.Flow) error {
					return flow.CommitRowBatch([]any{in{"a", 1}, "no JSON", map[string]any{"n": "x"}})
				})
			},
			whole: `1 dead CONVERSION_FAILED g: the row does not fit g: it is not JSON: invalid character 'o' …
				2 dead CONVERSION_FAILED g: the row does not fit g: n must be a whole number, it is a string
				0 → {"k":"a","m":2}`,
		},
		{
			name: "FaaS: nothing to commit", register: func(r *kis.Registry) {
				r.FaaS("f", func(_ context.Context, flow kis.Flow) error {
					if flow.CommitRow((*in)(nil)) == nil || flow.CommitRow(nil) == nil || flow.CommitRowBatch([]any{nil}) == nil || flow.CommitRowBatch(in{}) == nil ||
						flow.From(9).CommitRow(1) == nil {
						return errors.New("committed nothing")
					}
					return nil
				})
			},
			whole: `0 filtered NOT_COMMITTED f: the function passed nothing on for it
				1 filtered NOT_COMMITTED f: …
				2 filtered NOT_COMMITTED f: …`,
		},
		{
			name: "FaaS: aborted", register: func(r *kis.Registry) {
				r.FaaS("f", func(_ context.Context, flow kis.Flow) error { return flow.Next(kis.ActionAbort) })
			},
			whole: "0 aborted ABORTED f: f returned ActionAbort\n1 aborted ABORTED f: …\n2 aborted ABORTED f: …",
			sharded: `0 dead NEEDS_WHOLE_BATCH f: …
				1 dead NEEDS_WHOLE_BATCH f: …
				2 dead NEEDS_WHOLE_BATCH f: …`,
		},
	} {
		register := func(r *kis.Registry) {
			test.register(r)
			r.Func("g", kis.Calculate(double))
		}
		f := "f " + cmp.Or(test.mode, "Calculate")
		t.Run(test.name+"/whole", func(t *testing.T) {
			expect(t, submit(t, local(t, chain("", f, "g Calculate"), register), rows...), test.whole)
		})
		t.Run(test.name+"/sharded", func(t *testing.T) {
			want := test.sharded
			if want == "" {
				want = test.whole
			}
			expect(t, submit(t, local(t, chain("shard_key: k\ncopies: 1\n", f, "g Calculate"), register), rows...), want)
		})
	}
}

// A row made of a whole batch that is dropped later takes the batch with it.
func TestLostLineageTakesAll(t *testing.T) {
	l := local(t, chain("", "f Calculate", "v Verify"), func(r *kis.Registry) {
		r.Func("f", batchOf(func(_ context.Context, rows []in) ([]in, error) { return []in{{"x", 1}}, nil }))
		r.Func("v", kis.Verify(ctxErr(func(i in) error { return kis.Drop("no %s", i.K) })))
	})
	expect(t, submit(t, l, row("a", 1), row("b", 2)), "0 filtered DROPPED v: no x\n1 filtered DROPPED v: no x")
	// One row is its own lineage, also where batches are split.
	l = local(t, chain("shard_key: k\n", "f Expand"), func(r *kis.Registry) {
		r.Func("f", batchOf(func(_ context.Context, rows []in) ([]in, error) { return []in{{"x", 1}, {"y", 2}}, nil }))
	})
	expect(t, submit(t, l, row("a", 1)), "0 → {\"k\":\"x\",\"n\":1}\n0 → {\"k\":\"y\",\"n\":2}")
}

func TestForceEntryNext(t *testing.T) {
	for _, commit := range []bool{false, true} {
		entered := -1
		l := local(t, chain("", "f Calculate", "g Calculate"), func(r *kis.Registry) {
			r.FaaS("f", func(_ context.Context, flow kis.Flow, rows []in) error {
				if commit {
					if err := flow.CommitRowBatch(rows[:2]); err != nil {
						return err
					}
				}
				return flow.Next(kis.ActionForceEntryNext)
			})
			r.FaaS("g", func(_ context.Context, flow kis.Flow, rows []in) error {
				entered = len(rows)
				return flow.CommitRow(in{"g", len(rows)})
			})
		})
		got := submit(t, l, row("a", 1), row("b", 2))
		if commit {
			expect(t, got, `all → {"k":"g","n":2}`)
		} else {
			expect(t, got, `all → {"k":"g","n":0}`)
		}
		if want := map[bool]int{false: 0, true: 2}[commit]; entered != want {
			t.Errorf("committing %v, the next function was entered with %d rows, not %d", commit, entered, want)
		}
	}
}

func TestJumps(t *testing.T) {
	// jumper adds 1 until a row is even, then sends those divisible by 4 back to the start once more, and 100 to the end.
	add := kis.Calculate(func(_ context.Context, i in) (in, error) { i.N++; return i, nil })
	for _, test := range []struct {
		name      string
		functions []string
		register  func(r *kis.Registry)
		rows      []string
		want      string
	}{
		{
			name: "forward", functions: []string{"v Verify", "a Calculate", "b Calculate"},
			register: func(r *kis.Registry) {
				r.Func("v", kis.Verify(ctxErr(func(i in) error {
					if i.N == 1 {
						return kis.Jump("b")
					}
					return nil
				})))
				r.Func("a", add)
				r.Func("b", add)
			},
			rows: []string{row("a", 0), row("b", 1), row("c", 2)},
			want: "0 → {\"k\":\"a\",\"n\":2}\n1 → {\"k\":\"b\",\"n\":2}\n2 → {\"k\":\"c\",\"n\":4}",
		},
		{
			name: "back to what the row was", functions: []string{"a Calculate", "b Calculate", "v Verify"},
			register: func(r *kis.Registry) {
				r.Func("a", add)
				r.Func("b", kis.Calculate(func(ctx context.Context, i in) (in, error) {
					c := kis.From(ctx).Cache()
					n, _ := c.Get(i.K)
					tries, _ := n.(int)
					c.Set(i.K, tries+1, 0)
					return in{i.K, 10*i.N + tries}, nil
				}))
				r.Func("v", kis.Verify(ctxErr(func(i in) error {
					if i.N%10 < i.N/10 {
						return kis.Jump("b")
					}
					return nil
				})))
			},
			rows: []string{row("a", 0), row("b", 2), row("c", 1)},
			want: "0 → {\"k\":\"a\",\"n\":11}\n1 → {\"k\":\"b\",\"n\":33}\n2 → {\"k\":\"c\",\"n\":22}",
		},
		{
			name: "round and round", functions: []string{"a Calculate", "v Verify"},
			register: func(r *kis.Registry) {
				r.Func("a", add)
				r.Func("v", kis.Verify(ctxErr(func(i in) error {
					if i.N == 2 {
						return kis.Jump("a")
					}
					return nil
				})))
			},
			rows: []string{row("a", 0), row("b", 1)},
			want: `1 dead STEP_LIMIT v: the row jumped 1000 times, at last round a → v → a: let the jump end
				0 → {"k":"a","n":1}`,
		},
		{
			name: "to nowhere", functions: []string{"v Verify"},
			register: func(r *kis.Registry) {
				r.Func("v", kis.Verify(ctxErr(func(in) error { return kis.Jump("x") })))
			},
			rows: []string{row("a", 0)},
			want: `0 dead FUNCTION_ERROR v: the function jumps to "x", which is not in flow F: name one of its functions`,
		},
		{
			name: "FaaS", functions: []string{"f Calculate", "a Calculate", "b Calculate"},
			register: func(r *kis.Registry) {
				r.FaaS("f", func(_ context.Context, flow kis.Flow) error { return flow.Next(kis.ActionJumpFunc("b")) })
				r.Func("a", add)
				r.Func("b", add)
			},
			rows: []string{row("a", 0), row("b", 5)},
			want: "0 → {\"k\":\"a\",\"n\":1}\n1 → {\"k\":\"b\",\"n\":6}",
		},
		{
			name: "back over lost lineage", functions: []string{"a Calculate", "f Calculate", "v Verify"},
			register: func(r *kis.Registry) {
				r.Func("a", add)
				r.Func("f", batchOf(func(_ context.Context, rows []in) ([]in, error) { return []in{{"x", 1}}, nil }))
				r.Func("v", kis.Verify(ctxErr(func(in) error { return kis.Jump("a") })))
			},
			rows: []string{row("a", 0), row("b", 5)},
			want: "0 dead LINEAGE_LOST v: the row jumps back to a, …\n1 dead LINEAGE_LOST v: …",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := local(t, chain("", test.functions...), test.register)
			expect(t, submit(t, l, test.rows...), test.want)
		})
	}
}

// Rows of one key keep their order also when the first one jumps back: it catches up before the second goes on.
func TestJumpsKeepOrder(t *testing.T) {
	var order []string
	l := local(t, chain("shard_key: k\ncopies: 1\n", "a Calculate", "v Verify", "e Expand"), func(r *kis.Registry) {
		visits := make(map[int]int)
		r.Func("a", kis.Calculate(func(_ context.Context, i in) (in, error) { return i, nil }))
		r.Func("v", kis.Verify(ctxErr(func(i in) error {
			if visits[i.N]++; visits[i.N] <= i.N%3 {
				return kis.Jump("a")
			}
			return nil
		})))
		r.Func("e", kis.Expand(func(_ context.Context, i in, emit func(in)) error {
			order = append(order, fmt.Sprint(i.N))
			return nil
		}))
	})
	var rows []string
	for n := range 7 {
		rows = append(rows, row("a", n))
	}
	expect(t, submit(t, l, rows...), "")
	if got := strings.Join(order, " "); got != "0 1 2 3 4 5 6" {
		t.Errorf("the rows came through in the order %s", got)
	}
}
