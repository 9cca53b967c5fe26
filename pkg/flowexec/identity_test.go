package flowexec_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// branch is a row: which it was of its batch, and the way by which it came of that.
type branch struct {
	Key  string `json:"k"`
	Row  int    `json:"row"`
	Path string `json:"path"`
}

// tree decides what becomes of rows, by their ids alone.
type tree struct {
	copies, jumps, fails []int // by row
	poisoned             map[string]bool

	mu     sync.Mutex
	failed map[batch.RowID]int // guarded by mu
	calls  map[batch.RowID]int // of jump; guarded by mu
	many   bool                // more than mostCalls rows came to jump, which then lets them pass; guarded by mu
}

// mostCalls is the most rows that may come to jump in one run. Where functions that make rows stand within the way of several jumps, each
// trip makes more of them.
const mostCalls = 20_000

func (w *tree) expand(b branch) (out []branch) {
	copies := w.copies[b.Row]
	if len(b.Path) > 3 {
		copies = 1
	}
	for i := range copies {
		out = append(out, branch{b.Key, b.Row, fmt.Sprint(b.Path, i)})
	}
	return out
}

// jump says whether the row jumps now: some of those that came of an input row do, on its first trips.
func (w *tree) jump(b branch, id batch.RowID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[id]++
	if w.many = w.many || len(w.calls) > mostCalls; w.many {
		return false
	}
	return int(id.Visit) < w.jumps[b.Row] && (id.Output+uint64(id.Visit)+1)%3 > 0
}

// fail says whether the row fails for now.
func (w *tree) fail(b branch, id batch.RowID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed[id]++; w.failed[id] <= w.fails[b.Row] {
		return errors.New("for now")
	}
	return nil
}

func (w *tree) register(target string) func(*kis.Registry) {
	return func(r *kis.Registry) {
		r.Func("s", kis.Save(func(_ context.Context, to kis.Writer, b branch) error {
			to.Incr(b.Key, "n", 1)
			to.Append(b.Key+"_list", fmt.Sprint(b.Row, "/", b.Path))
			return nil
		}))
		r.Func("e", kis.Expand(func(_ context.Context, b branch, emit func(branch)) error {
			for _, out := range w.expand(b) {
				emit(out)
			}
			return nil
		}))
		r.Func("b", kis.Batch(func(ctx context.Context, rows []branch) (out []branch, err error) {
			var origins []int
			for i, b := range rows {
				if w.poisoned[b.Key] {
					return nil, errors.New("a bad row")
				}
				for _, o := range w.expand(b) {
					out, origins = append(out, o), append(origins, i)
				}
			}
			kis.From(ctx).Origins(origins...)
			return out, nil
		}))
		r.Func("r", kis.Verify(func(ctx context.Context, b branch) error { return w.fail(b, kis.From(ctx).RowID()) }))
		r.Func("j", kis.Verify(func(ctx context.Context, b branch) error {
			if w.jump(b, kis.From(ctx).RowID()) {
				return kis.Jump(target)
			}
			return nil
		}))
	}
}

var treeModes = map[string]string{
	"s": "s Save", "e": "e Expand", "b": "b Expand", "r": "r Verify; retry_times: 3; retry_duration: 10ms", "j": "j Verify",
}

