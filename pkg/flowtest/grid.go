package flowtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	kisnet "github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/client/oteltrace"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// patience is the longest that a call of this package waits. A call that waits longer fails the test.
const patience = 60 * time.Second

// Grid is a running cluster: an etcd, a Redis, coordinators and workers, in this process, over real sockets or in virtual time. Cluster
// makes it.
//
// Several goroutines may call its methods at the same time. A method that can go wrong and returns no error fails the test by TB.Fatalf,
// so that only the test's own goroutine may call it.
type Grid struct {
	t       TB
	network *network
	tracing trace.TracerProvider // nil means that nobody traces
	cluster *devcluster.Cluster

	mu    sync.Mutex
	nodes []*Node // all nodes in the order of their start, including nodes that have ended; guarded by mu
}

// Cluster starts a cluster with the given number of workers and waits until it takes batches, which takes about a tenth of a second. The
// end of the test stops it. Documents can name the cluster's Redis as ${REDIS_ADDR}. A cluster that can't be started fails the test.
func Cluster(t TB, workers int, opts ...Option) *Grid {
	t.Helper()
	var o options
	o.config.Documents.Files = []string{string(filepath.Separator)} // documents may name any file: they are the test's own
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
	if o.virtual {
		if err := o.simulate(t); err != nil {
			t.Fatalf("start a cluster: %v", err)
		}
	}
	network, err := newNetwork(t.Context(), kisnet.Or(o.config.Machine))
	if err != nil {
		t.Fatalf("start a cluster: %v", err)
	}
	t.Cleanup(network.close)
	g := &Grid{t: t, network: network, tracing: o.config.Tracing}
	network.bearer, network.coordinator = g.bearer, g.coordinator
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

// patient returns the test's context with patience as its time limit.
func (g *Grid) patient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(g.t.Context(), patience)
}

// add makes the Node of a coordinator or worker that was just started, and adds it to the Grid's nodes. key is the
// node's party in the network (Node.key).
func (g *Grid) add(n *devcluster.Node, key string, c WorkerConfig) *Node {
	g.mu.Lock()
	defer g.mu.Unlock()
	node := &Node{grid: g, node: n, key: key, config: c}
	g.nodes = append(g.nodes, node)
	return node
}

// forget removes a node that has ended from the Grid's nodes, because Restart starts another one in its place.
func (g *Grid) forget(n *Node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.nodes = slices.DeleteFunc(g.nodes, func(o *Node) bool { return o == n })
}

// all returns the Grid's nodes in the order of their start, including nodes that have ended. Nodes in whose place Restart has started
// others are not among them.
func (g *Grid) all() []*Node {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*Node(nil), g.nodes...)
}

// bearer returns the party in the network (Node.key) of the worker whose record in etcd is w. It returns "" for a worker that was started a
// moment ago and is not a Node yet.
func (g *Grid) bearer(w cluster.Worker) string {
	for _, n := range g.all() {
		if n.Address() == "" && n.ID() == w.ID {
			return n.key
		}
	}
	return ""
}

// coordinator is like bearer, for the coordinator whose record in etcd is c.
func (g *Grid) coordinator(c cluster.Coordinator) string {
	for _, n := range g.all() {
		if n.Address() != "" && n.ID() == c.ID {
			return n.key
		}
	}
	return ""
}

// Workers returns all workers in the order of their start, including workers that have ended. A worker that was restarted is listed once,
// at the end.
func (g *Grid) Workers() []*Node {
	return g.nodesWhere(func(n *Node) bool { return n.Address() == "" })
}

// Coordinators returns all coordinators in the order of their start, including coordinators that have ended. A coordinator that was
// restarted is listed once, at the end.
func (g *Grid) Coordinators() []*Node {
	return g.nodesWhere(func(n *Node) bool { return n.Address() != "" })
}

// nodesWhere returns the nodes for which the function is returns true, in the order of their start.
func (g *Grid) nodesWhere(is func(*Node) bool) []*Node {
	var some []*Node
	for _, n := range g.all() {
		if is(n) {
			some = append(some, n)
		}
	}
	return some
}

