package flow_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
	"github.com/kisgrid/kisgrid/pkg/kis/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(closing{m}) }

// closing closes the connectors that flows share before it is looked whether anything is left.
type closing struct{ *testing.M }

func (m closing) Run() int {
	code := m.M.Run()
	if err := kis.Pool().Close(); err != nil {
		fmt.Println(err)
		return max(code, 1)
	}
	return code
}

type in struct {
	ID int `json:"id"`
}

// kit is a registry and a flow that calls what is registered there.
type kit struct {
	t        *testing.T
	registry *kis.Registry
	flow     *flow.KisFlow
	seen     []string // what record was called with
}

func newKit(t *testing.T) *kit {
	t.Helper()
	r := kis.NewRegistry()
	return &kit{t: t, registry: r, flow: flow.New(r, config.NewFlowConfig("F", common.FlowEnable))}
}

// link registers a function and adds it to the flow.
func (k *kit) link(name string, fn any) { k.linkAs(config.NewFuncConfig(name, common.C, nil, nil), fn) }

func (k *kit) linkAs(c *config.KisFuncConfig, fn any) {
	k.t.Helper()
	if fn != nil {
		k.registry.FaaS(c.FName, fn)
	}
	if err := k.flow.Link(c, nil); err != nil {
		k.t.Fatal(err)
	}
}

// record adds a function that records the rows it is called with, and ends the flow.
func (k *kit) record(name string) {
	k.t.Helper()
	k.link(name, func(_ context.Context, f kis.Flow) error {
		k.seen = append(k.seen, fmt.Sprint(name, f.Input()))
		return nil
	})
}

func (k *kit) commit(rows ...any) {
	k.t.Helper()
	for _, row := range rows {
		if err := k.flow.CommitRow(row); err != nil {
			k.t.Fatal(err)
		}
	}
}

func (k *kit) run() {
	k.t.Helper()
	if err := k.flow.Run(context.Background()); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kit) saw(want ...string) {
	k.t.Helper()
	if !slices.Equal(k.seen, want) {
		k.t.Errorf("the functions saw %q, want %q", k.seen, want)
	}
	k.seen = nil
}

// pass passes its rows on.
func pass(_ context.Context, f kis.Flow) error { return f.CommitRowBatch(f.Input()) }

// A flow that a function kept past its call has and takes no rows any more: those of another call would be among them.
func TestKeptFlow(t *testing.T) {
	k := newKit(t)
	var kept kis.Flow
	k.link("keep", func(_ context.Context, f kis.Flow, rows []int) error {
		if kept != nil {
			if rows := kept.Input(); rows != nil {
				t.Errorf("a flow of another call has rows: %v", rows)
			}
			for _, commit := range []func(any) error{kept.CommitRow, func(row any) error { return kept.CommitRowBatch([]any{row}) }, kept.From(0).CommitRow} {
				if err := commit(-1); err == nil || !strings.Contains(err.Error(), "the function that got this flow has returned") {
					t.Errorf("a flow of another call takes a row: %v", err)
				}
			}
		}
		kept = f
		return f.CommitRowBatch(rows)
	})
	k.record("end")
	for range 2 {
		k.commit(1, 2)
		k.run()
		k.saw("end[1 2]")
		if rows := kept.Input(); rows != nil {
			t.Errorf("a flow has rows after its call: %v", rows)
		}
	}
}

// Rows committed before Run are the first function's; those committed in a function are the next one's; without any the flow
// stops.
func TestDataRule(t *testing.T) {
	k := newKit(t)
	k.link("double", func(_ context.Context, f kis.Flow, rows []int) error {
		k.seen = append(k.seen, fmt.Sprint("double", rows))
		for _, n := range rows {
			_ = f.CommitRow(2 * n)
		}
		return nil
	})
	k.record("end")
	k.commit(1, 2)
	k.run()
	k.saw("double[1 2]", "end[2 4]")
	k.run()
	k.saw("double[]")
}

