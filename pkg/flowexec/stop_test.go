package flowexec_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Stop ends rows, too, whose deadline has passed while they were parked behind others of their key, and whose lane has not come to them yet.
func TestStopWithRowsPastTheirDeadline(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\ntimeout: 2h\n", func(_ *bed, r *kis.Registry) {
			r.Func("r", kis.Verify(func(ctx context.Context, i in) error {
				if i.K == "b" {
					<-ctx.Done() // keeps the lane busy until Stop
					return ctx.Err()
				}
				return errors.New("not yet")
			}))
		}, "r Verify; timeout: 1h; retry_times: 1; retry_duration: 30m")
		rows := []string{"a 0"}
		for i := range 8 {
			rows = append(rows, fmt.Sprintf("a %d", i+1))
		}
		first := b.send(rows[:1]...)
		synctest.Wait()
		p := b.part(rows[1:], func(p *flowexec.Part) { p.Deadline, p.OneByOne = time.Now().Add(time.Second), true })
		b.lanes.Enqueue(p)
		synctest.Wait()
		b.send("b 1")
		time.Sleep(time.Minute)
		b.lanes.Stop()
		b.expectEnded(first, "[0] 0 returned ")
		if times, _ := b.rows(p); len(times) != p.Len() {
			t.Errorf("%d of %d rows have ended", len(times), p.Len())
		}
	})
}
