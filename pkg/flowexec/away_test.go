package flowexec_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// A Load in KisFlow's shape is tried again when its connector has saved, by a Save of whichever shape, long before its next
// try would be due, and gives up in time however much is saved meanwhile.
func TestFaaSLoadHearsSaves(t *testing.T) {
	for _, flowLines := range []string{"shard_key: k\n", ""} {
		for _, shape := range []string{"Save", "FaaS"} {
			t.Run(fmt.Sprintf("%q %s", flowLines, shape), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					calls := make(map[string]int)
					b := newBed(t, flowLines, func(b *bed, r *kis.Registry) {
						save := func(ctx context.Context, key string) error {
							_, err := b.store.Connection.Save(ctx, connector.Cause{}, []connector.Effect{{Op: connector.Set, Key: key, Field: "n", Value: "1"}})
							return err
						}
						if shape == "Save" {
							r.Func("s", kis.Save(func(_ context.Context, to kis.Writer, i in) error {
								if i.N > 0 {
									to.Set(fmt.Sprint(i.N), "n", 1)
								}
								return nil
							}))
						} else {
							r.FaaS("s", func(ctx context.Context, flow kis.Flow, rows []*in) error {
								for _, i := range rows {
									if err := save(ctx, fmt.Sprint(i.N)); err != nil {
										return err
									}
								}
								return flow.Next(kis.ActionDataReuse)
							})
						}
						r.FaaS("f", func(ctx context.Context, flow kis.Flow, rows []*in) error {
							for _, i := range rows {
								if i.N > 0 {
									continue
								}
								calls[i.K]++
								values, err := b.store.Connection.Load(ctx, []string{fmt.Sprint(-i.N)})
								if err != nil || values[0].Missing() {
									return errors.Join(err, errors.New("not there"))
								}
							}
							return flow.Next(kis.ActionDataReuse)
						})
					}, "s Save", "f Load; wait: 25s")
					var parts []*flowexec.Part
					for n := range 5 {
						parts = append(parts, b.send(fmt.Sprintf("%c %d", 'a'+n, -10-n)))
					}
					never := b.send("z -99")
					for n, p := range parts {
						time.Sleep(4 * time.Second)
						b.expectEnded(p, "[]")
						b.send(fmt.Sprintf("s %d", 10+n))
						time.Sleep(160 * time.Millisecond) // the eighth of a pause, with its jitter
						b.expectEnded(p, fmt.Sprintf("[0] 0→%c%d", 'a'+n, -10-n))
					}
					for range 1000 {
						b.send("s 1")
						time.Sleep(10 * time.Millisecond)
					}
					b.expectEnded(never, "[0] 0 FUNCTION_ERROR f")
					if calls["z"] > 150 {
						t.Errorf("it was called %d times in 25 s", calls["z"])
					}
				})
			})
		}
	}
}

// How long a lane is held up before parked rows go on, as by clients that take their answers slowly, is nobody's time.
func TestHeldUpLaneCostsRowsNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var saved atomic.Bool
		var held atomic.Int64
		b := newBed(t, "shard_key: k\ntimeout: 30s\n", func(_ *bed, r *kis.Registry) {
			r.FaaS("f", func(_ context.Context, flow kis.Flow, _ []*in) error {
				if !saved.Load() {
					return errors.New("not there")
				}
				return flow.Next(kis.ActionDataReuse)
			})
			r.Func("v", kis.Verify(polite))
		}, "f Load; wait: 10m", "v Verify")
		b.enter = func(context.Context, []uint32) func() {
			time.Sleep(time.Duration(held.Load()))
			return func() {}
		}
		p := b.send("a 10000", "b 10000")
		time.Sleep(5 * time.Second)
		b.expectEnded(p, "[]")
		held.Store(int64(time.Minute))
		time.Sleep(time.Minute)
		saved.Store(true)
		held.Store(0)
		time.Sleep(2 * time.Minute)
		b.expectEnded(p, "[0 1] 0→a10000 1→b10000")
	})
}

