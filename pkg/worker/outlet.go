package worker

import (
	"context"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// outletShare is the part of an outlet that each flow is sure of, whatever is untaken of the others.
const outletShare = 16

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
type outlet struct {
	room *room

	limit    int64            // bytes; 0: none
	untaken  map[string]int64 // bytes, by flow
	total    int64            // of untaken
	held     int64            // of all accounts, as is what follows
	expected int64
	running  int
}

func newOutlet(r *room) *outlet { return &outlet{room: r, untaken: map[string]int64{}} }

// begin is the beginning of a session: what the one before told is forgotten.
func (o *outlet) begin(hello *pb.Hello, untaken []*pb.Untaken) {
	o.room.mu.Lock()
	defer o.room.mu.Unlock()
	clear(o.untaken)
	o.limit, o.total = int64(hello.GetUntakenLimit()), 0
	o.take(untaken)
}

// told takes in what a message says.
func (o *outlet) told(m *pb.CoordinatorMessage) {
	if len(m.GetUntaken()) == 0 && m.GetUntakenLimit() == 0 {
		return
	}
	o.room.mu.Lock()
	defer o.room.mu.Unlock()
	if limit := int64(m.GetUntakenLimit()); limit > 0 && o.limit > 0 {
		o.limit = limit
	}
	o.take(m.GetUntaken())
}

// take takes in how much is untaken of some flows. It is called with the lock held.
func (o *outlet) take(all []*pb.Untaken) {
	for _, u := range all {
		flow, bytes := u.GetFlow(), int64(u.GetBytes())
		o.total += bytes - o.untaken[flow]
		if o.untaken[flow] = bytes; bytes == 0 {
			delete(o.untaken, flow)
		}
	}
	o.room.tell()
}

// close has no run wait for the coordinator's clients any more.
func (o *outlet) close() { o.begin(nil, nil) }

// goesOn reports whether what a run makes may go on to clients. It is called with the room's lock held.
func (t *tenant) goesOn() bool {
	o, its := t.outlet, t.outlet.untaken[t.flow]+t.held
	switch used := o.total + o.held; {
	case o.limit <= 0 || o.room.draining:
	case used+o.expected+t.lately <= o.limit:
	case o.running == 0 && used <= o.limit/2:
	case its+t.expected+t.lately <= o.limit/outletShare:
	default:
		return its == 0 && t.running == 0
	}
	return true
}

// pass waits until a piece of what a run of the part has made may leave for the coordinator; left is how many bytes of the run are
// still here, the piece among them. It returns at once when ctx is done.
func (t *tenant) pass(ctx context.Context, p *part, bytes, left int64) {
	r := t.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.passes(bytes) {
		return
	}
	if r.large == p {
		r.large = nil // it grows no more, and may be here for long
	}
	before := t.recalls
	r.stalled, t.stalled = r.stalled+left, t.stalled+left
	r.tell()
	r.wait(ctx, func() bool { return t.passes(bytes) || t.recalls != before })
	r.stalled, t.stalled = r.stalled-left, t.stalled-left
	r.tell()
}

// passes reports whether a piece may leave. It is called with the room's lock held.
func (t *tenant) passes(bytes int64) bool {
	o, its := t.outlet, t.outlet.untaken[t.flow]+t.held
	switch used := o.total + o.held; {
	case o.limit <= 0 || o.room.draining:
	case used+bytes <= o.limit || used <= o.limit/2:
	default:
		return its == 0 || its+bytes <= o.limit/outletShare
	}
	return true
}

// recall lets the runs go on that wait for clients, as rows of the account are asked back: these may be among them.
func (t *tenant) recall() {
	t.room.mu.Lock()
	defer t.room.mu.Unlock()
	t.recalls++
	t.room.tell()
}

// drain has no run wait for clients any more.
func (r *room) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	r.tell()
}
