package flow_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
	"github.com/kisgrid/kisgrid/pkg/kis/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// A flow that a function kept past its call takes no rows any more: those of another call would be among them.
func TestKeptFlow(t *testing.T) {
	k := newKit(t)
	var kept kis.Flow
	k.link("keep", func(_ context.Context, f kis.Flow, rows []int) error {
		if kept != nil {
			for _, commit := range []func(any) error{kept.CommitRow, func(row any) error { return kept.CommitRowBatch([]any{row}) }, kept.From(0).CommitRow} {
				if err := commit(-1); err == nil || !strings.Contains(err.Error(), "the call that this flow was given to has returned") {
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

// One row that can't be read costs that row, and is told.
func TestBadRowCostsItself(t *testing.T) {
	k := newKit(t)
	k.link("read", func(_ context.Context, _ kis.Flow, rows []in) error {
		k.seen = append(k.seen, fmt.Sprint(rows))
		return nil
	})
	k.commit(`{"id":1}`, `{"id":"x"}`, `{"id":3}`)
	err := k.flow.Run(context.Background())
	if batch.CodeOf(err) != batch.CodeRowUndecodable && batch.CodeOf(err) != batch.CodeConversionFailed || !strings.Contains(err.Error(), "row 1") {
		t.Errorf("Run returned %v", err)
	}
	k.saw("[{1} {3}]")
}

var errBroken = errors.New("broken")

func TestFunctionErrorIsReturnedAsItIs(t *testing.T) {
	k := newKit(t)
	fail := true
	k.link("half", func(_ context.Context, f kis.Flow) error {
		_ = f.CommitRowBatch(f.Input())
		if fail {
			return errBroken
		}
		return nil
	})
	k.record("end")
	k.commit(1, 2)
	if err := k.flow.Run(context.Background()); err != errBroken { //nolint:errorlint // it must be the same
		t.Errorf("Run returned %v", err)
	}
	// Nothing of the failed run is left.
	fail = false
	k.commit(3)
	k.run()
	k.saw("end[3]")
}

// A run without rows can fail as well.
func TestErrorWithoutRows(t *testing.T) {
	k := newKit(t)
	k.link("make", func(_ context.Context, f kis.Flow) error { return f.CommitRow(1) })
	k.link("fail", func(context.Context, kis.Flow) error { return errBroken })
	if err := k.flow.Run(context.Background()); !errors.Is(err, errBroken) {
		t.Errorf("Run returned %v", err)
	}
}

func TestPanicIsAnError(t *testing.T) {
	k := newKit(t)
	k.link("panics", func(context.Context, kis.Flow) error { panic("oh") })
	k.commit(1)
	if err := k.flow.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "panic: oh") || !strings.Contains(err.Error(), "flow_test.go") {
		t.Errorf("Run returned %v", err)
	}
}

func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		calls := 0
		k.linkAs(config.NewFuncConfig("flaky", common.C, nil, &config.KisFuncOption{RetryTimes: 3, RetryDuration: 1000}), func(context.Context, kis.Flow) error {
			if calls++; calls < 4 {
				return errBroken
			}
			return nil
		})
		k.commit(1)
		began := time.Now()
		k.run()
		if took := time.Since(began); calls != 4 || took < 2400*time.Millisecond || took > 3600*time.Millisecond {
			t.Errorf("%d calls took %v, want 4 in about 3s", calls, took)
		}
	})
}

func TestMust(t *testing.T) {
	k := newKit(t)
	k.linkAs(config.NewFuncConfig("f", common.V, &config.KisSource{Name: "s", Must: []string{"id", "user"}}, nil), func(_ context.Context, f kis.Flow) error {
		k.seen = append(k.seen, fmt.Sprint(f.Input()))
		return nil
	})
	k.commit(`{"id":1}`, `{"id":2,"user":3}`)
	if err := k.flow.Run(context.Background()); batch.CodeOf(err) != batch.CodeMissingField || !strings.Contains(err.Error(), "user") {
		t.Errorf("Run returned %v", err)
	}
	k.saw(`[{"id":2,"user":3}]`)
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

// What Link says comes back from Run, if the program did not look.
func TestLinkErrors(t *testing.T) {
	for name, c := range map[string]struct {
		config *config.KisFuncConfig
		want   string
	}{
		"no configuration": {nil, "is nil"},
		"unknown mode":     {config.NewFuncConfig("f", "Mix", nil, nil), "fmode"},
		"no name":          {config.NewFuncConfig("", common.C, nil, nil), "fname"},
		"no connector":     {config.NewFuncConfig("f", common.S, nil, &config.KisFuncOption{CName: "store"}), "has no connector"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			k.record("first")
			err := k.flow.Link(c.config, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Link returned %v", err)
			}
			if again := k.flow.Run(context.Background()); again == nil || !strings.Contains(again.Error(), c.want) {
				t.Errorf("Run returned %v", again)
			}
		})
	}
}

func TestUnregistered(t *testing.T) {
	k := newKit(t)
	k.linkAs(config.NewFuncConfig("missing", common.C, nil, nil), nil)
	if err := k.flow.Run(context.Background()); err == nil || !strings.Contains(err.Error(), `no function "missing" is registered`) {
		t.Errorf("Run returned %v", err)
	}
	k.registry.FaaS("missing", pass) // in time for the next run
	k.run()
	k.registry.FaaS("missing", pass)
	k.registry.FaaS("wrong", func(kis.Flow) {})
	err := k.flow.Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "the name is taken") || !strings.Contains(err.Error(), "must return an error") {
		t.Errorf("Run returned %v", err)
	}
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

// Any order of parameters, several slices, and zero values for whatever else.
func TestShapes(t *testing.T) {
	k := newKit(t)
	k.link("shape", func(texts []string, n int, f kis.Flow, s *in, ctx context.Context) error {
		k.seen = append(k.seen, fmt.Sprint(texts, n, s, ctx != nil, f.GetName()))
		return nil
	})
	k.commit("plain", `"quoted"`)
	k.run()
	k.saw("[plain quoted] 0 <nil> trueF")
}

func TestParams(t *testing.T) {
	k := newKit(t)
	k.registry.FaaS("f", func(_ context.Context, f kis.Flow) error {
		k.seen = append(k.seen, f.GetFuncParam("school"), f.GetFuncParam("city"), f.GetFuncParam("none"), fmt.Sprint(f.GetFuncParamAll()),
			fmt.Sprint(f.GetFuncParamsAllFuncs()[f.GetThisFunction().GetID()]))
		return nil
	})
	c := config.NewFuncConfig("f", common.C, nil, &config.KisFuncOption{Params: config.FParam{"school": "default", "city": "Beijing"}})
	if err := k.flow.Link(c, config.FParam{"school": "own"}); err != nil {
		t.Fatal(err)
	}
	k.run()
	k.saw("own", "Beijing", "", "map[city:Beijing school:own]", "map[city:Beijing school:own]")
}

// What a function looks up of its flow.
func TestFunctionInterface(t *testing.T) {
	k := newKit(t)
	look := func(_ context.Context, f kis.Flow) error {
		this := f.GetThisFunction()
		prev, next := "", ""
		if p := this.Prev(); p != nil {
			prev = p.GetConfig().FName
		}
		if n := this.Next(); n != nil {
			next = n.GetConfig().FName
		}
		k.seen = append(k.seen, fmt.Sprint(prev, "<", f.GetThisFuncConf().FName, ">", next,
			this.GetPrevId() == common.FunctionIDFirstVirtual, this.GetNextId() == common.FunctionIDLastVirtual, this.GetFlow() == f,
			strings.HasPrefix(this.GetID(), "func-"), strings.HasPrefix(f.GetID(), "flow-"), len(f.GetID())))
		this.SetMetaData("a", 1)
		if f.GetFuncConfigByName("b") == nil || f.GetFuncConfigByName("none") != nil || len(f.GetConfig().Flows) != 2 {
			t.Error("the flow's configurations are not those linked")
		}
		if err := f.Run(context.Background()); err == nil {
			t.Error("a function ran the flow it is in")
		}
		return f.Next(kis.ActionForceEntryNext)
	}
	k.link("a", look)
	k.link("b", look)
	if k.flow.GetThisFunction() != nil {
		t.Error("a function runs before Run")
	}
	k.run()
	k.saw("<a>btrue false true true true 37", "a<b>false true true true true 37")
	if k.flow.GetThisFunction().GetMetaData("a") != 1 {
		t.Error("the function's metadata is gone after the run")
	}
}

func TestCallFunction(t *testing.T) {
	k := newKit(t)
	k.registry.FaaS("other", func(_ context.Context, f kis.Flow, rows []in) error { return f.CommitRowBatch(rows) })
	k.link("caller", func(ctx context.Context, f kis.Flow) error { return k.registry.CallFunction(ctx, "other", f) })
	k.record("end")
	k.commit(`{"id":1}`)
	k.run()
	k.saw("end[{1}]")
	if err := k.registry.CallFunction(context.Background(), "none", k.flow); batch.CodeOf(err) != batch.CodeUnknownFunction {
		t.Errorf("CallFunction returned %v", err)
	}
}

func TestCacheAndMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		k.link("f", func(_ context.Context, f kis.Flow) error {
			k.seen = append(k.seen, fmt.Sprint(f.GetCacheData("short"), f.GetCacheData("long"), f.GetMetaData("m")))
			f.SetCacheData("short", 1, time.Second)
			f.SetCacheData("long", 2, common.DefaultExpiration)
			f.SetMetaData("m", 3)
			return nil
		})
		k.run()
		k.run()
		time.Sleep(2 * time.Second)
		k.run()
		k.saw("<nil> <nil> <nil>", "1 2 3", "<nil> 2 3")
		if k.flow.GetCacheData("long") != 2 || k.flow.GetMetaData("m") != 3 {
			t.Error("the program does not see what functions keep")
		}
	})
}