// Effects have the same names however a batch is split into parts and lanes, whatever fails for now, and no two of them
// share one.
func TestIdentityFollowsLineage(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		functions := rapid.SliceOfN(rapid.SampledFrom([]string{"s", "e", "b", "r", "j", "j"}), 2, 7).Draw(rt, "functions")
		functions = append(functions, "s")
		target := rapid.SampledFrom(functions).Draw(rt, "target")
		w := tree{poisoned: make(map[string]bool)}
		var rows []branch
		for i := range rapid.IntRange(1, 12).Draw(rt, "rows") {
			rows = append(rows, branch{rapid.SampledFrom([]string{"a", "b", "c", "d", "x"}).Draw(rt, "key"), i, ""})
			w.copies = append(w.copies, rapid.IntRange(0, 3).Draw(rt, "copies"))
			w.jumps = append(w.jumps, rapid.IntRange(0, 3).Draw(rt, "jumps"))
			w.fails = append(w.fails, rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(rt, "fails"))
		}
		if rapid.Bool().Draw(rt, "a bad key") {
			w.poisoned["x"] = true
		}
		sharded := rapid.Bool().Draw(rt, "sharded")
		var plans []string
		for _, f := range functions {
			plans = append(plans, treeModes[f])
		}
		run := func(lanes int, steady bool, parts [][]int) map[string]string {
			fresh := tree{copies: w.copies, jumps: w.jumps, fails: w.fails, poisoned: w.poisoned, failed: make(map[batch.RowID]int), calls: make(map[batch.RowID]int)}
			if steady {
				fresh.fails = make([]int, len(rows))
			}
			var named map[string]string
			bubble.Test(t, func(t *testing.T) { named = effectsByName(t, rt, &fresh, target, plans, sharded, lanes, rows, parts) })
			if fresh.many {
				rt.Skip("the functions make too many rows")
			}
			return named
		}
		all := make([]int, len(rows))
		for i := range all {
			all[i] = i
		}
		want := run(1, true, [][]int{all})
		parts := [][]int{all}
		if sharded {
			// A key's rows stay together: they go to one worker.
			byKey := make(map[string]int)
			parts = make([][]int, 3)
			for i, b := range rows {
				part, ok := byKey[b.Key]
				if !ok {
					part = rapid.IntRange(0, 2).Draw(rt, "part")
					byKey[b.Key] = part
				}
				parts[part] = append(parts[part], i)
			}
		}
		got := run(rapid.IntRange(1, 3).Draw(rt, "lanes"), false, parts)
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Errorf("%s: split, effects have other names (- whole, + split):\n%s", strings.Join(functions, " → "), diff)
		}
	})
}

// effectsByName executes rows in parts, and returns what each name stands for.
func effectsByName(t *testing.T, rt *rapid.T, w *tree, target string, functions []string, sharded bool, copies int, rows []branch, parts [][]int) map[string]string {
	t.Helper()
	flowLines := "timeout: 1h\n"
	if sharded {
		flowLines += "shard_key: k\n"
	}
	registry := kis.NewRegistry()
	w.register(target)(registry)
	plan, err := flowexec.Compile(bundle(t, chain(flowLines, functions...)), registry)
	if err != nil {
		t.Fatal(err)
	}
	store := newRecorder(t)
	lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: copies, Connectors: pool{store}})
	defer lanes.Stop()
	var c collector
	id := batch.ID{Sequence: 7}
	for _, places := range parts {
		if len(places) == 0 {
			continue
		}
		p := &flowexec.Part{Plan: plan, Batch: id, Floor: 3, Born: time.Now(), BatchRows: len(rows), Attempt: 1, Done: c.done}
		if len(places) < len(rows) {
			p.Rows = make([]uint32, len(places))
		}
		for i, place := range places {
			b := rows[place]
			if p.Rows != nil {
				p.Rows[i] = uint32(place)
			}
			p.Columns.Append(fmt.Appendf(nil, `{"k":%q,"row":%d,"path":""}`, b.Key, b.Row))
			if sharded {
				p.Columns.Keys = append(p.Columns.Keys, slotFor(b.Key))
			}
		}
		lanes.Enqueue(p)
	}
	if err := lanes.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, n := range w.calls {
		if n > 1 {
			rt.Errorf("%v: %d rows came to j as %s", functions, n, id)
		}
	}
	named := make(map[string]string)
	for n, effects := range store.saves {
		if cause := store.causes[n]; cause.Flow != "F" || cause.Function != "s" || cause.Batch != id || cause.Floor != 3 || cause.Born.IsZero() {
			rt.Errorf("a Save has the cause %+v", cause)
		}
		for _, e := range effects {
			name := fmt.Sprintf("row %d output %d visit %d command %d", e.Row, e.Output, e.Visit, e.Command)
			does := e.Key + "." + e.Field + e.Value
			if other, ok := named[name]; ok {
				rt.Errorf("%s → …: %s is the name of two effects, %s and %s; all: %v", functions, name, other, does, slices.Sorted(maps.Keys(named)))
			}
			named[name] = does
		}
	}
	return named
}
