package flowexec_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// stands tells where the rows of a key stand: part and row, stage, function, and what they wait for.
func (b *bed) stands(key string, most int, parts ...*flowexec.Part) string {
	b.t.Helper()
	synctest.Wait()
	stands, all := b.lanes.Locate(keyOf(key), most, func(p *flowexec.Part) bool { return slices.Contains(parts, p) })
	counts := map[flowexec.Stage]int{}
	for c, n := range all {
		if counts[c.Stage] += n; !c.Mine {
			b.t.Errorf("%d rows are counted as others'", n)
		}
	}
	var lines []string
	for _, s := range stands {
		at := "?"
		for i, p := range parts {
			if s.Part == p {
				at = string(rune('a' + i))
			}
		}
		line := fmt.Sprintf("%s%d %s", at, s.Row, s.Stage)
		for _, more := range []string{s.Function, string(s.Wait), s.Connector, s.Key} {
			if more != "" {
				line += " " + more
			}
		}
		if s.Attempt > 0 {
			line += fmt.Sprintf(" attempt %d", s.Attempt)
		}
		if !s.Since.IsZero() {
			line += fmt.Sprintf(" at %v", s.Since.Sub(b.begin))
		}
		switch {
		case s.Due.IsZero():
		case s.Wait == flowexec.ForRetry: // the pause is jittered
			line += " until then"
		default:
			line += fmt.Sprintf(" until %v", s.Due.Sub(b.begin))
		}
		lines = append(lines, line)
	}
	return fmt.Sprintf("%v %s", counts, strings.Join(lines, "; "))
}

func (b *bed) expectStands(key string, most int, want string, parts ...*flowexec.Part) {
	b.t.Helper()
	if got := b.stands(key, most, parts...); got != want {
		b.t.Errorf("key %s stands\n%s\nnot\n%s", key, got, want)
	}
}

// TestStandsOfParked tells what parked rows wait for, and that those behind them wait for these.
func TestStandsOfParked(t *testing.T) {
	t.Run("a key", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			b := newBed(t, "shard_key: k\n", loader, "l Load", "v Verify")
			first := b.send("x 1", "y 2", "x 3")
			second := b.send("x 4")
			b.expectStands("x", 9, "map[parked:3] a0 parked l key store s_x at 0s until 30s; a2 parked l order at 0s; b0 parked l order at 0s", first, second)
			b.expectStands("x", 1, "map[parked:3] a0 parked l key store s_x at 0s until 30s", first, second)
			b.expectStands("z", 9, "map[] ", first)
			time.Sleep(5 * time.Second)
			b.save("x")
			b.expectEnded(first, "[0 2] 0→x1 2→x3")
			b.expectStands("x", 9, "map[] ", first, second)
			b.expectStands("y", 9, "map[parked:1] a1 parked l key store s_y at 0s until 30s", first)
		})
	})
	t.Run("a retry", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			b := newBed(t, "shard_key: k\n", failing, "r Verify; retry_times: 9; retry_duration: 100ms")
			p := b.send("x 9", "x 1")
			b.expectStands("x", 9, "map[parked:2] a0 parked r retry attempt 2 at 0s until then; a1 parked r order at 0s", p)
		})
	})
}

// TestStandsOfRunning tells what a lane runs, in which function, and what is queued behind it.
func TestStandsOfRunning(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		goOn, enter := make(chan struct{}), make(chan struct{})
		b := newBed(t, "shard_key: k\n", func(_ *bed, r *kis.Registry) {
			r.Func("v", kis.Verify(func(context.Context, in) error { <-goOn; return nil }))
		}, "v Verify")
		first := b.send("x 1", "x 2", "y 3")
		time.Sleep(2 * time.Second)
		second := b.send("y 4", "x 5")
		b.expectStands("x", 9, "map[lane:1 running:2] a0 running v at 0s; a1 running v at 0s; b1 lane", first, second)
		b.expectStands("x", 1, "map[lane:1 running:2] a0 running v at 0s", first, second)
		close(goOn)
		b.expectStands("x", 9, "map[] ", first, second)
		held := &flowexec.Part{Plan: b.plan, BatchRows: 1, Attempt: 1, Done: b.done, Enter: func(context.Context, []uint32) func() {
			<-enter
			return func() {}
		}}
		held.Columns.Append([]byte(row("x", 6)))
		held.Columns.Keys = []uint64{keyOf("x")}
		b.lanes.Enqueue(held)
		b.expectStands("x", 9, "map[entering:1] a0 entering at 2s", held)
		close(enter)
	})
}
