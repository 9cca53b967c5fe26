package flow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
)

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
	if err := k.flow.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "panic: oh") || !strings.Contains(err.Error(), "failures_test.go") {
		t.Errorf("Run returned %v", err)
	}
}

func TestRetries(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
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
