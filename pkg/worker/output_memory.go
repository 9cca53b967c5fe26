package worker

import (
	"context"
	"sync"
)

// A run holds, of what functions make of its rows, the budget over runShare, before rows of it wait; at least leastRunBytes.
const (
	runShares     = 32
	leastRunBytes = 256 << 10
)

// room is memory for what functions pass on, which nobody gives credit for. Lanes ask for room before they begin a run, and what a
// run made takes room until its coordinator has it. The policy:
//
//   - A run begins as long as all that is held, and what the runs under way are expected to make, fits. A run is expected to make
//     what those of its flow made lately.
//   - One run may always be under way while no more than half of the room is held: else a run that is expected to make more than
//     all of it never began.
//   - One run at a time may grow beyond what a run is to hold, where it can't be divided: that of a batch without keys.
//   - An account that holds nothing, and of which no run is under way, may always begin one, whatever the others hold. So a flow
//     whose coordinator takes nothing can't hold up the flow of another, nor one that makes much the one that its rows wait for.
//
// So what is held may be over the room by what the first runs make of a flow that makes much, and by one run for each account.
// Rows that are parked take none: what they wait for may have to run here. What a coordinator has and its clients have not taken is
// the coordinator's memory: outlet.go has a run wait for that.
type outputMemory struct {
	size int64

	mu       sync.Mutex
	held     int64         // bytes that coordinators do not have yet; guarded by mu, as what follows
	stalled  int64         // bytes that runs have made, and that wait for clients to take others
	expected int64         // that the runs under way will make
	running  int           // runs
	growing  *heldPart     // that whose run, without keys, makes more than a run is to hold; nil: there is none
	waiting  int           // lanes that wait for room
	changed  chan struct{} // closed, and replaced, when there may be room for one that waits
	draining bool          // no run waits for clients any more
}

// tenant is an account's part of a room. Its fields are guarded by the room's lock.
type outputAccount struct {
	memory    *outputMemory
	backlog   *clientBacklog // of its coordinator
	flow      string
	held      int64
	stalled   int64
	expected  int64
	running   int
	estimate  int64  // what a run made: the most, less an eighth for each since then
	handBacks uint64 // how often rows of it were asked back
}

func newOutputMemory(size int64) *outputMemory {
	return &outputMemory{size: size, changed: make(chan struct{})}
}

// fits reports whether there is room for a run. It is called with the lock held.
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

// enter waits until there is room for a run and its output may go on to clients, or ctx is done: then the run has to find that out
// for itself. It returns what leave is to be called with.
func (a *outputAccount) beginRun(ctx context.Context) (expected int64) {
	m := a.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	before := a.handBacks
	m.wait(ctx, func() bool { return a.fits() && (a.clientsKeepUp() || a.handBacks != before) })
	a.addRuns(1, a.estimate)
	return a.estimate
}

// counts notes that so many more runs are under way, or with a number below 0 so many less. It is called with the lock held.
func (a *outputAccount) addRuns(runs int, expected int64) {
	m, b := a.memory, a.backlog
	m.running, a.running, b.running = m.running+runs, a.running+runs, b.running+runs
	m.expected, a.expected, b.expected = m.expected+expected, a.expected+expected, b.expected+expected
}

// grow waits until a run that can't be divided may hold more than others do: one at a time may, when most of the room is free. What
// other accounts' runs have made, and their clients take slowly, does not count: each account may have one such run.
func (a *outputAccount) grow(ctx context.Context, p *heldPart) {
	m := a.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wait(ctx, func() bool { return m.growing == nil && m.held+a.stalled <= m.size/8 })
	if m.growing == nil {
		m.growing = p
	}
}

// wait waits for something that changes with the room, or until ctx is done. It is called with the lock held.
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

// leave says that a run of the part is no longer under way.
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

// hold counts what a run made; made: it is the first time that it is counted.
func (a *outputAccount) hold(bytes int64, made bool) {
	m := a.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	a.addHeld(bytes)
	if made {
		a.estimate = max(bytes, a.estimate-a.estimate/8)
	}
}

// release counts out what a coordinator has, or nobody will ask for.
func (a *outputAccount) release(bytes int64) {
	m := a.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	a.addHeld(-bytes)
	m.notify()
}

// holds counts bytes that the coordinator does not have. It is called with the lock held.
func (a *outputAccount) addHeld(bytes int64) {
	a.memory.held, a.held, a.backlog.held = a.memory.held+bytes, a.held+bytes, a.backlog.held+bytes
}

// tell has those look again that wait. It is called with the lock held.
func (m *outputMemory) notify() {
	if m.waiting > 0 {
		close(m.changed)
		m.changed = make(chan struct{})
	}
}