// Worker returns the worker at index i of Workers. If there is no worker at this index, the test fails.
func (g *Grid) Worker(i int) *Node {
	g.t.Helper()
	return g.pick("worker", g.Workers(), i)
}

// Coordinator returns the coordinator at index i of Coordinators. If there is no coordinator at this index, the test fails.
func (g *Grid) Coordinator(i int) *Node {
	g.t.Helper()
	return g.pick("coordinator", g.Coordinators(), i)
}

// pick returns the node at index i of nodes, and fails the test if there is none. what names the kind of node in the failure.
func (g *Grid) pick(what string, nodes []*Node, i int) *Node {
	g.t.Helper()
	if i < 0 || i >= len(nodes) {
		g.t.Fatalf("there is no %s %d: %d were started, and the first is 0", what, i, len(nodes))
	}
	return nodes[i]
}

// addresses returns the addresses (host:port) of the coordinators that have not ended.
func (g *Grid) addresses() []string {
	var all []string
	for _, n := range g.cluster.Coordinators() {
		all = append(all, n.Address())
	}
	return all
}

// Etcd returns the address of etcd (host:port), for programs that use it directly, such as etcdctl. No fault reaches connections to this
// address.
func (g *Grid) Etcd() string { return g.cluster.Etcd() }

// Redis returns the address (host:port) of the Redis that flows share. No fault reaches connections to this address.
func (g *Grid) Redis() string { return g.cluster.Redis() }

// WorkerConfig describes a worker for AddWorker. The zero value describes a worker like those that Cluster started.
type WorkerConfig struct {
	// Name is the worker's name. Slots are shared out by name, so a worker that takes the name of an ended one gets that worker's slots.
	// Default: worker-<n> with the next free number.
	Name string
	// Register registers the worker's functions. Default: the functions that the option Register gave to the Grid.
	Register func(*kis.Registry)
	// Build is the build of its program that the worker reports. Default: "dev".
	Build string
}

// AddWorker starts one more worker and waits until every coordinator has a session with it.
func (g *Grid) AddWorker(c WorkerConfig) *Node {
	g.t.Helper()
	n := g.startWorker(c)
	ctx, cancel := g.patient()
	defer cancel()
	look := time.NewTicker(2 * time.Millisecond) // the number of sessions is a metric, which gives no signal
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

// startWorker starts a worker and returns its Node without waiting until the worker has sessions.
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

// freeName returns the first free name worker-<n> whose number n is above the number of workers.
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

// AddCoordinator starts one more coordinator and waits until it takes batches. Clients that were made before don't know its address.
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

// Await waits until each coordinator has sessions with at least the given number of workers.
func (g *Grid) Await(workers int) {
	g.t.Helper()
	ctx, cancel := g.patient()
	defer cancel()
	if err := g.cluster.Await(ctx, workers); err != nil {
		g.t.Fatalf("%v", err)
	}
}

// Client makes a client of all coordinators that have not ended. Its connections belong to the party Clients, so faults reach them. It
// sends a batch again for up to a minute unless an option says otherwise. The client is closed when the test ends.
func (g *Grid) Client(opts ...client.Option) *client.Client {
	g.t.Helper()
	own := []client.Option{client.WithRetryFor(patience), oteltrace.WithTracing(g.tracing), client.WithDialOptions(append(transport.Through(g.network.machine), grpc.WithContextDialer(g.dialCoordinator))...)}
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

// dialCoordinator connects a client to the coordinator at an address, through a relay. An address of no coordinator of the Grid is an
// error.
func (g *Grid) dialCoordinator(ctx context.Context, address string) (net.Conn, error) {
	for _, n := range g.all() {
		if n.Address() == address {
			return g.network.dial(ctx, Clients.party(), n.key, address)
		}
	}
	return nil, fmt.Errorf("no coordinator of this grid is at %s: they are at %s", address, strings.Join(g.addresses(), ", "))
}
