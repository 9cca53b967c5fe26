package coordinator

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestBacklogIsTold lets results come, be acknowledged and be taken in any order, and sessions break with messages on their way. With
// what is due told, a worker never believes that much more is untaken than is, nor that anything is where nothing is; and of what it was
// acknowledged it knows, to the last step.
func TestBacklogIsTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 16_000
		woken := false
		b := newUntakenResults(func() { woken = true })
		believed, under, lost := map[string]int64{}, []*result{}, false
		hear := func(all []*pb.Untaken) {
			for _, u := range all {
				believed[u.GetFlow()] = int64(u.GetBytes())
			}
		}
		begin := func() {
			lost = false
			clear(believed)
			hear(b.begin(limit))
		}
		acknowledge := func() {
			var m pb.CoordinatorMessage
			if b.tell(&m, limit); !lost {
				hear(m.GetUntaken())
			}
		}
		begin()
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1, 2, 3:
				r := &result{Result: &pb.Result{
					Flow:   rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "flow"),
					Output: &pb.Output{Rows: &pb.Columns{Data: make([]byte, rapid.IntRange(0, 4000).Draw(t, "bytes"))}},
				}}
				r.count(b)
				under = append(under, r)
				acknowledge()
			case 4, 5, 6, 7:
				if len(under) > 0 {
					i := rapid.IntRange(0, len(under)-1).Draw(t, "taken")
					under[i].taken()
					if under[i].taken(); b.due() && !woken {
						t.Fatal("the worker is to be told, and nobody was woken for it")
					}
					under[i].taken() // once counts
					under = append(under[:i], under[i+1:]...)
				}
			case 8:
				lost = true // what is said from now on does not arrive
			case 9:
				begin()
			}
			if woken || b.due() {
				acknowledge()
			}
			if woken = false; b.due() {
				t.Fatal("the worker was told, and something is due at once")
			}
			if lost {
				continue
			}
			sums, total, known := map[string]int64{}, int64(0), int64(0)
			for _, r := range under {
				sums[r.GetFlow()] += r.untakenBytes.Load()
				total += r.untakenBytes.Load()
			}
			for flow, bytes := range believed {
				if known += bytes; bytes > 0 && sums[flow] == 0 {
					t.Fatalf("the worker believes that %d bytes of flow %s are untaken, and none are", bytes, flow)
				}
			}
			if diff := total - known; diff >= limit/tellShare || diff <= -limit/tellShare {
				t.Fatalf("%d bytes are untaken, and the worker believes %d", total, known)
			}
		}
		for _, r := range under {
			r.taken()
		}
		begin()
		if len(b.flows) > 0 || b.total != 0 || b.due() || len(believed) > 0 {
			t.Fatalf("at the end %d bytes are untaken, of %s", b.total, fmt.Sprint(b.flows))
		}
	})
}