func TestFork(t *testing.T) {
	k := newKit(t)
	k.registry.FaaS("f", func(_ context.Context, f kis.Flow) error {
		k.seen = append(k.seen, fmt.Sprint(f.Input(), f.GetFuncParam("p"), f.GetMetaData("m")))
		f.SetMetaData("m", 1)
		return nil
	})
	// A flow made with AppendNewFunction has functions in its forks as well.
	if err := k.flow.AppendNewFunction(config.NewFuncConfig("f", common.C, nil, nil), config.FParam{"p": "v"}); err != nil {
		t.Fatal(err)
	}
	k.commit(1)
	fork := k.flow.Fork(context.Background())
	if err := fork.CommitRow(2); err != nil {
		t.Fatal(err)
	}
	k.run()
	if err := fork.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	k.saw("[1]v<nil>", "[2]v<nil>")
	if fork.GetID() == k.flow.GetID() {
		t.Error("the fork has the flow's id")
	}
}

// Goroutines may share a flow, and fork it.
func TestSharedFlow(t *testing.T) {
	k := newKit(t)
	var rows, running atomic.Int64
	k.link("count", func(_ context.Context, f kis.Flow) error {
		if running.Add(1) > 1 {
			t.Error("two runs of one copy at the same time")
		}
		defer running.Add(-1)
		rows.Add(int64(len(f.Input())))
		f.SetMetaData("last", len(f.Input()))
		return nil
	})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 25 {
				if err := errors.Join(k.flow.CommitRow(i), k.flow.Run(context.Background())); err != nil {
					t.Error(err)
				}
			}
			_ = k.flow.Fork(context.Background()).GetID()
		})
	}
	wg.Wait()
	if rows.Load() != 200 {
		t.Errorf("%d rows ran, want 200", rows.Load())
	}
}

