package flowexec

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/kisgrid/kisgrid/internal/sketch"
)

// FunctionTotals is what the lanes of a process have counted of one function in one flow since they use it.
type FunctionTotals struct {
	Flow, Function string
	// Count is another number when the totals have begun anew, at 0, because the flow did not have the function for a while.
	Count uint32
	// Rows is how many rows have entered the function. Errors is how many have died in it. Retries is how many calls were made again, or
	// are to be, after an error.
	Rows, Errors, Retries uint64
	// Times counts the runs by the time that they took in the function.
	Times [sketch.Buckets]uint64
}

// functionCounts are the counters behind FunctionTotals. Each run adds to them once for a function, and each dead row and retry once.
type functionCounts struct {
	count                 uint32 // does not change
	rows, errors, retries atomic.Uint64
	times                 [sketch.Buckets]atomic.Uint64
}

// observe counts the rows of a run that entered the function, and the time that it took for all of them. It may be called on nil.
func (c *functionCounts) observe(rows int, took time.Duration) {
	if c != nil {
		c.rows.Add(uint64(rows))
		c.times[sketch.Bucket(took)].Add(1)
	}
}

// died counts a row that has died in the function. It may be called on nil.
func (c *functionCounts) died() {
	if c != nil {
		c.errors.Add(1)
	}
}

// again counts a call that is made again after an error. It may be called on nil.
func (c *functionCounts) again() {
	if c != nil {
		c.retries.Add(1)
	}
}

// functionName names a function in a flow.
type functionName struct{ flow, function string }

// totals has the counts of all functions of a process. It is safe for concurrent use.
type totals struct {
	mu     sync.Mutex
	counts uint32                           // guarded by mu: how many functionCounts were made
	byName map[functionName]*functionCounts // guarded by mu
}

// of returns the counts of a function in a flow, and makes them if there are none.
func (t *totals) of(flow, function string) *functionCounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	name := functionName{flow, function}
	c := t.byName[name]
	if c == nil {
		t.counts++
		c = &functionCounts{count: t.counts}
		if t.byName == nil {
			t.byName = map[functionName]*functionCounts{}
		}
		t.byName[name] = c
	}
	return c
}

// forget drops the counts of a function in a flow; of all functions of the flow if function is empty.
func (t *totals) forget(flow, function string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.byName {
		if name.flow == flow && (function == "" || name.function == function) {
			delete(t.byName, name)
		}
	}
}

// died counts a row that has died in a function of a flow. It may be called on nil.
func (m *Metrics) died(flow, function string) {
	if m != nil {
		m.totals.of(flow, function).died()
	}
}

// FunctionTotals calls f with the totals of each function that lanes of the process use, in no order. f must not keep the pointer, nor call
// methods of m.
func (m *Metrics) FunctionTotals(f func(*FunctionTotals)) {
	m.totals.mu.Lock()
	defer m.totals.mu.Unlock()
	var now FunctionTotals
	for name, c := range m.totals.byName {
		now = FunctionTotals{
			Flow: name.flow, Function: name.function, Count: c.count,
			Rows: c.rows.Load(), Errors: c.errors.Load(), Retries: c.retries.Load(),
		}
		for i := range c.times {
			now.Times[i] = c.times[i].Load()
		}
		f(&now)
	}
}