// A connector that is away is not waited for in the lane: rows that don't need it go on, and those that do keep their order.
func TestAwayConnectorHoldsUpNobodyElse(t *testing.T) {
	for _, c := range []struct{ flowLines, function, first, all string }{
		{"shard_key: k\n", "s Save", "[1] 1 DROPPED r", "[0 1 2] 1 DROPPED r 0→a1 2→a2"},
		{"shard_key: k\n", "l Load", "[1] 1 DROPPED r", "[0 1 2] 1 DROPPED r 0→a1 2→a2"},
		{"", "s Save", "[]", "[0 1 2] 1 DROPPED r 0→a1 2→a2"},
		{"", "l Load", "[]", "[0 1 2] 1 DROPPED r 0→a1 2→a2"},
	} {
		t.Run(c.flowLines+c.function, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := newBed(t, c.flowLines, func(b *bed, r *kis.Registry) {
					loader(b, r)
					r.Func("r", kis.Verify(func(_ context.Context, i in) error {
						if i.N == 0 {
							return kis.Drop("not wanted")
						}
						return nil
					}))
					r.Func("s", kis.Save(func(_ context.Context, to kis.Writer, i in) error {
						to.Append("list", fmt.Sprint(i.K, i.N))
						return nil
					}))
				}, "r Verify", c.function)
				b.save("a")
				back := b.begin.Add(5 * time.Second)
				b.store.away = func() error {
					if time.Now().Before(back) {
						return batch.Errorf(batch.CodeConnectorUnavailable, "redis is away")
					}
					return nil
				}
				p := b.send("a 1", "b 0", "a 2")
				b.expectEnded(p, c.first)
				q := b.send("c 0", "d 0")
				b.expectEnded(q, "[0 1] 0 DROPPED r 1 DROPPED r")
				r := b.send("a 3")
				time.Sleep(4 * time.Second)
				b.expectEnded(r, "[]")
				time.Sleep(3500 * time.Millisecond) // until two seconds and more after it is back
				b.expectEnded(p, c.all)
				b.expectEnded(r, "[0] 0→a3")
				if c.function == "s Save" && c.flowLines != "" {
					var saved string
					for _, effects := range b.store.saves {
						for _, e := range effects {
							saved += e.Value + " "
						}
					}
					if saved != "a1 a2 a3 " {
						t.Errorf("saved were %s", saved)
					}
				}
				// Away for good, it costs a row its time, and no other outcome.
				back = time.Now().Add(time.Hour)
				lost := b.send("a 4")
				time.Sleep(61 * time.Second)
				b.expectEnded(lost, "[0] 0 CONNECTOR_UNAVAILABLE "+c.function[:1])
			})
		})
	}
}

// Rows that wait for a connector behind another row of their key are asked for together when it is back, and the rows that come of one row are
// charged once for the time for which they wait together.
func TestRowsBehindAnotherAreAskedForTogether(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\ntimeout: 8s\n", func(_ *bed, r *kis.Registry) {
			r.Func("e", kis.Expand(func(_ context.Context, i in, emit func(in)) error {
				for range 100 {
					emit(i)
				}
				return nil
			}))
			r.Func("s", kis.Save(func(_ context.Context, to kis.Writer, i in) error {
				to.Append("list", fmt.Sprint(i.K, i.N))
				return nil
			}))
			r.Func("d", kis.Verify(func(context.Context, in) error { return kis.Drop("not wanted") }))
		}, "e Expand", "s Save", "d Verify")
		back, calls := b.begin.Add(5*time.Second), 0
		b.store.away = func() error {
			if time.Now().Before(back) {
				return batch.Errorf(batch.CodeConnectorUnavailable, "redis is away")
			}
			calls++
			return nil
		}
		p := b.send("a 1", "a 2")
		time.Sleep(6500 * time.Millisecond) // a second and more after it is back
		b.expectEnded(p, "[0 1] 0 DROPPED d 1 DROPPED d")
		saved := 0
		for _, effects := range b.store.saves {
			saved += len(effects)
		}
		if saved != 200 || calls > 5 {
			t.Errorf("%d effects were saved in %d calls", saved, calls)
		}
	})
}

// What parks leaves nothing of its part behind: raw rows are copied.
func TestParkedRawRowsAreCopies(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\n", func(b *bed, r *kis.Registry) {
			r.Func("raw", kis.Calculate(func(_ context.Context, row json.RawMessage) (json.RawMessage, error) { return row, nil }))
			r.FaaS("commit", func(_ context.Context, flow kis.Flow, rows []json.RawMessage) error { return flow.CommitRowBatch(rows) })
			failing(b, r)
		}, "raw Calculate", "commit Expand", "r Verify; retry_times: 1; retry_duration: 1s")
		c := batch.Columns{Keys: []uint64{keyOf("a"), keyOf("b")}}
		c.Append([]byte(row("a", 1)))
		c.Append([]byte(row("b", 0)))
		p := &flowexec.Part{Plan: b.plan, BatchRows: 2, Columns: c, Output: true, Attempt: 1, Done: b.done}
		b.lanes.Enqueue(p)
		b.expectEnded(p, "[1] 1→b0")
		clear(c.Data)
		time.Sleep(2 * time.Second)
		b.expectEnded(p, "[0 1] 0→a1 1→b0")
	})
}
