package command

// ballast is memory that nobody touches: no page of it exists.
var ballast []byte //nolint:unused // being held is its use

// SteadyHeap is for processes through which rows stream: they hold little and make much garbage, so that the collector, which
// runs whenever what is held has doubled, would hardly do anything else. It lets 32 MiB more gather before each collection, for
// as long as the process lives. Call it once.
func SteadyHeap() { ballast = make([]byte, 32<<20) }