func TestActions(t *testing.T) {
	for name, c := range map[string]struct {
		first func(f kis.Flow) error
		want  []string
	}{
		"abort":                {func(f kis.Flow) error { _ = f.CommitRow(9); return f.Next(kis.ActionAbort) }, nil},
		"reuse":                {func(f kis.Flow) error { _ = f.CommitRow(9); return f.Next(kis.ActionDataReuse) }, []string{"second[1 2]", "third[1 2]"}},
		"force without rows":   {func(f kis.Flow) error { return f.Next(kis.ActionForceEntryNext) }, []string{"second[]"}},
		"force with rows":      {func(f kis.Flow) error { _ = f.CommitRow(9); return f.Next(kis.ActionForceEntryNext) }, []string{"second[9]", "third[9]"}},
		"jump forward":         {func(f kis.Flow) error { return f.Next(kis.ActionJumpFunc("third")) }, []string{"third[1 2]"}},
		"none":                 {func(f kis.Flow) error { _ = f.CommitRow(9); return f.Next() }, []string{"second[9]", "third[9]"}},
		"reuse and force next": {func(f kis.Flow) error { return f.Next(kis.ActionDataReuse, kis.ActionForceEntryNext) }, []string{"second[1 2]", "third[1 2]"}},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			k.link("first", func(_ context.Context, f kis.Flow) error { return c.first(f) })
			k.link("second", func(ctx context.Context, f kis.Flow) error {
				k.seen = append(k.seen, fmt.Sprint("second", f.Input()))
				return pass(ctx, f)
			})
			k.record("third")
			k.commit(1, 2)
			k.run()
			k.saw(c.want...)
		})
	}
}

func TestJumpBackEnds(t *testing.T) {
	k := newKit(t)
	k.link("first", pass)
	k.link("again", func(_ context.Context, f kis.Flow) error { return f.Next(kis.ActionJumpFunc("first")) })
	k.commit(1)
	err := k.flow.Run(context.Background())
	if batch.CodeOf(err) != batch.CodeStepLimit || !strings.Contains(err.Error(), "first → again → first") {
		t.Errorf("Run returned %v", err)
	}
	err = k.flow.Run(context.Background()) // without rows: the first function passes none on
	if err != nil {
		t.Errorf("Run without rows returned %v", err)
	}
}

func TestJumpWithoutRowsEnds(t *testing.T) {
	k := newKit(t)
	k.link("again", func(_ context.Context, f kis.Flow) error { return f.Next(kis.ActionJumpFunc("again")) })
	if err := k.flow.Run(context.Background()); batch.CodeOf(err) != batch.CodeStepLimit {
		t.Errorf("Run returned %v", err)
	}
}

func TestContext(t *testing.T) {
	k := newKit(t)
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), in{}, "value"))
	k.link("cancel", func(got context.Context, f kis.Flow) error {
		k.seen = append(k.seen, fmt.Sprint(got.Value(in{})))
		cancel()
		return pass(got, f)
	})
	k.record("never")
	k.commit(1)
	if err := k.flow.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
	k.commit(2)
	if err := k.flow.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run with a context that is over returned %v", err)
	}
	k.saw("value")
}

func TestContextEndsAWaitingFunction(t *testing.T) {
	k := newKit(t)
	k.link("waits", func(ctx context.Context, _ kis.Flow) error {
		<-ctx.Done()
		return ctx.Err()
	})
	k.commit(1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := k.flow.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run returned %v", err)
	}
}

func TestDisabledFlowIsAnError(t *testing.T) {
	k := newKit(t)
	k.record("f")
	k.flow.GetConfig().Status = int(common.FlowDisable)
	if err := k.flow.CommitRow(1); batch.CodeOf(err) != batch.CodeFlowDisabled {
		t.Errorf("CommitRow returned %v", err)
	}
	if err := k.flow.Run(context.Background()); batch.CodeOf(err) != batch.CodeFlowDisabled {
		t.Errorf("Run returned %v", err)
	}
	k.flow.GetConfig().Status = int(common.FlowEnable)
	k.run()
	k.saw("f[]")
}

func TestCommit(t *testing.T) {
	k := newKit(t)
	k.link("read", func(_ context.Context, f kis.Flow, structs []in, pointers []*in) error {
		for i, raw := range f.Input() {
			k.seen = append(k.seen, fmt.Sprintf("%T %d %d", raw, structs[i].ID, pointers[i].ID))
			pointers[i].ID = 0 // is the function's own
		}
		return nil
	})
	pointer := &in{4}
	k.commit(`{"id":1}`, []byte(`{"id":2}`), in{3}, pointer, map[string]int{"id": 5})
	for _, rows := range []any{[]string{`{"id":6}`}, []in{{7}}, []*in{{8}}} {
		if err := k.flow.CommitRowBatch(rows); err != nil {
			t.Fatal(err)
		}
	}
	k.run()
	k.saw("string 1 1", "[]uint8 2 2", "flow_test.in 3 3", "*flow_test.in 4 4", "map[string]int 5 5", "string 6 6", "flow_test.in 7 7", "*flow_test.in 8 8")
	if pointer.ID != 4 {
		t.Error("a function changed the row of who committed it")
	}
	for _, rows := range []any{1, "x", nil, []any{nil}, []*in{nil}} {
		if err := k.flow.CommitRowBatch(rows); err == nil {
			t.Errorf("CommitRowBatch took %#v", rows)
		}
	}
	if err := k.flow.CommitRow(nil); err == nil {
		t.Error("CommitRow took nil")
	}
	k.run()
	k.saw()
}
