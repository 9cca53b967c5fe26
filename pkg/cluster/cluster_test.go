package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/world/simetcd"
	"github.com/kisgrid/kisgrid/internal/world/simnet"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

func TestMain(m *testing.M) {
	// These tests wait for leases and disks far more than they compute.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for an event that must happen.
const patience = time.Minute

// server is an etcd that a test can stop and start again, with its data and at its address.
type server struct {
	address string
	network network.Network // over which clients reach it; nil means that of the machine
	start   func(t *testing.T)
	stop    func(t *testing.T)
	line    func(t *testing.T) line
	settle  func()        // waits until all that was written has reached everybody, as far as that can be known
	etcd    *simetcd.Etcd // the model; nil for a real etcd
}

// line is a way to the etcd of its own, which a test can cut.
type line struct {
	address string
	network network.Network // as in server
	cut     func()          // ends connections, and refuses or ends new ones
	mend    func()
}

// relay is a line over a relay of this process.
func (s *server) relay(t *testing.T) line {
	l := testprocess.StartLine(t, s.address)
	return line{address: l.Address(), cut: l.Cut, mend: l.Mend}
}

// conformance are the tests that run with each kind of etcd.
var conformance = []struct {
	name string
	// alone tests stop and start their etcd; the others share one, each below its own prefix.
	alone bool
	test  func(t *testing.T, s *server)
	// outside tests reach their etcd from outside of this process.
	outside bool
}{
	{"changes have authors, and the audit log is bounded", false, testAudit, false},
	{"changes that fill a transaction have authors, too", false, testAnnounced, false},
	{"the age of a request counts from its lease", false, testRequests, false},
	{"documents are shown raw", false, testDocuments, false},
	{"documents from etcdctl", false, testEtcdctl, true},
	{"foreign keys are reported once", false, testForeignKeys, false},
	{"documents change together or not at all", false, testConflict, false},
	{"limits are those of etcd", false, testLimits, false},
	{"parts are what etcd takes", false, testParts, false},
	{"a worker's life", false, testWorker, false},
	{"names", false, testNames, false},
	{"coordinators", false, testCoordinators, false},
	{"a record that can't be read", false, testUnreadableWorker, false},
	{"a lease revoked", false, testLeaseRevoked, false},
	{"a partition longer than the lease", false, testPartition, false},
	{"an outage longer than the lease", true, testOutage, false},
	{"a restart shorter than the lease", true, testRestart, false},
	{"a slow follower under compaction", false, testSlowFollower, false},
	{"a follower cut off under compaction", false, testCutOffFollower, false},
	{"a list of many pages", false, testPages, false},
	{"active and its entry belong together", false, testFlows, false},
	{"history", false, testHistory, false},
	{"two campaigners", false, testCampaign, false},
	{"logs", false, testLogs, true},
	{"a campaign deleted while it waits", false, testCampaignDeleted, false},
	{"etcd's own elections", false, testForeignCampaign, false},
}

func TestEmbeddedEtcd(t *testing.T) {
	t.Parallel()
	testConformance(t, embedded)
}

func TestEtcdProcess(t *testing.T) {
	t.Parallel()
	testConformance(t, installed)
}

// TestSimulatedEtcd runs the tests with a model of etcd, each in virtual time.
func TestSimulatedEtcd(t *testing.T) {
	t.Parallel()
	for _, c := range conformance {
		t.Run(c.name, func(t *testing.T) {
			if c.outside {
				t.Skip("nothing outside of this process reaches the model")
			}
			bubble.Test(t, func(t *testing.T) { c.test(t, simulated(t)) })
		})
	}
}

func testConformance(t *testing.T, newServer func(t *testing.T) *server) {
	shared := newServer(t)
	shared.start(t)
	t.Run("suite", func(t *testing.T) { // so that the shared etcd outlives the parallel tests
		for _, c := range conformance {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				s := shared
				if c.alone {
					s = newServer(t)
					s.start(t)
				}
				c.test(t, s)
			})
		}
	})
}

