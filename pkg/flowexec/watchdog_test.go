package flowexec_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// The watchdog ends calls that take too long also where its own timer had the rows go on while no lane was busy: lanes may have begun before
// it looks whether any is.
func TestTimeoutsOfRowsThatGoOn(t *testing.T) {
	const lanes = 64
	for range 50 {
		bubble.Test(t, func(t *testing.T) {
			b := newBed(t, "shard_key: k\n", func(_ *bed, r *kis.Registry) {
				r.Func("r", kis.Verify(func(ctx context.Context, _ in) error {
					if kis.From(ctx).Attempt == 1 {
						return errors.New("not yet")
					}
					<-ctx.Done()
					return ctx.Err()
				}))
			}, "r Verify; timeout: 2s; retry_times: 1; retry_duration: 1s")
			b.lanes.Stop()
			b.lanes = flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: lanes})
			defer b.lanes.Stop()
			p := &flowexec.Part{Plan: b.plan, BatchRows: lanes, Attempt: 1, Done: b.done}
			for i := range lanes {
				p.Columns.Append([]byte(row("a", i)))
				p.Columns.Keys = append(p.Columns.Keys, uint64(i)<<16/lanes)
			}
			b.lanes.Enqueue(p)
			time.Sleep(time.Minute)
			synctest.Wait()
			times, _ := b.rows(p)
			if len(times) != lanes {
				t.Fatalf("after a minute %d of %d rows have ended: the others hang for longer than their timeout of 2s", len(times), lanes)
			}
		})
		if t.Failed() {
			return
		}
	}
}
