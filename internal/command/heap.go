package command

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// ballast is memory that nobody touches: no page of it exists.
var ballast []byte //nolint:unused // being held is its use

const ballastBytes = 32 << 20

// SteadyHeap is for processes through which rows stream: they hold little and make much garbage, so that the collector, which
// runs whenever what is held has doubled, would hardly do anything else. It lets 32 MiB more gather before each collection, for
// as long as the process lives. Call it once.
func SteadyHeap() { ballast = make([]byte, ballastBytes) }

// LimitHeap is for processes whose memory follows budgets, of so many bytes together: when these are used up, what is held must
// not double before the collector runs. It does nothing where the environment has GOMEMLIMIT.
func LimitHeap(budgets int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(budgets + ballastBytes)
	}
}

// FollowHeap is for processes that run functions of others, whose memory no budget tells. As long as little is alive, the collector
// runs before the process has much more than so many bytes of budgets, or 16 MiB more than was alive; where functions keep much, it
// runs when a quarter more is there than was alive. It does nothing where the environment has GOMEMLIMIT or GOGC. Call it once; it lasts as long as the process.
func FollowHeap(budgets int64) {
	if os.Getenv("GOMEMLIMIT") == "" && os.Getenv("GOGC") == "" {
		(&heapLimiter{floor: budgets + 2*ballastBytes, live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}).follow()
	}
}

// follower sets the limit anew after each collection.
type heapLimiter struct {
	floor, limit int64
	live         []metrics.Sample
}

// collected is garbage as soon as it is made: its finalizer runs after each collection, in the runtime's goroutine for those.
type collectionSignal struct{ f *heapLimiter }

func (f *heapLimiter) follow() {
	metrics.Read(f.live)
	live := int64(f.live[0].Value.Uint64())
	more := live / 4
	if live < 2*f.floor {
		more = ballastBytes / 2
	}
	if limit := max(f.floor, live+more); limit < f.limit-f.limit/16 || limit > f.limit {
		f.limit = limit
		debug.SetMemoryLimit(limit)
	}
	runtime.SetFinalizer(&collectionSignal{f}, func(c *collectionSignal) { c.f.follow() })
}
