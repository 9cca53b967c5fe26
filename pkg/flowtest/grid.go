package flowtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/client/oteltrace"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// patience bounds every wait: long enough for a slow machine, short enough to fail.
const patience = 60 * time.Second

// TB is what a Grid needs of a test: testing.T and testing.B have it.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(f func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Option changes what Cluster starts.
type Option func(*options)

type options struct {
	config devcluster.Config
	conf   fs.FS
}

// Register gives every worker these functions. Default: none.
func Register(register func(*kis.Registry)) Option {
	return func(o *options) { o.config.Register = register }
}

// Conf has the documents of a folder run from the beginning.
func Conf(dir string) Option { return ConfFS(os.DirFS(dir)) }

// ConfFS is Conf for documents that are embedded in the program.
func ConfFS(conf fs.FS) Option { return func(o *options) { o.conf = conf } }

// Coordinators is how many coordinators run. Default 1.
func Coordinators(n int) Option { return func(o *options) { o.config.Coordinators = n } }

// Lease is how long members wait for one that says nothing. Whole seconds, default 2 s.
func Lease(d time.Duration) Option { return func(o *options) { o.config.Lease = d } }

// RedisAt has flows share a Redis that is there. Default: an embedded one, empty.
func RedisAt(address string) Option { return func(o *options) { o.config.Redis = address } }

// Logger gets what coordinators and workers log. Default: nobody, or standard error at the level in KISGRID_LOG_LEVEL.
func Logger(l hclog.Logger) Option { return func(o *options) { o.config.Logger = l } }

// Tracing takes the spans of coordinators, workers and the Grid's clients. Default: nobody traces.
func Tracing(p trace.TracerProvider) Option { return func(o *options) { o.config.Tracing = p } }

// Grid is a cluster that runs: an etcd, a Redis, coordinators and workers, in this process and over real sockets. Its methods
// may be called by several goroutines, but those that may end the test only by the test's own.
type Grid struct {
	t       TB
	network *network
	tracing trace.TracerProvider // nil where nobody traces
	cluster *devcluster.Cluster

	mu    sync.Mutex
	nodes []*Node // all that were ever started, in the order of their start; guarded by mu
}

// Cluster starts a cluster with so many workers, waits until it takes batches, which takes about a tenth of a second, and
// stops it when the test ends. Workers find its Redis as ${REDIS_ADDR}. What goes wrong ends the test.
func Cluster(t TB, workers int, opts ...Option) *Grid {
	t.Helper()
	var o options
	o.config.Documents.Files = []string{string(filepath.Separator)} // the test's documents are its program's own
	if level := os.Getenv("KISGRID_LOG_LEVEL"); level != "" {
		o.config.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.LevelFromString(level)})
	}
	for i, option := range opts {
		if option == nil {
			t.Fatalf("start a cluster: option %d is nil: leave it out", i+1)
		}
		option(&o)
	}
	if workers < 0 {
		t.Fatalf("start a cluster of %d workers: give 0 or more", workers)
	}
	if o.config.Register == nil {
		o.config.Register = func(*kis.Registry) {}
	}
	network, err := newNetwork()
	if err != nil {
		t.Fatalf("start a cluster: %v", err)
	}
	t.Cleanup(network.close)
	g := &Grid{t: t, network: network, tracing: o.config.Tracing}
	network.bearer = g.bearer
	o.config.Network = network
	ctx, cancel := g.patient()
	defer cancel()
	if g.cluster, err = devcluster.Start(ctx, o.config); err != nil {
		t.Fatalf("start a cluster: %v", err)
	}
	t.Cleanup(func() {
		if err := g.cluster.Close(); err != nil {
			t.Errorf("stop the cluster: %v", err)
		}
	})
	for _, n := range g.cluster.Coordinators() {
		g.add(n, n.Name(), WorkerConfig{})
	}
	for range workers {
		g.startWorker(WorkerConfig{})
	}
	g.Await(workers)
	if o.conf != nil {
		docs, err := readFS(o.conf)
		if err == nil {
			err = g.apply(docs)
		}
		if err != nil {
			t.Fatalf("apply the documents: %v", err)
		}
	}
	return g
}

// patient is the test's context, for something that must not take for ever.
func (g *Grid) patient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(g.t.Context(), patience)
}

func (g *Grid) add(n *devcluster.Node, key string, c WorkerConfig) *Node {
	g.mu.Lock()
	defer g.mu.Unlock()
	node := &Node{grid: g, node: n, key: key, config: c}
	g.nodes = append(g.nodes, node)
	return node
}

// forget drops a node that another one takes the place of.
func (g *Grid) forget(n *Node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.nodes = slices.DeleteFunc(g.nodes, func(o *Node) bool { return o == n })
}

