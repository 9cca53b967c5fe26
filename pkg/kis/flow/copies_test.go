package flow_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
)

func TestCacheAndMetadata(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
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
	bubble.Test(t, func(t *testing.T) {
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
