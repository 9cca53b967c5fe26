package coordinator

import (
	"sync"
	"sync/atomic"

	"github.com/kisgrid/kisgrid/internal/wire"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Workers are told how many bytes of their results clients have not read (untaken). A worker makes new results only while that is below a
// limit: half of the coordinator's budget, shared out evenly among the workers with a session. So a client that reads more slowly than
// workers produce slows its flow down, and nothing piles up. The worker's side of this is pkg/worker/gate.go.

const (
	// leastUntaken is the lowest limit that a worker is told, in bytes.
	leastUntaken = 256 << 10
	// tellShare says how often a worker is told its unread bytes again: when they have changed by the worker's limit divided by tellShare,
	// or when a flow has nothing unread any more.
	tellShare = 16
)

// untakenResults counts the bytes of one worker's results that clients have not read, by flow. A result counts from its arrival until its
// client has read it, or no client wants it any more. The session's reader adds results; the scheduler's loop and the goroutines that
// answer clients take them out; the session's writer tells the worker.
type untakenResults struct {
	wake func() // wakes the session's writer, which then calls due; it does not block

	mu    sync.Mutex
	flows map[string]*untakenOfFlow // guarded by mu: the flows that have unread bytes, or of which the worker was last told that they have some
	total int64                     // guarded by mu: unread bytes of all flows
	told  int64                     // guarded by mu: the total that the worker was told
	freed bool                      // guarded by mu: a flow has nothing unread any more, and the worker does not know that
	limit int64                     // guarded by mu: the limit that the worker was told
}

// untakenOfFlow is how many bytes of a flow's results clients have not read, and how many the worker was told.
type untakenOfFlow struct{ bytes, told int64 }

// newUntakenResults makes an untakenResults without unread bytes. It will call wake when the worker should be told of changes; wake must
// not block.
func newUntakenResults(wake func()) *untakenResults {
	return &untakenResults{wake: wake, flows: map[string]*untakenOfFlow{}}
}

// begin is called when a session begins, in which the worker knows nothing yet. limit is the limit that Hello tells the worker. begin
// returns the unread bytes of each flow that has some, for the same message.
func (b *untakenResults) begin(limit int64) []*pb.Untaken {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told, b.limit = 0, limit
	for _, f := range b.flows {
		f.told = 0
	}
	return b.changed()
}

// tell adds to a message to the worker what the worker does not know yet: its limit, if that has changed, and the unread bytes of each
// flow, if their sum has changed by limit/tellShare or a flow has nothing unread any more.
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

// due reports whether the worker should be told now: clients have read results, and the worker may be waiting for that.
func (b *untakenResults) due() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.isDue()
}

// isDue is due for a caller that holds mu.
func (b *untakenResults) isDue() bool { return b.freed || b.step() < 0 }

// step returns 1 if the total has risen, since the worker was told, by so much that it should be told again, -1 if it has fallen by so
// much, and otherwise 0. The caller holds mu.
func (b *untakenResults) step() int {
	switch more, much := b.total-b.told, max(b.limit/tellShare, 1); {
	case more >= much:
		return 1
	case more <= -much:
		return -1
	}
	return 0
}

// changed returns the unread bytes of each flow for which the worker was told another number, and notes that the worker knows them now: the
// caller must tell it. The caller holds mu.
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

// add counts bytes as unread, because a result of that size for the flow has arrived from the worker.
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

// take stops counting the bytes of a result of a flow, because a client has read it or no client wants it, and wakes the session's writer
// if the worker should be told.
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

// holdsBack reports whether the worker probably begins no runs now because of unread bytes, and some of these bytes are of this flow. A
// worker stops at half of its limit. The comparison is with a little less, since the total that the worker knows may be older.
func (b *untakenResults) holdsBack(flow string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flows[flow] != nil && b.total > b.limit/2-b.limit/8
}

// result is a worker's result, and the memory that its output lies in.
type result struct {
	*pb.Result
	lent    *wire.Lent
	claimed bool // the scheduler has passed the result on to a batch; only the scheduler's loop uses this

	counter      *untakenResults // the untakenResults that counts the result; nil means that it is not counted
	untakenBytes atomic.Int64    // the bytes that counter counts for the result; 0 once they are taken out
}

// count counts the result as unread in b, if its worker respects limits for unread results. Results of workers that don't name no flow, and
// are not counted.
func (r *result) count(b *untakenResults) {
	if flow, bytes := r.GetFlow(), r.size(); flow != "" && bytes > 0 {
		r.counter = b
		r.untakenBytes.Store(bytes)
		b.add(flow, bytes)
	}
}

// taken stops counting the result as unread: the client has read it, no client wants it, or its client gets all answers at the end. Only
// the first call has an effect. r may be nil.
func (r *result) taken() {
	if r == nil {
		return
	}
	if bytes := r.untakenBytes.Swap(0); bytes > 0 {
		r.counter.take(r.GetFlow(), bytes)
	}
}

// waits reports whether the result is counted as unread, so that its worker makes no more results at some point until clients have read
// enough. r may be nil.
func (r *result) waits() bool { return r != nil && r.untakenBytes.Load() > 0 }

// size returns the number of bytes, about, that the result takes in memory until a client has read it. r may be nil.
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