// all are the nodes that were ever started.
func (g *Grid) all() []*Node {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*Node(nil), g.nodes...)
}

// bearer is the party that a worker of the cluster is; "": it has just been started.
func (g *Grid) bearer(w cluster.Worker) string {
	for _, n := range g.all() {
		if n.Address() == "" && n.ID() == w.ID {
			return n.key
		}
	}
	return ""
}

// Workers are the workers that were ever started, in the order of their start.
func (g *Grid) Workers() []*Node {
	return g.nodesWhere(func(n *Node) bool { return n.Address() == "" })
}

// Coordinators are the coordinators that were ever started, in the order of their start.
func (g *Grid) Coordinators() []*Node {
	return g.nodesWhere(func(n *Node) bool { return n.Address() != "" })
}

func (g *Grid) nodesWhere(is func(*Node) bool) []*Node {
	var some []*Node
	for _, n := range g.all() {
		if is(n) {
			some = append(some, n)
		}
	}
	return some
}

// Worker is one of Workers, from 0.
func (g *Grid) Worker(i int) *Node {
	g.t.Helper()
	return g.pick("worker", g.Workers(), i)
}

// Coordinator is one of Coordinators, from 0.
func (g *Grid) Coordinator(i int) *Node {
	g.t.Helper()
	return g.pick("coordinator", g.Coordinators(), i)
}

func (g *Grid) pick(what string, nodes []*Node, i int) *Node {
	g.t.Helper()
	if i < 0 || i >= len(nodes) {
		g.t.Fatalf("there is no %s %d: %d were started, and the first is 0", what, i, len(nodes))
	}
	return nodes[i]
}

func (g *Grid) addresses() []string {
	var all []string
	for _, n := range g.cluster.Coordinators() {
		all = append(all, n.Address())
	}
	return all
}

// Etcd is etcd's address, for what goes round the Grid, such as etcdctl.
func (g *Grid) Etcd() string { return g.cluster.Etcd() }

// Redis is the address of the Redis that flows share.
func (g *Grid) Redis() string { return g.cluster.Redis() }

// WorkerConfig says what a further worker is like. The zero value is like the others.
type WorkerConfig struct {
	// Name is what rows are shared out by. One that was killed or drained may be used again. Default: the next worker-<n>.
	Name string
	// Register registers its functions. Default: those of the Grid.
	Register func(*kis.Registry)
	// Build says which build of the program it passes for.
	Build string
}

// AddWorker starts one more worker, and waits until every coordinator has a session with it.
func (g *Grid) AddWorker(c WorkerConfig) *Node {
	g.t.Helper()
	n := g.startWorker(c)
	ctx, cancel := g.patient()
	defer cancel()
	look := time.NewTicker(2 * time.Millisecond) // nothing tells but a number
	defer look.Stop()
	for int(n.Metric("kisgrid_worker_peers")) < len(g.cluster.Coordinators()) {
		select {
		case <-look.C:
		case <-ctx.Done():
			g.t.Fatalf("worker %s has no session with each coordinator: %v", n.Name(), ctx.Err())
		}
	}
	return n
}

func (g *Grid) startWorker(c WorkerConfig) *Node {
	g.t.Helper()
	if c.Name == "" {
		c.Name = g.freeName()
	}
	party := g.network.begin(c.Name)
	n, err := g.cluster.StartWorker(devcluster.WorkerConfig{Name: c.Name, Register: c.Register, Build: c.Build})
	if err != nil {
		g.t.Fatalf("start worker %s: %v", c.Name, err)
	}
	return g.add(n, party, c)
}

// freeName is the first worker-<n> that nobody had, n being higher than the number of workers.
func (g *Grid) freeName() string {
	taken := map[string]bool{}
	workers := g.Workers()
	for _, n := range workers {
		taken[n.Name()] = true
	}
	for i := len(workers) + 1; ; i++ {
		if name := fmt.Sprintf("worker-%d", i); !taken[name] {
			return name
		}
	}
}

// AddCoordinator starts one more coordinator, and waits until it takes batches. Clients that are there don't know it.
func (g *Grid) AddCoordinator() *Node {
	g.t.Helper()
	ctx, cancel := g.patient()
	defer cancel()
	n, err := g.cluster.StartCoordinator(ctx, "")
	if err != nil {
		g.t.Fatalf("start a coordinator: %v", err)
	}
	return g.add(n, n.Name(), WorkerConfig{})
}

// Await waits until each coordinator has sessions with at least so many workers.
func (g *Grid) Await(workers int) {
	g.t.Helper()
	ctx, cancel := g.patient()
	defer cancel()
	if err := g.cluster.Await(ctx, workers); err != nil {
		g.t.Fatalf("%v", err)
	}
}

