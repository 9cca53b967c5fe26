package flowexec_test

import (
	"context"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// When the deadline passes between two functions, each row that the second one was to get fails, whichever rows the first one has dropped:
// none counts as done that was not called.
func TestDeadlineBetweenFunctions(t *testing.T) {
	for _, flowLines := range []string{"shard_key: k\n", ""} {
		bubble.Test(t, func(t *testing.T) {
			b := newBed(t, flowLines, func(b *bed, r *kis.Registry) {
				r.Func("v", kis.Verify(func(ctx context.Context, i in) error {
					switch i.N {
					case 0, 2:
						return kis.Drop("not wanted")
					case 4:
						<-ctx.Done() // until the deadline has passed
					}
					return nil
				}))
				r.Func("w", kis.Verify(func(_ context.Context, i in) error {
					b.note("w%d", i.N)
					return nil
				}))
			}, "v Verify", "w Verify")
			p := b.part([]string{"a 0", "b 1", "c 2", "d 3", "e 4"}, func(p *flowexec.Part) { p.Deadline = time.Now().Add(time.Second) })
			b.lanes.Enqueue(p)
			time.Sleep(time.Minute)
			b.expectEnded(p, "[0 1 2 3 4] 0 DROPPED v 1 DEADLINE w 2 DROPPED v 3 DEADLINE w 4 DEADLINE w")
			b.expect("")
		})
	}
}
