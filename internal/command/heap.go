package command

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// ballast is memory that is allocated and never touched, so that it uses no physical memory. The garbage collector counts it
// and so runs less often.
var ballast []byte //nolint:unused // being held is its use

// ballastBytes is the size of ballast, and so how many more bytes of garbage may gather before a collection.
const ballastBytes = 32 << 20

// SteadyHeap makes the garbage collector run less often, for as long as the process lives: 32 MiB more garbage may gather
// before each collection. It is for processes through which rows stream. They hold little memory and make much garbage, so the
// collector, which runs when the memory has doubled, would run almost all the time. Call it once.
func SteadyHeap() { ballast = make([]byte, ballastBytes) }

// LimitHeap limits the heap of a process that holds data only within budgets, which are budgets bytes together: when the
// budgets are used up, the garbage collector runs before the memory has doubled. It does nothing when the environment has
// GOMEMLIMIT.
func LimitHeap(budgets int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(budgets + ballastBytes)
	}
}

// FollowHeap limits the heap of a process that runs users' functions, whose memory no budget counts. budgets is the sum of the
// process's budgets in bytes. While no more memory is in use than about twice that, the garbage collector runs at the latest when
// the memory reaches the larger of two sizes: budgets plus 64 MiB, or the memory in use at the last collection plus 16 MiB. While
// functions keep more memory, it runs when the memory has grown by a quarter. FollowHeap does nothing when the environment has
// GOMEMLIMIT or GOGC. Call it once; it lasts as long as the process.
func FollowHeap(budgets int64) {
	if os.Getenv("GOMEMLIMIT") == "" && os.Getenv("GOGC") == "" {
		(&heapLimiter{floor: budgets + 2*ballastBytes, live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}).follow()
	}
}

// heapLimiter sets the memory limit again after each garbage collection.
type heapLimiter struct {
	floor, limit int64            // the lowest limit, and the limit that is set now; bytes
	live         []metrics.Sample // the runtime's metric of memory that was alive at the last collection
}

// collectionSignal is a value that is garbage as soon as it is made. Its finalizer so runs after each collection, in the
// runtime's goroutine for finalizers.
type collectionSignal struct{ f *heapLimiter }

// follow sets the memory limit by the memory that is in use now, and arranges that it runs again after the next garbage
// collection.
func (f *heapLimiter) follow() {
	metrics.Read(f.live)
	live := int64(f.live[0].Value.Uint64())
	more := live / 4
	if live < 2*f.floor { // little memory is alive
		more = ballastBytes / 2
	}
	if limit := max(f.floor, live+more); limit < f.limit-f.limit/16 || limit > f.limit {
		f.limit = limit
		debug.SetMemoryLimit(limit)
	}
	runtime.SetFinalizer(&collectionSignal{f}, func(c *collectionSignal) { c.f.follow() })
}
