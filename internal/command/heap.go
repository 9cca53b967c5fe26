package command

import (
	"os"
	"runtime/debug"
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
