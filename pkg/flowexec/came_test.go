package flowexec_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// box is a row that leads to more than itself.
type box struct {
	K string         `json:"k"`
	P *int           `json:"p"`
	L []int          `json:"l"`
	M map[string]int `json:"m"`
	A any            `json:"a"`
	R rawField       `json:"r"`
}

type rawField = json.RawMessage

const boxed = `{"k":%q,"p":1,"l":[1],"m":{"x":1},"a":{"y":[1]},"r":"1"}`

// spoil changes all that a box leads to.
func (b *box) spoil() {
	*b.P += 10
	b.L[0] += 10
	b.M["x"] += 10
	list := b.A.(map[string]any)["y"].([]any)
	list[0] = list[0].(float64) + 10
	b.R[1]++
}

// seen is a box as a function sees it.
func (b *box) seen() string {
	return fmt.Sprint(*b.P, b.L, b.M, b.A, string(b.R))
}

const cameAs = `1 [1] map[x:1] map[y:[1]]"1"`

// spoilers are functions f that change their rows, and fail some times.
var spoilers = map[string]struct {
	mode     string
	register func(r *kis.Registry, try func(ctx context.Context, seen string) error)
}{
	"Verify": {"Verify", func(r *kis.Registry, try func(context.Context, string) error) {
		r.Func("f", kis.Verify(func(ctx context.Context, b box) error { s := b.seen(); b.spoil(); return try(ctx, s) }))
	}},
	"Calculate of pointers": {"Calculate", func(r *kis.Registry, try func(context.Context, string) error) {
		r.Func("f", kis.Calculate(func(ctx context.Context, b *box) (*box, error) { s := b.seen(); b.spoil(); return b, try(ctx, s) }))
	}},
	"Expand": {"Expand", func(r *kis.Registry, try func(context.Context, string) error) {
		r.Func("f", kis.Expand(func(ctx context.Context, b *box, emit func(*box)) error {
			s := b.seen()
			b.spoil()
			emit(b)
			return try(ctx, s)
		}))
	}},
	"Save": {"Save", func(r *kis.Registry, try func(context.Context, string) error) {
		r.Func("f", kis.Save(func(ctx context.Context, to kis.Writer, b *box) error {
			s := b.seen()
			b.spoil()
			to.Set(b.K, "p", *b.P)
			return try(ctx, s)
		}))
	}},
	"Load": {"Load", func(r *kis.Registry, try func(context.Context, string) error) {
		r.Func("f", kis.Load(func(b *box) string { return "loaded" }, func(ctx context.Context, b *box, saved *map[string]string) (*box, error) {
			s := b.seen()
			if (*saved)["n"] != "1" {
				s += fmt.Sprint(*saved)
			}
			(*saved)["n"] = "2"
			b.spoil()
			return b, try(ctx, s)
		}))
	}},
	"Batch": {"Calculate", func(r *kis.Registry, try func(context.Context, string) error) {
		r.Func("f", kis.Batch(func(ctx context.Context, rows []*box) ([]*box, error) {
			s := rows[0].seen()
			rows[0].spoil()
			return rows, try(ctx, s)
		}))
	}},
	"FaaS": {"Calculate", func(r *kis.Registry, try func(context.Context, string) error) {
		r.FaaS("f", func(ctx context.Context, flow kis.Flow, rows []*box) error {
			s := rows[0].seen()
			rows[0].spoil()
			return errors.Join(try(ctx, s), flow.CommitRowBatch(rows))
		})
	}},
	"FaaS's input": {"Calculate", func(r *kis.Registry, try func(context.Context, string) error) {
		r.FaaS("f", func(ctx context.Context, flow kis.Flow) error {
			b, ok := flow.Input()[0].(*box)
			if !ok {
				b = new(box)
				if err := json.Unmarshal([]byte(fmt.Sprint(flow.Input()[0])), b); err != nil {
					return err
				}
			}
			s := b.seen()
			b.spoil()
			return errors.Join(try(ctx, s), flow.CommitRow(b))
		})
	}},
	"raw": {"Calculate", func(r *kis.Registry, try func(context.Context, string) error) {
		r.Func("f", kis.Calculate(func(ctx context.Context, row json.RawMessage) (json.RawMessage, error) {
			var b box
			if err := json.Unmarshal(row, &b); err != nil {
				return nil, errors.Join(err, try(ctx, string(row)))
			}
			clear(row)
			return json.RawMessage(`{}`), try(ctx, b.seen())
		}))
	}},
}

