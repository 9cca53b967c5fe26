package worker

import (
	"context"
	"sync"
)

// A run may hold the output of its functions up to the budget divided by runShares, and at least leastRunBytes, before rows of
// it wait.
const (
	runShares     = 32        // a run may hold the budget in bytes divided by runShares
	leastRunBytes = 256 << 10 // a run may hold at least so many bytes, however small the budget is
)

// The rows that functions make of one input row, which can't wait for one another, may take the budget growthBudgets times, and at least leastGrowthBytes.
// Then that row is dead, since the worker would be, else.
const (
	growthBudgets    = 2
	leastGrowthBytes = 128 << 20
)

// outputMemory limits the memory of output: rows that functions pass on, for which coordinators need no credit. A lane asks
// before it begins a run. The output of a run takes memory until the coordinator has it. The policy:
//
//   - A run begins as long as the held output and the expected output of all runs under way fit. The expected output of a run is what
//     recent runs of its flow made.
//   - One run may always be under way while no more than half of the memory is held. Otherwise a run that is expected to make more than
//     the whole memory would never begin.
//   - One run at a time may grow beyond the limit of a run, where the run can't be divided: the run of a batch without keys.
//   - An account that holds nothing and has no run under way may always begin one, whatever the others hold. So a flow whose coordinator
//     takes nothing can't stop another flow, and a flow with much output can't stop the flow that its rows wait for.
//
// So the held output may exceed the memory by the first runs of a flow with much output, and by one run for each account.
// Parked rows take none of this memory, because the rows that they wait for may have to run here. Output that the coordinator
// has, and its clients have not taken, is the coordinator's memory: clientBacklog makes runs wait for that.
type outputMemory struct {
	size int64 // limit in bytes; never changes

	mu sync.Mutex
	// The fields below are guarded by mu. held is the bytes of output that coordinators don't have yet.
	held     int64
	stalled  int64         // bytes of finished output that waits in waitToSend for clients to take earlier output
	expected int64         // bytes that the runs under way are expected to make
	running  int           // runs under way
	growing  *heldPart     // the part whose run, without keys, may grow beyond the limit of a run; nil means none
	waiting  int           // lanes that wait
	changed  chan struct{} // closed, and replaced by a new channel, when a waiting lane should look again
	draining bool          // the worker drains: no run waits for clients any more
}

// outputAccount is the share of one account, which is one flow of one coordinator, in the output memory. Its fields are
// guarded by the lock of outputMemory.
type outputAccount struct {
	memory    *outputMemory  // has the lock
	backlog   *clientBacklog // the backlog of the account's coordinator
	flow      string
	held      int64  // bytes of output that the coordinator does not have yet
	stalled   int64  // bytes of finished output that waits for clients
	expected  int64  // bytes that the runs under way are expected to make
	running   int    // runs under way
	estimate  int64  // expected output of the next run: the largest of recent runs, an eighth less with each run since
	handBacks uint64 // how often rows of the account were handed back
}

// newOutputMemory makes an output memory of size bytes, in which nothing is held.
func newOutputMemory(size int64) *outputMemory {
	return &outputMemory{size: size, changed: make(chan struct{})}
}

// fits reports whether the policy of outputMemory lets one more run of this account begin. The caller holds the lock.
func (a *outputAccount) fits() bool {
	m := a.memory
	switch held := m.held + m.stalled; {
	case held+m.expected+a.estimate <= m.size:
		return true
	case m.running == 0 && held <= m.size/2:
		return true
	}
	return a.held == 0 && a.running == 0
}

// beginRun blocks until there is memory for a run and clients keep up, or ctx is done; the caller has to check ctx. It returns
// the expected output in bytes, with which endRun must be called after the run. A wait for clients ends when rows of the
// account are handed back.
func (a *outputAccount) beginRun(ctx context.Context) (expected int64) {
	m := a.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	before := a.handBacks
	if !a.fits() || !a.clientsKeepUp() {
		pointOutputWaits.Hit()
	}
	m.wait(ctx, func() bool { return a.fits() && (a.clientsKeepUp() || a.handBacks != before) })
	a.addRuns(1, a.estimate)
	return a.estimate
}

// addRuns adds runs, which may be negative, to the runs under way, and expected to their expected output. The caller holds the
// lock.
func (a *outputAccount) addRuns(runs int, expected int64) {
	m, b := a.memory, a.backlog
	m.running, a.running, b.running = m.running+runs, a.running+runs, b.running+runs
	m.expected, a.expected, b.expected = m.expected+expected, a.expected+expected, b.expected+expected
}

// grow blocks until the run of a part, which can't be divided, may hold more output than other runs, or ctx is done. One such
// run at a time may, and only when at least seven eighths of the memory are free. Finished output of other accounts that
// waits for clients does not count: each account may have one run of this kind waiting.
func (a *outputAccount) grow(ctx context.Context, p *heldPart) {
	m := a.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wait(ctx, func() bool { return m.growing == nil && m.held+a.stalled <= m.size/8 })
	if m.growing == nil {
		pointGrows.Hit()
		m.growing = p
	}
}

// wait blocks until the function is returns true, or ctx is done. The caller holds the lock, which wait gives up while it
// sleeps; is runs under the lock.
func (m *outputMemory) wait(ctx context.Context, is func() bool) {
	for !is() && ctx.Err() == nil {
		changed := m.changed
		m.waiting++
		m.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		m.mu.Lock()
		m.waiting--
	}
}

// endRun notes that a run of the part is over. expected is the number that beginRun returned for this run.
func (a *outputAccount) endRun(p *heldPart, expected int64) {
	m := a.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.growing == p {
		m.growing = nil
	}
	a.addRuns(-1, -expected)
	m.notify()
}

// hold counts output of a run. made says that this output is counted for the first time; then it also changes the estimate.
func (a *outputAccount) hold(bytes int64, made bool) {
	m := a.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	a.addHeld(bytes)
	if made {
		a.estimate = max(bytes, a.estimate-a.estimate/8)
	}
}

// release takes bytes of output off the memory, because the coordinator has them or because they were thrown away.
func (a *outputAccount) release(bytes int64) {
	m := a.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	a.addHeld(-bytes)
	m.notify()
}

// addHeld adds bytes, which may be negative, to the held output. The caller holds the lock.
func (a *outputAccount) addHeld(bytes int64) {
	a.memory.held, a.held, a.backlog.held = a.memory.held+bytes, a.held+bytes, a.backlog.held+bytes
}

// notify wakes every lane that waits for output memory or for clients, so that it checks its condition again. The caller
// holds the lock.
func (m *outputMemory) notify() {
	if m.waiting > 0 {
		close(m.changed)
		m.changed = make(chan struct{})
	}
}
