package flowexec_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// warnings is a log.
type warnings struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (l *warnings) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *warnings) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.FieldsFunc(l.text.String(), func(r rune) bool { return r == '\n' })
}

// What a function keeps of its call and uses later, on its goroutine or another one, changes nothing for whatever runs then, ends
// nothing, and is told once where something is lost by it.
func TestWhatAFunctionKeepsOfItsCall(t *testing.T) {
	var kept []func() // what the function f does with what it had for its first call
	keep := func(ctx context.Context, more ...func()) {
		if len(kept) > 0 {
			return
		}
		call := kis.From(ctx)
		kept = append(more, func() {
			if id := call.RowID(); id != (batch.RowID{}) {
				t.Errorf("after the call the row's id is %v", id)
			}
			call.Origins(5, 6, 7)
			_, _, _ = call.Param("p"), call.Params(), call.Cache()
			if conn, err := call.Connection(); err == nil {
				t.Errorf("after the call there is a connection, %v", conn)
			}
		})
	}
	for name, c := range map[string]struct {
		function string
		register func(*kis.Registry)
		lines    int
	}{
		"Verify": {"f Verify", func(r *kis.Registry) {
			r.Func("f", kis.Verify(func(ctx context.Context, _ in) error { keep(ctx); return nil }))
		}, 0},
		"Expand": {"f Expand", func(r *kis.Registry) {
			r.Func("f", kis.Expand(func(ctx context.Context, i in, emit func(in)) error {
				keep(ctx, func() { emit(in{"late", 1}) })
				emit(i)
				return nil
			}))
		}, 1},
		"Save": {"f Save", func(r *kis.Registry) {
			r.Func("f", kis.Save(func(ctx context.Context, to kis.Writer, i in) error {
				keep(ctx, func() {
					to.Set("late", "n", 1)
					to.Incr("late", "n", 1)
					to.Incr("late", "n", "no number")
					to.Append("late", make(chan int))
					to.Delete("late")
				})
				to.Set(i.K, "n", i.N)
				return nil
			}))
		}, 1},
		"Batch": {"f Calculate", func(r *kis.Registry) {
			r.Func("f", kis.Batch(func(ctx context.Context, rows []in) ([]in, error) { keep(ctx); return rows, nil }))
		}, 0},
		"FaaS": {"f Calculate", func(r *kis.Registry) {
			r.FaaS("f", func(ctx context.Context, flow kis.Flow, rows []in) error {
				from, function := flow.From(0), flow.GetThisFunction()
				keep(ctx, func() {
					if rows := flow.Input(); rows != nil {
						t.Errorf("after the call the input is %v", rows)
					}
					for _, err := range []error{flow.CommitRow(in{"late", 1}), flow.CommitRowBatch([]in{{"late", 1}}), from.CommitRow(in{"late", 1}), from.CommitRowBatch([]in{{"late", 1}})} {
						if err == nil {
							t.Error("after the call a row was taken")
						}
					}
					if c, err := flow.GetConnector(); err == nil {
						t.Errorf("after the call there is a connector, %v", c)
					}
					_, _, _ = flow.Next(kis.ActionAbort), flow.GetName(), flow.GetFuncParamAll()
					_, _, _ = function.GetConnector(), function.GetFlow(), flow.Fork(ctx)
				})
				return flow.CommitRowBatch(rows)
			})
		}, 0},
	} {
		for _, flowLines := range []string{"shard_key: k\n", ""} {
			t.Run(name+" "+flowLines, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					kept = nil
					log := new(warnings)
					registry := kis.NewRegistry()
					c.register(registry)
					again := false // the function after f uses it, on the lane's own goroutine
					registry.Func("g", kis.Verify(func(context.Context, in) error {
						if again {
							for _, use := range kept[:len(kept)-1] { // but for the Call, which is that of this call then
								use()
							}
						}
						return nil
					}))
					plan, err := flowexec.Compile(bundle(t, chain(flowLines, c.function, "g Verify")), registry)
					if err != nil {
						t.Fatal(err)
					}
					b := &bed{t: t, plan: plan, store: newRecorder(t), begin: time.Now()}
					b.lanes = flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 1, Connectors: pool{b.store}, Logger: hclog.New(&hclog.LoggerOptions{Output: log})})
					defer b.lanes.Stop()
					b.expectEnded(b.send("a 1", "b 2"), "[0 1] 0→a1 1→b2")
					var users sync.WaitGroup
					for range 3 {
						for _, use := range kept {
							users.Go(use)
						}
					}
					users.Wait()
					b.expectEnded(b.send("c 3", "d 4"), "[0 1] 0→c3 1→d4")
					again = true
					b.expectEnded(b.send("e 5", "f 6"), "[0 1] 0→e5 1→f6")
					for _, effects := range b.store.saves {
						for _, e := range effects {
							if e.Key == "late" {
								t.Errorf("a late effect took place: %+v", e)
							}
						}
					}
					if lines := log.lines(); len(lines) != c.lines || c.lines > 0 && !strings.Contains(lines[0], "function=f") {
						t.Errorf("the log has %q", lines)
					}
				})
			})
		}
	}
}