// Client dials all coordinators that live, over the network that faults disturb, and is closed when the test ends.
func (g *Grid) Client(opts ...client.Option) *client.Client {
	g.t.Helper()
	own := []client.Option{client.WithRetryFor(patience), oteltrace.WithTracing(g.tracing), client.WithDialOptions(grpc.WithContextDialer(g.dialCoordinator))}
	c, err := client.Dial(strings.Join(g.addresses(), ","), append(own, opts...)...)
	if err != nil {
		g.t.Fatalf("dial the coordinators: %v", err)
	}
	g.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			g.t.Errorf("close a client: %v", err)
		}
	})
	return c
}

// Apply writes documents, as kisgrid apply does: each text is one, or several with --- between them. It waits until each flow
// that they concern runs on them, at every coordinator. A change that does not come to that is an error, which says why.
func (g *Grid) Apply(documents ...string) error {
	var docs []definition.Document
	for i, text := range documents {
		docs = append(docs, definition.Split(fmt.Sprintf("document %d", i+1), []byte(text))...)
	}
	return g.apply(docs)
}

// Put writes documents as etcdctl put does: unchecked, and without waiting for what becomes of them. The error is etcd's.
func (g *Grid) Put(documents ...definition.Document) error {
	ctx, cancel := g.patient()
	defer cancel()
	return g.cluster.Put(ctx, documents)
}

func readFS(conf fs.FS) ([]definition.Document, error) {
	var docs []definition.Document
	err := fs.WalkDir(conf, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".yml" && path.Ext(name) != ".yaml" {
			return err
		}
		text, err := fs.ReadFile(conf, name)
		docs = append(docs, definition.Split(name, text)...)
		return err
	})
	return docs, err
}

func (g *Grid) apply(docs []definition.Document) error {
	in := &pb.ApplyRequest{}
	for _, d := range docs {
		p, err := definition.Parse(d)
		if err != nil {
			return err
		}
		if p.Global == nil {
			d = p.Document()
			in.Documents = append(in.Documents, &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML})
		}
	}
	ctx, cancel := g.patient()
	defer cancel()
	flows := map[string]bool{}
	for i, n := range g.cluster.Coordinators() {
		err := admin(n.Address(), func(a pb.AdminClient) error {
			if i == 0 {
				events, err := a.Apply(ctx, in)
				return settle(err, func() (*pb.Progress, error) {
					e, err := events.Recv()
					if p := e.GetProgress(); p != nil {
						flows[p.GetFlow()] = true
					}
					return e.GetProgress(), err
				})
			}
			for flow := range flows {
				events, err := a.Rollout(ctx, &pb.RolloutRequest{Flow: flow})
				if err := settle(err, func() (*pb.Progress, error) { return events.Recv() }); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settle reads until the end how flows come along; those that did not come to run in the end are an error.
func settle(err error, receive func() (*pb.Progress, error)) error {
	last := map[string]*pb.Progress{}
	for err == nil {
		var p *pb.Progress
		if p, err = receive(); p != nil {
			last[p.GetFlow()] = p
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	var wrong []error
	for flow, p := range last {
		if s := p.GetState(); s != cluster.StateActive && s != cluster.StateDisabled {
			wrong = append(wrong, fmt.Errorf("flow %s is %s: %s", flow, s, strings.Join(p.GetReasons(), "; ")))
		}
	}
	return errors.Join(wrong...)
}

// admin calls f with a connection to a coordinator, which no fault reaches.
func admin(address string, f func(pb.AdminClient) error) error {
	conn, err := transport.Dial(address, transport.Config{})
	if err != nil {
		return err
	}
	defer conn.Close()
	return wire.FromStatus(f(pb.NewAdminClient(conn)))
}

// Owner is the worker to which rows with a shard key go now, by the first coordinator that lives. The key is written as in a
// row's JSON: 101, "a". That there is none ends the test.
func (g *Grid) Owner(flow, key string) *Node {
	g.t.Helper()
	ctx, cancel := g.patient()
	defer cancel()
	var answer *pb.ExplainResponse
	err := errors.New("no coordinator lives")
	for _, address := range g.addresses()[:1] {
		err = admin(address, func(a pb.AdminClient) (err error) {
			answer, err = a.Explain(ctx, &pb.ExplainRequest{Flow: flow, Key: key})
			return err
		})
	}
	if err != nil {
		g.t.Fatalf("find the owner of %s in flow %s: %v", key, flow, err)
	}
	for _, n := range g.Workers() {
		if answer.GetWorker() != "" && n.ID() == answer.GetWorker() {
			return n
		}
	}
	g.t.Fatalf("rows of flow %s with the key %s go to no worker: %s", flow, key, answer.GetReason())
	return nil
}
