package worker

import (
	"context"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// backlogShares divides the limit of untaken output: each flow may use the limit divided by backlogShares, whatever the others
// use.
const backlogShares = 16

// clientBacklog knows how much output the clients of one coordinator have not taken yet, and how much that may be. The
// coordinator tells both. So a client that takes its answers slowly slows its own flow down, instead of using up the
// coordinator's memory. Untaken output and the output that this worker holds for the coordinator count together as used. The
// policy:
//
//   - A run begins as long as the used and the expected output are within the limit.
//   - One run may always be under way while no more than half of the limit is used.
//   - Each flow has a small share of its own. It may always begin one run while none of its output is used and no run of it is under way.
//     So a flow whose clients take nothing can't stop another flow.
//   - A run without keys may have much output. This output leaves in pieces, under the same rules.
//
// No run waits for clients when its rows are handed back, when the worker drains, or when the coordinator is forgotten.
// Coordinators of earlier builds have no limit.
//
// The fields are guarded by the lock of memory.
type clientBacklog struct {
	memory *outputMemory // has the lock, and the condition on which runs wait

	limit        int64            // bytes; 0 means no limit
	untaken      map[string]int64 // bytes by flow, as the coordinator told last
	untakenTotal int64            // sum of untaken
	held         int64            // bytes that this worker holds for the coordinator, over all flows
	expected     int64            // bytes that the runs under way are expected to make
	running      int              // runs under way
}

// newClientBacklog makes the backlog of a new coordinator. It has no limit until the coordinator's first message tells one.
func newClientBacklog(m *outputMemory) *clientBacklog {
	return &clientBacklog{memory: m, untaken: map[string]int64{}}
}

// reset forgets the limit and the untaken amounts of the session before, and takes those of a new session's first message,
// hello, with its list untaken. nil for both removes the limit.
func (b *clientBacklog) reset(hello *pb.Hello, untaken []*pb.Untaken) {
	b.memory.mu.Lock()
	defer b.memory.mu.Unlock()
	clear(b.untaken)
	b.limit, b.untakenTotal = int64(hello.GetUntakenLimit()), 0
	b.apply(untaken)
}

// update takes over the limit and the untaken amounts that a message of the coordinator carries. Most messages carry none.
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

// apply stores, for some flows, how many bytes of output clients have not taken. The numbers are totals, so a lost message
// does no harm. The caller holds the lock.
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

// close removes the limit of a coordinator that is forgotten, so that none of its runs waits for clients any more.
func (b *clientBacklog) close() { b.reset(nil, nil) }

// clientsKeepUp reports whether the policy of clientBacklog lets one more run begin. The caller holds the lock.
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

// waitToSend blocks until a piece of a run's output may go to the coordinator, rows of the account are handed back, or ctx is
// done. bytes is the size of the piece; left is the size of all output of the run that is still here, the piece included.
func (a *outputAccount) waitToSend(ctx context.Context, p *heldPart, bytes, left int64) {
	m := a.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.pieceMayLeave(bytes) {
		return
	}
	if m.growing == p {
		m.growing = nil // the run has ended and does not grow; its output may wait here for long
	}
	before := a.handBacks
	pointPieceWaits.Hit()
	m.stalled, a.stalled = m.stalled+left, a.stalled+left
	m.notify()
	m.wait(ctx, func() bool { return a.pieceMayLeave(bytes) || a.handBacks != before })
	m.stalled, a.stalled = m.stalled-left, a.stalled-left
	m.notify()
}

// pieceMayLeave reports whether a piece of output of this size may go to the coordinator, by the policy of clientBacklog. The
// caller holds the lock.
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

// handBack notes that rows of the account are handed back. It lets runs of the account go on that wait for clients, because
// their own rows may be among the rows handed back.
func (a *outputAccount) handBack() {
	a.memory.mu.Lock()
	defer a.memory.mu.Unlock()
	a.handBacks++
	a.memory.notify()
}

// drain is called when the worker begins to drain. After it no run waits for clients to take output.
func (m *outputMemory) drain() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.draining = true
	m.notify()
}
