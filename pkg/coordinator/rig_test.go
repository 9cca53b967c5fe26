package coordinator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

// What TestMain provides, from a package that imports this one.
var (
	// SharedEtcd is the address of an etcd for all tests that don't stop it; each keeps below a prefix of its own.
	SharedEtcd string
	// StartEtcd starts one that keeps its data in a directory.
	StartEtcd func(address, dir string) (at string, stop func() error, err error)
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// lease of everything in the tests: the least that etcd grants.
const lease = 2 * time.Second

// rig is a coordinator, and what a test needs around it.
type rig struct {
	t      *testing.T
	config Config
	prefix string
	etcd   string
	store  *cluster.Store
	c      *Coordinator
	conn   *grpc.ClientConn
	stop   context.CancelFunc
	ran    chan error
	ended  sync.Once
}

var prefixes atomic.Int64

// newRig starts a coordinator that is ready.
func newRig(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, prefix: fmt.Sprintf("/test-%d/", prefixes.Add(1)), etcd: SharedEtcd}
	r.start(change...)
	r.awaitReady()
	return r
}

// peer starts another coordinator of the same cluster.
func (r *rig) peer() *rig {
	r.t.Helper()
	p := &rig{t: r.t, prefix: r.prefix, etcd: r.etcd}
	p.start()
	p.awaitReady()
	return p
}

func (r *rig) start(change ...func(*Config)) {
	t := r.t
	t.Helper()
	var err error
	if r.store, err = cluster.Open(cluster.Config{Endpoints: []string{r.etcd}, Prefix: r.prefix}); err != nil {
		t.Fatal(err)
	}
	listener, err := serve.Listen(t.Context(), nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.config = Config{Store: r.store, Listener: listener, Lease: lease, Build: "test", Logger: hclog.New(&hclog.LoggerOptions{
		Name: t.Name(), Level: hclog.LevelFromString(os.Getenv("KISGRID_LOG_LEVEL")), // off where not set
	})}
	if os.Getenv("KISGRID_LOG_LEVEL") == "" {
		r.config.Logger = hclog.NewNullLogger()
	}
	for _, f := range change {
		f(&r.config)
	}
	if r.c, err = New(r.config); err != nil {
		t.Fatal(err)
	}
	if r.conn, err = transport.Dial(listener.Addr().String(), r.config.Transport); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop, r.ran = stop, make(chan error, 1)
	go func() { r.ran <- r.c.Run(ctx) }()
	t.Cleanup(r.end)
}

// end stops the coordinator without a drain, and checks that it holds nothing any more.
func (r *rig) end() {
	r.ended.Do(func() {
		r.stop()
		if err := <-r.ran; err != nil {
			r.t.Errorf("Run returned %v", err)
		}
		if left := r.c.ingest.budget.remaining(); left != r.c.config.Budget {
			r.t.Errorf("at the end %d bytes of the budget are still taken", r.c.config.Budget-left)
		}
		if err := errors.Join(r.conn.Close(), r.store.Close()); err != nil {
			r.t.Error(err)
		}
	})
}

func (r *rig) awaitReady() {
	r.t.Helper()
	select {
	case <-r.c.Ready():
	case <-time.After(patience):
		r.t.Fatal("the coordinator does not become ready")
	}
}

// awaitSnapshot waits until what the coordinator knows of flows is as is says.
func (r *rig) awaitSnapshot(what string, is func(*flowstate.Snapshot) bool) *flowstate.Snapshot {
	r.t.Helper()
	timeout := time.After(patience)
	for {
		now, changed := r.c.board.Watch()
		if is(now) {
			return now
		}
		select {
		case <-changed:
		case <-timeout:
			r.t.Fatalf("it did not come to this: %s", what)
		}
	}
}

// until polls for what nothing signals.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come to this: %s", what)
		}
	}
}

// within bounds a test's wait on a channel.
func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v, ok := <-c:
		if !ok {
			t.Fatalf("%s: the channel is closed", what)
		}
		return v
	case <-time.After(patience):
		t.Fatalf("nothing came: %s", what)
	}
	panic("unreachable")
}