func embedded(t *testing.T) *server {
	dir := t.TempDir()
	var running *devcluster.Etcd
	s := &server{settle: func() {}}
	s.line = s.relay
	s.start = func(t *testing.T) {
		t.Helper()
		var err error
		for deadline := time.Now().Add(patience); ; {
			running, err = devcluster.StartEtcd(context.Background(), devcluster.EtcdConfig{Address: s.address, DataDir: dir})
			if err == nil {
				break
			}
			// Between two starts anybody's outgoing connection may hold the port for a moment.
			if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
		s.address = running.Address()
	}
	s.stop = func(t *testing.T) {
		t.Helper()
		if running == nil {
			return
		}
		if err := running.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { s.stop(t) })
	return s
}

func installed(t *testing.T) *server {
	dir := t.TempDir()
	s := &server{address: testprocess.Address(t), stop: func(*testing.T) {}, settle: func() {}}
	s.line = s.relay
	s.start = func(t *testing.T) {
		t.Helper()
		stop := testprocess.StartEtcd(t, "http://"+s.address, dir, nil, "--heartbeat-interval", "10", "--election-timeout", "100")
		s.stop = func(*testing.T) { stop() }
	}
	return s
}

// simulated starts a model of etcd, on a network of its own.
func simulated(t *testing.T) *server {
	t.Helper()
	const etcd, here, elsewhere = "etcd", "here", "elsewhere"
	// A registration that a test has not closed ends when its lease would have run out. The longest one is of a minute.
	t.Cleanup(func() { time.Sleep(2 * time.Minute) })
	n := simnet.New(1)
	e, err := simetcd.Start(t.Context(), simetcd.Config{Members: []simetcd.Member{{Name: etcd, Network: n.Host(etcd), Address: ":2379"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &server{address: e.Addresses()[0], network: n.Host(here), settle: synctest.Wait, etcd: e}
	s.stop = func(*testing.T) { e.Stop("") }
	s.start = func(t *testing.T) {
		if err := e.Start(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
	}
	s.line = func(*testing.T) line {
		var refused *simnet.Fault
		return line{
			address: s.address, network: n.Host(elsewhere),
			cut: func() {
				refused = n.Break(simnet.Trouble{From: elsewhere, To: etcd, BothWays: true, Refuse: true})
				n.Reset(elsewhere, etcd)
			},
			mend: func() { refused.Heal() },
		}
	}
	return s
}

// open opens a Store at this etcd, below the test's own prefix unless the configuration says otherwise.
func (s *server) open(t *testing.T, c cluster.Config) *cluster.Store {
	t.Helper()
	if c.Endpoints == nil {
		c.Endpoints, c.Network = []string{s.address}, s.network
	}
	if c.Prefix == "" {
		c.Prefix = prefix(t)
	}
	store, err := cluster.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func prefix(t *testing.T) string { return "/" + strings.ReplaceAll(t.Name(), "/", "-") + "/" }

// raw is an etcd client that knows nothing of KisGrid.
func (s *server) raw(t *testing.T) *clientv3.Client {
	t.Helper()
	config := clientv3.Config{Endpoints: []string{s.address}, DialTimeout: patience, Logger: zap.NewNop()}
	if s.network != nil {
		config.DialOptions = transport.Through(s.network)
	}
	c, err := clientv3.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func put(t *testing.T, c *clientv3.Client, key, value string) int64 {
	t.Helper()
	answer, err := c.Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Header.Revision
}

// compact forgets all of etcd's history. Another test may have done so in this moment.
func compact(t *testing.T, c *clientv3.Client) {
	t.Helper()
	now, err := c.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compact(t.Context(), now.Header.Revision); err != nil && !strings.Contains(err.Error(), "compacted") {
		t.Fatal(err)
	}
}

// following runs a Follow method until the test ends, and passes on the states that it shows. It checks that calls don't overlap.
type following[T any] struct {
	states chan T
	stop   context.CancelFunc
	ended  chan error
}

func startFollowing[T any](t *testing.T, follow func(ctx context.Context, f func(T)) error) *following[T] {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	f := &following[T]{states: make(chan T), stop: stop, ended: make(chan error, 1)}
	var calling sync.Mutex
	go func() {
		f.ended <- follow(ctx, func(state T) {
			if !calling.TryLock() {
				t.Error("two calls overlap")
				return
			}
			defer calling.Unlock()
			select {
			case f.states <- state:
			case <-ctx.Done():
			}
		})
		close(f.ended)
	}()
	t.Cleanup(func() {
		stop()
		if err, first := <-f.ended; first && batch.CodeOf(err) != batch.CodeCancelled && batch.CodeOf(err) != batch.CodeShutdown {
			t.Errorf("Follow returned %v", err)
		}
	})
	return f
}

// await reads states until one is as wanted.
func (f *following[T]) await(t *testing.T, what string, wanted func(T) bool) T {
	t.Helper()
	timeout := time.After(patience)
	var last T
	for {
		select {
		case last = <-f.states:
			if wanted(last) {
				return last
			}
		case <-timeout:
			t.Fatalf("waited in vain for %s; last seen: %v", what, last)
		}
	}
}

func awaitClosed(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
}

func wantCode(t *testing.T, err error, code batch.Code, words ...string) {
	t.Helper()
	if batch.CodeOf(err) != code {
		t.Fatalf("got %v, want code %v", err, code)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}

// journal is a logger whose lines can be counted and awaited.
type journal struct {
	hclog.Logger
	text *lines
}

func newJournal() journal {
	text := &lines{written: make(chan struct{}, 1)}
	return journal{hclog.New(&hclog.LoggerOptions{Output: text, Level: hclog.Debug}), text}
}

func (j journal) count(words string) int { return strings.Count(j.text.String(), words) }

// await waits until the words were logged n times.
func (j journal) await(t *testing.T, n int, words string) {
	t.Helper()
	timeout := time.After(patience)
	for j.count(words) < n {
		select {
		case <-j.text.written:
		case <-timeout:
			t.Fatalf("waited in vain for the log to say %d times %q:\n%s", n, words, j.text)
		}
	}
}

type lines struct {
	mu      sync.Mutex
	text    bytes.Buffer // guarded by mu
	written chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.written <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
