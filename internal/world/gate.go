package world

import (
	"errors"
	"sync"

	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// errKilled is the error that functions of a killed process return.
var errKilled = errors.New("the process was killed")

// gate is the forms.Env of a worker process: it stops the process's functions while the process is stopped, and releases those that block
// when it opens.
type gate struct {
	rec    *history.Recorder
	life   *history.Life
	poison func() // kills the process; it is called in a goroutine of its own

	mu      sync.Mutex
	goOn    sync.Cond     // stopped, dead or entered changed; its lock is mu
	came    int           // calls that have come to Enter; guarded by mu
	entered int           // those of them that were noted, in the order in which they came; guarded by mu
	stopped bool          // guarded by mu
	dead    bool          // guarded by mu
	open    bool          // released is closed; guarded by mu
	gone    bool          // over is closed; guarded by mu
	blocked chan struct{} // closed when blocked functions are to go on
	over    chan struct{} // closed when the process is dead or has ended: nothing that its functions return leaves it any more

	// memory is the newest connection of the memory connector; nil while no function has saved through one. Guarded by mu.
	memory memoryData
}

// memoryData is a connection of the memory connector, as its data can be read.
type memoryData interface {
	Data() (lists map[string][]string, hashes map[string]map[string]string)
}

// newGate makes the gate of a process.
func newGate(rec *history.Recorder, life *history.Life, poison func()) *gate {
	g := &gate{rec: rec, life: life, poison: poison, blocked: make(chan struct{}), over: make(chan struct{})}
	g.goOn.L = &g.mu
	return g
}

// Enter implements forms.Env. Calls that a watchdog gave up while the process was stopped are noted too, since their rows count as begun.
func (g *gate) Enter(r history.Run) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	turn := g.came
	g.came++
	for !g.dead && (g.stopped || turn != g.entered) {
		g.goOn.Wait()
	}
	if g.dead {
		return errKilled
	}
	g.entered++
	g.goOn.Broadcast()
	r.Process, r.Life = g.life.Process, g.life.Number
	g.rec.Ran(r)
	return nil
}

// Gate implements forms.Env.
func (g *gate) Gate() <-chan struct{} { return g.blocked }

// Poison implements forms.Env. It returns once the process is over: an answer that a function gives while its process still lives reaches the
// coordinator, and that of a killed process never does.
func (g *gate) Poison() {
	g.poison()
	<-g.over
}

// Saves implements forms.Env.
func (g *gate) Saves(c kis.Connection) {
	if handle, ok := c.(interface{ Unwrap() connector.Connection }); ok {
		c = handle.Unwrap()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.memory, _ = c.(memoryData)
}

// held returns the data of the memory connector, and false if no function has saved through it.
func (g *gate) held() (lists map[string][]string, hashes map[string]map[string]string, ok bool) {
	g.mu.Lock()
	memory := g.memory
	g.mu.Unlock()
	if memory == nil {
		return nil, nil, false
	}
	lists, hashes = memory.Data()
	return lists, hashes, true
}

// stop stops the functions that begin from now on, or lets them go on.
func (g *gate) stop(stopped bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = stopped
	g.goOn.Broadcast()
}

// release lets blocked functions go on, and all that block later.
func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open {
		g.open = true
		close(g.blocked)
	}
}

// kill says that the process is dead, and its connections are closed: its functions note nothing more, and return.
func (g *gate) kill() {
	g.mu.Lock()
	g.dead = true
	g.goOn.Broadcast()
	g.mu.Unlock()
	g.end()
}

// end says that the process is dead or has ended: its functions return.
func (g *gate) end() {
	g.release()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.gone {
		g.gone = true
		close(g.over)
	}
}