// Each attempt of a function, and the letter of a row that it fails, get the row as it came, whatever was changed through what the
// row leads to: whether the row came so to the flow or was made by a function, and whether it waits in its lane or apart.
func TestAttemptsGetRowsAsTheyCame(t *testing.T) {
	for name, spoiler := range spoilers {
		for _, before := range [][]string{nil, {"make Calculate"}, {"makeany Calculate"}, {"look Verify"}} {
			for _, flowLines := range []string{"shard_key: k\n", ""} {
				for _, pause := range []string{"0s", "1s"} {
					for _, fails := range []int{2, 9} {
						t.Run(fmt.Sprintf("%s %v %q %s %d", name, before, flowLines, pause, fails), func(t *testing.T) {
							bubble.Test(t, func(t *testing.T) {
								attempts := 0
								b := newBed(t, flowLines, func(_ *bed, r *kis.Registry) {
									r.Func("make", kis.Calculate(func(_ context.Context, b *box) (*box, error) { return b, nil }))
									r.FaaS("makeany", func(_ context.Context, flow kis.Flow, rows []*box) error { return flow.CommitRowBatch(rows) })
									r.Func("look", kis.Verify(func(_ context.Context, b *box) error { b.spoil(); return nil }))
									spoiler.register(r, func(_ context.Context, seen string) error {
										attempts++
										if seen != cameAs {
											t.Errorf("attempt %d got %s", attempts, seen)
										}
										if attempts <= fails {
											return errors.New("not yet")
										}
										return nil
									})
								}, append(slices.Clip(before), "f "+spoiler.mode+"; retry_times: 3; retry_duration: "+pause)...)
								if _, err := b.store.Connection.Save(t.Context(), connector.Cause{}, []connector.Effect{{Op: connector.Set, Key: "loaded", Field: "n", Value: "1"}}); err != nil {
									t.Fatal(err)
								}
								part := &flowexec.Part{Plan: b.plan, BatchRows: 1, Attempt: 1, Done: b.done, Output: true, KeepDead: 10000}
								part.Columns.Append(fmt.Appendf(nil, boxed, "a"))
								if flowLines != "" {
									part.Columns.Keys = []uint64{1}
								}
								b.lanes.Enqueue(part)
								time.Sleep(time.Minute)
								synctest.Wait()
								if len(b.runs) != 1 {
									t.Fatalf("%d runs", len(b.runs))
								}
								run := b.runs[0]
								if fails == 2 {
									if len(run.NotDone) > 0 || attempts != 3 {
										t.Fatalf("after %d attempts: %+v", attempts, run.NotDone)
									}
									if out := string(run.Output.Rows.Row(0)); name != "Verify" && name != "Save" && name != "raw" && !strings.Contains(out, `"p":11,"l":[11],"m":{"x":11},"a":{"y":[11]},"r":"2"`) {
										t.Errorf("what was changed once became %s", out)
									}
									return
								}
								if len(run.Dead) != 1 {
									t.Fatalf("there is no letter: %+v", run.NotDone)
								}
								if got := string(run.Dead[0].Data); got != fmt.Sprintf(boxed, "a") {
									t.Errorf("the letter is %s", got)
								}
							})
						})
					}
				}
			}
		}
	}
}

// A row that jumps to its own function enters it as it did before.
func TestJumpGetsRowsAsTheyCame(t *testing.T) {
	for _, before := range [][]string{nil, {"make Calculate"}} {
		b := 0
		l := local(t, chain("", append(before, "f Calculate; retry_times: 1")...), func(r *kis.Registry) {
			r.Func("make", kis.Calculate(func(_ context.Context, b *box) (*box, error) { return b, nil }))
			r.Func("f", kis.Calculate(func(_ context.Context, row *box) (*box, error) {
				if s := row.seen(); s != cameAs {
					t.Errorf("it got %s", s)
				}
				row.spoil()
				if b++; b < 3 {
					return nil, kis.Jump("f")
				}
				return row, nil
			}))
		})
		if got := submit(t, l, fmt.Sprintf(boxed, "a")); !strings.Contains(got, `"p":11`) {
			t.Errorf("it ended as %s", got)
		}
	}
}
