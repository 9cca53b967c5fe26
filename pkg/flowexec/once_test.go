package flowexec_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// A Load in KisFlow's shape whose rows are not saved yet is called again, for as long as it may wait.
func TestLoadInKisFlowsShapeWaits(t *testing.T) {
	for name, c := range map[string]struct {
		lines  string
		mode   string
		failed int // calls that fail
		calls  int // at least
		dead   bool
	}{
		"saved in time":   {"; wait: 10s", "Load", 12, 13, false},
		"never saved":     {"; wait: 10s", "Load", 1 << 20, 13, true},
		"does not wait":   {"; on_missing: dead", "Load", 1, 1, true},
		"is no Load":      {"", "Calculate", 1, 1, true},
		"retries besides": {"; wait: 1s; retry_times: 2", "Load", 3, 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				calls := 0
				registry := kis.NewRegistry()
				registry.FaaS("load", func(_ context.Context, f kis.Flow) error {
					if calls++; calls <= c.failed {
						return errors.New("not there")
					}
					return f.Next(kis.ActionDataReuse)
				})
				plan, err := flowexec.Compile(bundle(t, chain("", "load "+c.mode+c.lines)), registry)
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				result := plan.Once(t.Context(), []any{"1"}, flowexec.OnceConfig{})
				took := time.Since(began)
				if dead := len(result.NotDone) == 1 && result.NotDone[0].Outcome == batch.Dead && result.Err != nil; dead != c.dead {
					t.Errorf("the row ended as %+v: %v", result.NotDone, result.Err)
				}
				if calls < c.calls || took > 12*time.Second {
					t.Errorf("%d calls took %v", calls, took)
				}
			})
		})
	}
}