// closed bounds a test's wait for a channel's end.
func closed(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("it did not happen: %s", what)
	}
}

// quiet checks that nothing is in the channel.
func quiet[T any](t *testing.T, what string, c <-chan T) {
	t.Helper()
	select {
	case v := <-c:
		t.Fatalf("%s: %v", what, v)
	default:
	}
}

// flowDocument is a flow of one function.
func flowDocument(name, shardKey, function string, more ...string) definition.Document {
	text := fmt.Sprintf("kistype: flow\nflow_name: %s\n", name)
	if !slices.Contains(more, "status: 0") {
		text += "status: 1\n"
	}
	if shardKey != "" {
		text += "shard_key: " + shardKey + "\n"
	}
	for _, line := range more {
		text += line + "\n"
	}
	return definition.Document{Kind: definition.KindFlow, Name: name, YAML: []byte(text + "flows:\n  - fname: " + function + "\n")}
}

func funcDocument(name string) definition.Document {
	return definition.Document{Kind: definition.KindFunc, Name: name, YAML: fmt.Appendf(nil, "kistype: func\nfname: %s\nfmode: Calculate\nsource:\n  name: rows\n", name)}
}

// put writes documents, as etcdctl does.
func (r *rig) put(docs ...definition.Document) int64 {
	r.t.Helper()
	revision, err := r.store.PutDocuments(r.t.Context(), nil, docs, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return revision
}

// sharded puts flow S, sharded by id, with function echo, waits until it is active, and returns its revision.
func (r *rig) sharded() int64 {
	return r.activate(flowDocument("S", "id", "echo"), funcDocument("echo"))
}

// whole puts flow W, without a shard key.
func (r *rig) whole() int64 { return r.activate(flowDocument("W", "", "echo"), funcDocument("echo")) }

// activate puts documents and waits until the first, a flow, is active.
func (r *rig) activate(docs ...definition.Document) int64 {
	r.t.Helper()
	revision := r.put(docs...)
	r.awaitActive(docs[0].Name, revision)
	return revision
}

func (r *rig) awaitActive(flow string, revision int64) {
	r.t.Helper()
	r.awaitSnapshot(fmt.Sprintf("revision %d of flow %s is active", revision, flow), func(c *flowstate.Snapshot) bool {
		e := c.Flows[flow]
		return e != nil && e.Active != nil && e.Active.Number >= revision
	})
}

// owns waits until the flow's rows have workers to go to, so many.
func (r *rig) owns(flow string, workers int) {
	r.t.Helper()
	until(r.t, fmt.Sprintf("%d workers are ready for flow %s", workers, flow), func() bool {
		ids := map[string]bool{}
		r.c.loop.do(r.t.Context(), func(l *schedulerLoop) {
			for slot := range uint64(4096) {
				ids[l.scheduler.Explain(flow, slot).Worker] = true
			}
		})
		return len(ids) == workers && !ids[""]
	})
}

func (r *rig) ledger(flow string) scheduler.Ledger {
	r.t.Helper()
	return r.c.loop.Ledgers(r.t.Context())[flow]
}

// awaitLedger waits until all rows of the flow that came in have ended, and checks how.
func (r *rig) awaitLedger(flow string, in uint64, want map[batch.Outcome]uint64) {
	r.t.Helper()
	until(r.t, fmt.Sprintf("%d rows of flow %s have ended", in, flow), func() bool {
		l := r.ledger(flow)
		return l.In == in && l.InFlight() == 0
	})
	l := r.ledger(flow)
	for o := batch.Done; o <= batch.Failed; o++ {
		if l.Outcomes[o] != want[o] {
			r.t.Errorf("%d rows ended %s, want %d", l.Outcomes[o], o, want[o])
		}
	}
}

func wantCode(t *testing.T, err error, code batch.Code, says string) {
	t.Helper()
	err = wire.FromStatus(err)
	if err == nil || batch.CodeOf(err) != code || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %v that says %q", err, code, says)
	}
}