// A run of a copy begins when the one before it has ended.
func TestRunsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t)
		gate, running := make(chan struct{}), new(atomic.Int64)
		k.link("wait", func(context.Context, kis.Flow) error {
			running.Add(1)
			<-gate
			return nil
		})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := k.flow.Run(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := running.Load(); n != 1 {
			t.Errorf("%d runs are in the function at the same time", n)
		}
		close(gate)
		wg.Wait()
		if n := running.Load(); n != 2 {
			t.Errorf("%d runs, want 2", n)
		}
	})
}

// A row of bytes is the flow's from when it is committed.
func TestCommittedBytesAreCopied(t *testing.T) {
	k := newKit(t)
	text := []byte(`{"id":1}`)
	k.link("commit", func(_ context.Context, f kis.Flow, rows []in) error {
		k.seen = append(k.seen, fmt.Sprint(rows))
		err := f.CommitRow(text)
		clear(text)
		return err
	})
	k.link("read", func(_ context.Context, _ kis.Flow, rows []in) error {
		k.seen = append(k.seen, fmt.Sprint(rows))
		return nil
	})
	given := []byte(`{"id":2}`)
	k.commit(given)
	clear(given)
	k.run()
	k.saw("[{2}]", "[{1}]")
}

// Registering delays no function, and no lock is held while one runs.
func TestRegisteringWhileAFlowRuns(t *testing.T) {
	k := newKit(t)
	began, end := make(chan struct{}), make(chan struct{})
	k.link("slow", func(context.Context, kis.Flow) error {
		close(began)
		<-end
		return nil
	})
	k.commit(1)
	ran := make(chan error)
	go func() { ran <- k.flow.Run(context.Background()) }()
	<-began
	k.registry.FaaS("late", pass)
	k.registry.CaaSInit("late", func(kis.Connector) error { return nil })
	k.registry.AddFlow("late", k.flow.Fork(context.Background()))
	if k.registry.GetFlow("late") == nil || len(k.registry.GetFlows()) != 1 || k.registry.GetFlow("none") != nil {
		t.Error("the flow is not known")
	}
	close(end)
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// own reads its rows itself, by a method on pointers; it takes texts only.
type own struct{ Length int }

func (*own) UnMarshal(rows []any, slice reflect.Type) (reflect.Value, error) {
	read := reflect.MakeSlice(slice, 0, len(rows))
	for _, row := range rows {
		text, ok := row.(string)
		if !ok {
			return reflect.Value{}, fmt.Errorf("%T is no text", row)
		}
		read = reflect.Append(read, reflect.ValueOf(own{len(text)}))
	}
	return read, nil
}

func (*own) Marshal(any) ([]any, error) { return nil, errors.New("not used") }

// half embeds the default and overrides half of it.
type half struct {
	kis.DefaultSerialize
	own
}

func (*half) UnMarshal(rows []any, slice reflect.Type) (reflect.Value, error) {
	return reflect.ValueOf(make([]half, len(rows))), nil
}

func (*half) Marshal(any) ([]any, error) { return nil, nil }

type plain struct {
	kis.DefaultSerialize
	ID int `json:"id"`
}

func TestSerializers(t *testing.T) {
	k := newKit(t)
	k.link("own", func(_ context.Context, f kis.Flow, rows []own, halves []half) error {
		k.seen = append(k.seen, fmt.Sprint(rows, len(halves)))
		return f.CommitRow(`{"id":7}`)
	})
	k.link("default", func(_ context.Context, _ kis.Flow, rows []*plain) error {
		k.seen = append(k.seen, fmt.Sprint(rows[0].ID))
		return nil
	})
	k.commit("four", 5, "sixsix")
	err := k.flow.Run(context.Background())
	if batch.CodeOf(err) != batch.CodeRowUndecodable || !strings.Contains(err.Error(), "row 1") || !strings.Contains(err.Error(), "int is no text") {
		t.Errorf("Run returned %v", err)
	}
	k.saw("[{4} {6}] 2", "7")
}

// coded is written and read as "code:" and its number, by methods on pointers; it reads nothing else.
type coded struct{ Number int }

func (*coded) UnMarshal(rows []any, slice reflect.Type) (reflect.Value, error) {
	read := reflect.MakeSlice(slice, len(rows), len(rows))
	for i, row := range rows {
		var c coded
		if _, err := fmt.Sscanf(fmt.Sprint(row), `"code:%d"`, &c.Number); err != nil {
			return reflect.Value{}, fmt.Errorf("%v is no code", row)
		}
		if into := read.Index(i); into.Kind() == reflect.Pointer {
			into.Set(reflect.ValueOf(&c))
		} else {
			into.Set(reflect.ValueOf(c))
		}
	}
	return read, nil
}

func (*coded) Marshal(value any) ([]any, error) {
	c, ok := value.(coded)
	if p, isPointer := value.(*coded); isPointer {
		c, ok = *p, true
	}
	if !ok || c.Number < 0 {
		return nil, fmt.Errorf("%v has no code", value)
	}
	return []any{fmt.Sprintf(`"code:%d"`, c.Number)}, nil
}

// What a row type with methods of its own writes is what another type reads, and what it reads itself again.
func TestSerializersWrite(t *testing.T) {
	k := newKit(t)
	k.link("make", func(_ context.Context, f kis.Flow, rows []*plain) error {
		for _, row := range rows {
			if err := f.CommitRow(&coded{row.ID}); err != nil {
				return err
			}
		}
		return nil
	})
	k.link("again", func(_ context.Context, f kis.Flow, codes []coded) error {
		k.seen = append(k.seen, fmt.Sprint(codes))
		return f.CommitRowBatch(codes)
	})
	k.link("texts", func(_ context.Context, _ kis.Flow, texts []string) error {
		k.seen = append(k.seen, fmt.Sprint(texts))
		return nil
	})
	k.commit(`{"id":4}`, `{"id":-1}`, `{"id":6}`)
	err := k.flow.Run(context.Background())
	if batch.CodeOf(err) != batch.CodeRowUndecodable || !strings.Contains(err.Error(), "row 1") || !strings.Contains(err.Error(), "has no code") {
		t.Errorf("Run returned %v", err)
	}
	k.saw("[{4} {6}]", "[code:4 code:6]")
}
