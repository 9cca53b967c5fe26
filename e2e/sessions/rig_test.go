// Package sessions disturbs the network between clients, coordinators and workers of a cluster in this process, under load. It checks
// that no row fails or is overtaken, and how long rows are delayed at most.
package sessions

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is the longest that a test of this package waits for anything.
const patience = time.Minute

// row is a row of flow Touch: the row with this number of its key, from 1.
type row struct {
	Key      int `json:"key"`
	Sequence int `json:"sequence"`
}

const touch = "kistype: flow\nflow_name: Touch\nstatus: 1\nshard_key: key\nflows: [{fname: Touch}]\n---\nkistype: func\nfname: Touch\nfmode: Calculate\n"

// witness has the function of flow Touch, for all workers. It notes rows of a key that were skipped or overtaken. A test may have it
// take long for some rows.
type witness struct {
	slow func(in row) time.Duration

	mu       sync.Mutex
	last     map[int]int // by key: the highest sequence so far; guarded by mu
	breaches []string    // guarded by mu
}

// register registers the functions of the flows Touch and Await.
func (w *witness) register(r *kis.Registry) {
	r.Func("Touch", kis.Calculate(func(ctx context.Context, in row) (row, error) {
		w.touch(in)
		if w.slow != nil {
			if d := w.slow(in); d > 0 {
				select {
				case <-time.After(d):
				case <-ctx.Done():
				}
			}
		}
		return in, nil
	}))
	r.Func("Await", kis.Load(func(in row) string { return strconv.Itoa(in.Key) },
		func(_ context.Context, in row, _ *map[string]string) (row, error) { return in, nil }))
}

// touch checks that a row follows the row before it of its key.
func (w *witness) touch(in row) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch last := w.last[in.Key]; {
	case in.Sequence == last+1:
		w.last[in.Key] = in.Sequence
	case in.Sequence > last:
		w.breaches = append(w.breaches, fmt.Sprintf("row %d of key %d ran first, and the one before it was %d", in.Sequence, in.Key, last))
	}
}

// grid starts a cluster whose workers run flow Touch. The end of the test reports skipped and overtaken rows.
func grid(t *testing.T, workers int, slow func(row) time.Duration, opts ...flowtest.Option) *flowtest.Grid {
	t.Helper()
	w := &witness{slow: slow, last: map[int]int{}}
	g := flowtest.Cluster(t, workers, append(opts, flowtest.Register(w.register))...)
	if err := g.Apply(touch); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for i, b := range w.breaches {
			if i < 5 {
				t.Error(b)
			}
		}
	})
	return g
}

// load is a client that sends a batch of one row for each of its keys, again and again, and waits for all answers at the end.
type load struct {
	t      *testing.T
	stream *client.Stream
	keys   []int
	stop   chan struct{} // closed by halt
	halted sync.Once
	own    bool // end closes the stream
	sender sync.WaitGroup

	mu     sync.Mutex
	began  []time.Time     // when each batch was sent; guarded by mu
	took   []time.Duration // how long each answered batch took; guarded by mu
	failed []string        // guarded by mu
}

// startLoad sends a batch every interval on a new stream. Loads of one test must have different keys.
func startLoad(t *testing.T, c *client.Client, keys []int, every time.Duration) *load {
	t.Helper()
	s, err := c.Stream(t.Context(), "Touch")
	if err != nil {
		t.Fatal(err)
	}
	l := startLoadOn(t, s, keys, every)
	l.own = true
	return l
}

// startLoadOn is startLoad on an open stream, which the caller closes.
func startLoadOn(t *testing.T, s *client.Stream, keys []int, every time.Duration) *load {
	t.Helper()
	l := &load{t: t, stream: s, keys: keys, stop: make(chan struct{})}
	l.sender.Go(func() { l.send(t.Context(), every) })
	return l
}

// send sends a batch every interval until halt is called.
func (l *load) send(ctx context.Context, every time.Duration) {
	sending := testgrid.Load{
		Stream: l.stream, Every: every,
		Next: func(n int) *client.Batch {
			rows := make([]row, len(l.keys))
			for i, key := range l.keys {
				rows[i] = row{Key: key, Sequence: n + 1}
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.began = append(l.began, time.Now())
			return client.Rows(rows...)
		},
		Answered: func(n int, r *client.Result, err error) {
			switch {
			case err != nil:
				l.fail("batch %d: %v", n, err)
			case len(r.NotDone) > 0:
				l.fail("batch %d: %d rows are not done, the first: %+v", n, len(r.NotDone), r.NotDone[0])
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.took = append(l.took, time.Since(l.began[n]))
		},
	}
	if err := sending.Run(ctx, l.stop); err != nil {
		l.fail("%v", err)
	}
}

// fail notes a failure; end tells the test the first five.
func (l *load) fail(format string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, fmt.Sprintf(format, a...))
}

// answered returns the number of batches that are answered so far.
func (l *load) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.took)
}

// moves waits until n more batches are answered than at the time of the call.
func (l *load) moves(n int) {
	l.t.Helper()
	from := l.answered()
	until(l.t, fmt.Sprintf("%d more batches are answered", n), func() bool { return l.answered() >= from+n })
}

// halt stops sending.
func (l *load) halt() { l.halted.Do(func() { close(l.stop) }) }

// end stops sending and waits for all answers. It returns the longest time that a batch took, and the 99th percentile. It fails the
// test unless each row is done.
func (l *load) end() (longest, p99 time.Duration) {
	l.t.Helper()
	l.halt()
	l.sender.Wait()
	if l.own {
		if err := l.stream.Close(); err != nil {
			l.t.Error(err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, f := range l.failed {
		if i < 5 {
			l.t.Error(f)
		}
	}
	if len(l.took) == 0 {
		l.t.Fatal("nothing was answered")
	}
	slices.Sort(l.took)
	return l.took[len(l.took)-1], l.took[(len(l.took)-1)*99/100]
}

// span returns n keys: from, from+1 and so on.
func span(from, n int) []int {
	keys := make([]int, n)
	for i := range keys {
		keys[i] = from + i
	}
	return keys
}

// until calls is again and again until it returns true. It is for states that give no signal.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to this: %s", what)
		}
	}
}

// only makes a client of one coordinator that faults do not reach.
func only(t *testing.T, n *flowtest.Node) *client.Client {
	t.Helper()
	c, err := client.Dial(n.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}
