package worker

import (
	"context"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/flowexec"
)

// A run holds, of what functions make of its rows, the budget over runShare, before rows of it wait; at least leastRunBytes.
const (
	runShare      = 32
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
type room struct {
	size int64

	mu       sync.Mutex
	held     int64         // bytes that coordinators do not have yet; guarded by mu, as what follows
	stalled  int64         // bytes that runs have made, and that wait for clients to take others
	expected int64         // that the runs under way will make
	running  int           // runs
	large    *part         // that whose run, without keys, makes more than a run is to hold; nil: there is none
	waiting  int           // lanes that wait for room
	changed  chan struct{} // closed, and replaced, when there may be room for one that waits
	draining bool          // no run waits for clients any more
}

// tenant is an account's part of a room. Its fields are guarded by the room's lock.
type tenant struct {
	room     *room
	outlet   *outlet // of its coordinator
	flow     string
	held     int64
	stalled  int64
	expected int64
	running  int
	lately   int64  // what a run made: the most, less an eighth for each since then
	recalls  uint64 // how often rows of it were asked back
}

func newRoom(size int64) *room { return &room{size: size, changed: make(chan struct{})} }

// fits reports whether there is room for a run. It is called with the lock held.
func (t *tenant) fits() bool {
	r := t.room
	switch held := r.held + r.stalled; {
	case held+r.expected+t.lately <= r.size:
		return true
	case r.running == 0 && held <= r.size/2:
		return true
	}
	return t.held == 0 && t.running == 0
}

// enter waits until there is room for a run and its output may go on to clients, or ctx is done: then the run has to find that out
// for itself. It returns what leave is to be called with.
func (t *tenant) enter(ctx context.Context) (expected int64) {
	r := t.room
	r.mu.Lock()
	defer r.mu.Unlock()
	before := t.recalls
	r.wait(ctx, func() bool { return t.fits() && (t.goesOn() || t.recalls != before) })
	t.counts(1, t.lately)
	return t.lately
}

// counts notes that so many more runs are under way, or with a number below 0 so many less. It is called with the lock held.
func (t *tenant) counts(runs int, expected int64) {
	r, o := t.room, t.outlet
	r.running, t.running, o.running = r.running+runs, t.running+runs, o.running+runs
	r.expected, t.expected, o.expected = r.expected+expected, t.expected+expected, o.expected+expected
}

// grow waits until a run that can't be divided may hold more than others do: one at a time may, when most of the room is free. What
// other accounts' runs have made, and their clients take slowly, does not count: each account may have one such run.
func (t *tenant) grow(ctx context.Context, p *part) {
	r := t.room
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wait(ctx, func() bool { return r.large == nil && r.held+t.stalled <= r.size/8 })
	if r.large == nil {
		r.large = p
	}
}

// wait waits for something that changes with the room, or until ctx is done. It is called with the lock held.
func (r *room) wait(ctx context.Context, is func() bool) {
	for !is() && ctx.Err() == nil {
		changed := r.changed
		r.waiting++
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		r.mu.Lock()
		r.waiting--
	}
}

// leave says that a run of the part is no longer under way.
func (t *tenant) leave(p *part, expected int64) {
	r := t.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.large == p {
		r.large = nil
	}
	t.counts(-1, -expected)
	r.tell()
}

// hold counts what a run made; made: it is the first time that it is counted.
func (t *tenant) hold(bytes int64, made bool) {
	r := t.room
	r.mu.Lock()
	defer r.mu.Unlock()
	t.holds(bytes)
	if made {
		t.lately = max(bytes, t.lately-t.lately/8)
	}
}

// release counts out what a coordinator has, or nobody will ask for.
func (t *tenant) release(bytes int64) {
	r := t.room
	r.mu.Lock()
	defer r.mu.Unlock()
	t.holds(-bytes)
	r.tell()
}

// holds counts bytes that the coordinator does not have. It is called with the lock held.
func (t *tenant) holds(bytes int64) {
	t.room.held, t.held, t.outlet.held = t.room.held+bytes, t.held+bytes, t.outlet.held+bytes
}

// tell has those look again that wait. It is called with the lock held.
func (r *room) tell() {
	if r.waiting > 0 {
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

// made is about how many bytes a run ended with.
func made(run *flowexec.RunResult) int64 {
	bytes := len(run.Output.Rows.Data) + outputRowBytes*run.Output.Rows.Len() + sizeOfDead(run.Dead)
	for i := range run.NotDone {
		bytes += sizeOf(&run.NotDone[i])
	}
	return int64(bytes)
}
