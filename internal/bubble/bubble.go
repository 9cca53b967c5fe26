package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Test runs f in a bubble of testing/synctest, as synctest.Test does, and blocks until all goroutines of the bubble have ended. Several tests
// may call Test at the same time.
func Test(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	OneProcessor(t)
	synctest.Test(t, f)
}

// OneProcessor makes the whole program run on one processor until the test ends, if the race detector is on; else it does nothing. A test
// that makes its bubble by synctest.Test calls it before time passes there.
//
// Go 1.26 gives all timers of a bubble one state in the race detector, and a goroutine that looks into the channel of a timer that has just
// fired uses this state too (maybeRunChan in runtime/time.go). Two processors that do so at once destroy it, and the program ends with a
// segmentation violation. On one processor they can't, and the race detector sees just as much: it asks which accesses are ordered by
// synchronization, not which ones happen at the same time.
func OneProcessor(t interface {
	Helper()
	Cleanup(f func())
}) {
	t.Helper()
	if Race {
		oneProcessor.begin()
		t.Cleanup(oneProcessor.end)
	}
}

// oneProcessor keeps the program on one processor while there are bubbles, or tests of them.
var oneProcessor processors

// processors counts the tests with bubbles, under its lock.
type processors struct {
	mu     sync.Mutex
	tests  int // that run now
	before int // how many processors the program had before the first of them
}

// begin takes all processors but one away from the program, if this is the first test.
func (p *processors) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tests++; p.tests == 1 {
		p.before = runtime.GOMAXPROCS(1)
	}
}

// end gives the processors back after the last test.
func (p *processors) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tests--; p.tests == 0 {
		runtime.GOMAXPROCS(p.before)
	}
}
