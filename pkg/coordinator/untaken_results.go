package coordinator

import (
	"sync"
	"sync/atomic"

	"github.com/kisgrid/kisgrid/internal/wire"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Workers are told what clients have not taken of their results, and make no more than there is room for: half of the coordinator's
// budget, shared out evenly among the workers in session (worker/outlet.go has the rules). So a client that takes its answers more
// slowly than workers make them slows its flow down.

const (
	// leastUntaken is the least limit that a worker is told.
	leastUntaken = 256 << 10
	// A worker is told anew what is untaken when that has changed by the limit over tellShare, or nothing of a flow is any more.
	tellShare = 16
)

// backlog is what clients have not taken yet of one worker's results, by flow. A result counts from when it came until its client took
// it, or nobody wants it any more. The session's reader adds to it, the loop and the senders of streams take from it, and the
// session's writer tells the worker; none of them blocks for long.
type untakenResults struct {
	wake func() // has the session's writer look; it does not block

	mu    sync.Mutex
	flows map[string]*untakenOfFlow // guarded by mu: those of which something is untaken, or the worker believes so
	total int64                     // guarded by mu: bytes of all flows
	told  int64                     // guarded by mu: total as the worker was told it
	freed bool                      // guarded by mu: the worker does not know that nothing of a flow is untaken any more
	limit int64                     // guarded by mu: that the worker was told
}

type untakenOfFlow struct{ bytes, told int64 }

func newUntakenResults(wake func()) *untakenResults {
	return &untakenResults{wake: wake, flows: map[string]*untakenOfFlow{}}
}

// begin is the beginning of a session, of which the worker knows nothing yet. It returns what goes with Hello.
func (b *untakenResults) begin(limit int64) []*pb.Untaken {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told, b.limit = 0, limit
	for _, f := range b.flows {
		f.told = 0
	}
	return b.changed()
}

// tell puts what the worker is to know into a message, if that is much, or the limit is another.
func (b *untakenResults) tell(m *pb.CoordinatorMessage, limit int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if limit != b.limit {
		b.limit = limit
		m.UntakenLimit = uint64(limit)
	}
	if b.freed || b.step() != 0 {
		m.Untaken = b.changed()
	}
}

// due reports whether the worker is to be told, as it may wait for that.
func (b *untakenResults) due() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.isDue()
}

// isDue is due for callers that hold the lock.
func (b *untakenResults) isDue() bool { return b.freed || b.step() < 0 }

// step is above or below zero where the total is so much more or less than the worker knows that it is to be told. The caller holds
// the lock.
func (b *untakenResults) step() int {
	switch more, much := b.total-b.told, max(b.limit/tellShare, 1); {
	case more >= much:
		return 1
	case more <= -much:
		return -1
	}
	return 0
}

// changed is how much is untaken of the flows of which the worker knows something else. The caller holds the lock, and tells it.
func (b *untakenResults) changed() (all []*pb.Untaken) {
	for name, f := range b.flows {
		if f.bytes != f.told {
			f.told = f.bytes
			all = append(all, &pb.Untaken{Flow: name, Bytes: uint64(f.bytes)})
		}
		if f.bytes == 0 {
			delete(b.flows, name)
		}
	}
	b.told, b.freed = b.total, false
	return all
}

// add counts a result that came.
func (b *untakenResults) add(flow string, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.flows[flow]
	if f == nil {
		f = &untakenOfFlow{}
		b.flows[flow] = f
	}
	f.bytes += bytes
	b.total += bytes
}

// take counts a result out.
func (b *untakenResults) take(flow string, bytes int64) {
	b.mu.Lock()
	f := b.flows[flow]
	f.bytes -= bytes
	b.total -= bytes
	switch {
	case f.bytes > 0:
	case f.told > 0:
		b.freed = true
	default:
		delete(b.flows, flow)
	}
	due := b.isDue()
	b.mu.Unlock()
	if due {
		b.wake()
	}
}

// holdsBack reports whether the worker may begin no run of any flow, because of what is untaken of this one among others: it does so
// from half of the limit on, and knows the total to the last step.
func (b *untakenResults) holdsBack(flow string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flows[flow] != nil && b.total > b.limit/2-b.limit/8
}

// result is a worker's result, and what its output lies in.
type result struct {
	*pb.Result
	lent    *wire.Lent
	claimed bool // a batch has it; the loop's

	backlog *untakenResults // that it counts in
	untaken atomic.Int64    // bytes that count there; 0: none do, or any more
}

// count has the result count as untaken, if its worker says that it goes by that.
func (r *result) count(b *untakenResults) {
	if flow, bytes := r.GetFlow(), r.size(); flow != "" && bytes > 0 {
		r.backlog = b
		r.untaken.Store(bytes)
		b.add(flow, bytes)
	}
}

// taken says that the client took the result, or that nobody is to take it, or not before the whole batch has ended. The first time
// counts. It may be called for nil.
func (r *result) taken() {
	if r == nil {
		return
	}
	if bytes := r.untaken.Swap(0); bytes > 0 {
		r.backlog.take(r.GetFlow(), bytes)
	}
}

// waits reports whether its worker waits for the client to take it, before it makes more than there is room for.
func (r *result) waits() bool { return r != nil && r.untaken.Load() > 0 }

// size is about how many bytes it holds for a client.
func (r *result) size() (bytes int64) {
	if r == nil {
		return 0
	}
	o := r.GetOutput()
	bytes = int64(len(o.GetRows().GetData()) + 4*len(o.GetRows().GetEnds()) + 4*len(o.GetOrigins()))
	for _, n := range r.GetNotDone() {
		bytes += int64(64 + len(n.GetFunction()) + len(n.GetReason()))
	}
	for _, d := range r.GetDead() {
		bytes += int64(64 + len(d.GetData()))
	}
	return bytes
}
