package live

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// witness remembers on which revision each batch was run, by any worker and with any outcome, and finds batches that were run on
// several. It remembers a bounded number of batches of each stream, so that it can watch for hours.
type witness struct {
	mu    sync.Mutex
	last  map[batch.StreamID]*[1 << 12]sighting // by sequence modulo the size; guarded by mu
	mixed []string                              // guarded by mu
	again int                                   // runs of batches that had been run before; guarded by mu
}

// sighting is the revision on which a batch was run.
type sighting struct {
	sequence uint64
	revision int64
}

// newWitness makes a witness that has seen nothing.
func newWitness() *witness { return &witness{last: map[batch.StreamID]*[1 << 12]sighting{}} }

// saw is called for each run of a batch's first row.
func (w *witness) saw(id batch.ID, revision int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.last[id.Stream]
	if seen == nil {
		seen = new([1 << 12]sighting)
		w.last[id.Stream] = seen
	}
	at := &seen[id.Sequence%uint64(len(seen))]
	switch {
	case at.sequence < id.Sequence:
		*at = sighting{id.Sequence, revision}
	case at.sequence > id.Sequence:
	case at.revision == revision:
		w.again++
	default:
		w.mixed = append(w.mixed, fmt.Sprintf("batch %s was run on revision %d and on %d", id, at.revision, revision))
	}
}

// register registers the same functions as register of the package, and tells the witness of each row.
func (w *witness) register(r *kis.Registry) {
	r.Func("First", kis.Calculate(func(ctx context.Context, in row) (row, error) {
		if id := kis.From(ctx).RowID(); id.Row == 0 {
			w.saw(id.Batch, kis.From(ctx).Revision)
		}
		return first(ctx, in)
	}))
	r.Func("Second", kis.Calculate(second))
}

// check fails the test if a batch was run on several revisions. It returns how many runs were repetitions.
func (w *witness) check(t testing.TB) int {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.mixed[:min(5, len(w.mixed))] {
		t.Error(text)
	}
	if n := len(w.mixed); n > 5 {
		t.Errorf("and %d more", n-5)
	}
	return w.again
}

// cutter makes connections that break at bad moments: when a request is sent and no answer has come, and when an answer has come that
// nobody has read.
type cutter struct {
	one  int // each read or write breaks its connection with a chance of 1 in this number
	cuts atomic.Int64

	mu     sync.Mutex
	random *rand.Rand // guarded by mu
}

// now draws at random whether a connection is to break at this read or write.
func (c *cutter) now() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.IntN(c.one) == 0
}

// dial makes a connection that may break.
func (c *cutter) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &cutConn{Conn: conn, cutter: c}, nil
}

// cutConn is a connection that a cutter may break.
type cutConn struct {
	net.Conn
	cutter *cutter
	used   atomic.Int64 // how many reads and writes it has done
}

// greeting is how many reads and writes a new connection may do before it can break. A connection that is never established would be
// dialled again only after a second.
const greeting = 12

var errCut = errors.New("the connection was cut")

// cut closes the connection and counts that.
func (c *cutConn) cut() error {
	c.cutter.cuts.Add(1)
	_ = c.Close()
	return errCut
}

func (c *cutConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err == nil && c.used.Add(1) > greeting && c.cutter.now() {
		err = c.cut()
	}
	return n, err
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && c.used.Add(1) > greeting && c.cutter.now() {
		return 0, c.cut()
	}
	return n, err
}

// TestCutsWhileRevisionsSwitch cuts the connections of clients to three coordinators again and again, before and after the answer,
// while revisions change. Calls and streams send again to any coordinator. Each batch must run on one revision, however often it
// runs, and the answer must name that revision.
func TestCutsWhileRevisionsSwitch(t *testing.T) {
	const versions, callers = 15, 6
	w := newWitness()
	r := start(t, devcluster.Config{Coordinators: 3, Workers: 2, Register: w.register})
	revision := r.definitions.Put(documents(1)...)
	r.awaitState("Live", cluster.StateActive, revision)
	k := &cutter{one: 25, random: rand.New(rand.NewPCG(1, 2))}
	c, err := client.Dial(r.addresses(), client.WithRetryFor(patience), client.WithRetryDelay(time.Millisecond, 10*time.Millisecond),
		client.WithDialOptions(grpc.WithContextDialer(k.dial), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l := r.newLoad()
	for i := range callers {
		l.ended.Go(func() { l.call(c, "Live", 1000*i, 20) })
	}
	l.stream(c, "Live", 3, 20)
	for version := 2; version <= versions; version++ {
		revision = r.definitions.Put(documents(version)...)
		r.awaitState("Live", cluster.StateActive, revision)
		l.awaitRevision(revision)
	}
	l.end()
	again := w.check(t)
	if again == 0 || k.cuts.Load() < versions {
		t.Errorf("%d batches were run again after %d cuts: that shows nothing", again, k.cuts.Load())
	}
	t.Logf("%d batches on %d revisions, %d connections cut, %d runs repeated", l.batches, len(l.versions), k.cuts.Load(), again)
}
