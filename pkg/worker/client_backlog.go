package worker

import (
	"context"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// outletShare is the part of an outlet that each flow is sure of, whatever is untaken of the others.
const backlogShares = 16

// outlet is the way of what functions pass on through one coordinator to its clients. The coordinator tells how much of it clients
// have not taken yet, and how much that may be, so that a client which takes its answers slowly slows its flow down, instead of
// using up the coordinator's memory. What is untaken and what this worker holds for the coordinator count together. The policy:
//
//   - A run begins as long as that, and what the runs under way are expected to make, is within the limit.
//   - One run may always be under way while no more than half of the limit is used.
//   - Each flow is sure of a small share, and may always begin one run while nothing of it is held or untaken, nor runs. So a
//     flow whose clients take nothing can't hold up another one.
//   - The output of a run without keys, which may be large, leaves in pieces under the same rules.
//
// No run waits for clients once its rows are asked back, the worker drains, or the coordinator is forgotten: its output goes to
// the coordinator then, or nowhere. Coordinators of earlier builds have no limit.
//
// Its fields are guarded by the room's lock.
type clientBacklog struct {
	memory *outputMemory

	limit        int64            // bytes; 0: none
	untaken      map[string]int64 // bytes, by flow
	untakenTotal int64            // of untaken
	held         int64            // of all accounts, as is what follows
	expected     int64
	running      int
}

func newClientBacklog(m *outputMemory) *clientBacklog {
	return &clientBacklog{memory: m, untaken: map[string]int64{}}
}

// begin is the beginning of a session: what the one before told is forgotten.
func (b *clientBacklog) reset(hello *pb.Hello, untaken []*pb.Untaken) {
	b.memory.mu.Lock()
	defer b.memory.mu.Unlock()
	clear(b.untaken)
	b.limit, b.untakenTotal = int64(hello.GetUntakenLimit()), 0
	b.apply(untaken)
}

// told takes in what a message says.
func (b *clientBacklog) update(m *pb.CoordinatorMessage) {
	if len(m.GetUntaken()) == 0 && m.GetUntakenLimit() == 0 {
		return
	}
	b.memory.mu.Lock()
	defer b.memory.mu.Unlock()
	if limit := int64(m.GetUntakenLimit()); limit > 0 && b.limit > 0 {
		b.limit = limit
	}
	b.apply(m.GetUntaken())
}

// take takes in how much is untaken of some flows. It is called with the lock held.
func (b *clientBacklog) apply(all []*pb.Untaken) {
	for _, u := range all {
		flow, bytes := u.GetFlow(), int64(u.GetBytes())
		b.untakenTotal += bytes - b.untaken[flow]
		if b.untaken[flow] = bytes; bytes == 0 {
			delete(b.untaken, flow)
		}
	}
	b.memory.notify()
}

// close has no run wait for the coordinator's clients any more.
func (b *clientBacklog) close() { b.reset(nil, nil) }

// goesOn reports whether what a run makes may go on to clients. It is called with the room's lock held.
func (a *outputAccount) clientsKeepUp() bool {
	b, its := a.backlog, a.backlog.untaken[a.flow]+a.held
	switch used := b.untakenTotal + b.held; {
	case b.limit <= 0 || b.memory.draining:
	case used+b.expected+a.estimate <= b.limit:
	case b.running == 0 && used <= b.limit/2:
	case its+a.expected+a.estimate <= b.limit/backlogShares:
	default:
		return its == 0 && a.running == 0
	}
	return true
}

// pass waits until a piece of what a run of the part has made may leave for the coordinator; left is how many bytes of the run are
// still here, the piece among them. It returns at once when ctx is done.
func (a *outputAccount) waitToSend(ctx context.Context, p *heldPart, bytes, left int64) {
	m := a.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.pieceMayLeave(bytes) {
		return
	}
	if m.growing == p {
		m.growing = nil // it grows no more, and may be here for long
	}
	before := a.handBacks
	m.stalled, a.stalled = m.stalled+left, a.stalled+left
	m.notify()
	m.wait(ctx, func() bool { return a.pieceMayLeave(bytes) || a.handBacks != before })
	m.stalled, a.stalled = m.stalled-left, a.stalled-left
	m.notify()
}

// passes reports whether a piece may leave. It is called with the room's lock held.
func (a *outputAccount) pieceMayLeave(bytes int64) bool {
	b, its := a.backlog, a.backlog.untaken[a.flow]+a.held
	switch used := b.untakenTotal + b.held; {
	case b.limit <= 0 || b.memory.draining:
	case used+bytes <= b.limit || used <= b.limit/2:
	default:
		return its == 0 || its+bytes <= b.limit/backlogShares
	}
	return true
}

// recall lets the runs go on that wait for clients, as rows of the account are asked back: these may be among them.
func (a *outputAccount) handBack() {
	a.memory.mu.Lock()
	defer a.memory.mu.Unlock()
	a.handBacks++
	a.memory.notify()
}

// drain has no run wait for clients any more.
func (m *outputMemory) drain() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.draining = true
	m.notify()
}
