package devcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// Network is what stands between a cluster's parties, for tests that disturb it. Coordinators are named coordinator-1,
// coordinator-2, …, workers as their WorkerConfig says.
type Network interface {
	// Reach is the address by which a node reaches a service, "etcd" or "redis", that is at the given one.
	Reach(node, service, address string) (string, error)
	// DialWorker makes a coordinator's connections to workers.
	DialWorker(ctx context.Context, coordinator string, w cluster.Worker) (net.Conn, error)
}

// Node is one coordinator or worker of a Cluster.
type Node struct {
	name        string
	metrics     prometheus.Gatherer
	coordinator *coordinator.Coordinator // nil for a worker
	worker      *worker.Worker           // nil for a coordinator
	address     string                   // a coordinator's
	store       *cluster.Store           // a coordinator's
	cut         context.CancelFunc
	killed      atomic.Bool
	done        chan struct{} // closed when it has ended
}

// Address is where a coordinator takes clients.
func (n *Node) Address() string { return n.address }

// Name is what it is called in a Network.
func (n *Node) Name() string { return n.name }

// ID is what it is called in etcd; a worker's is "" before it has registered.
func (n *Node) ID() string {
	if n.worker != nil {
		return n.worker.ID()
	}
	return n.coordinator.ID()
}

// Metrics are what it would serve.
func (n *Node) Metrics() prometheus.Gatherer { return n.metrics }

// Kill ends it at once, and waits for that. A coordinator's keys stay in etcd until its lease has run out.
func (n *Node) Kill() {
	n.Abandon()
	<-n.done
}

// Done is closed when it has ended.
func (n *Node) Done() <-chan struct{} { return n.done }

// Abandon is Kill without the wait: Done tells, and Close waits.
func (n *Node) Abandon() {
	n.killed.Store(true)
	if n.store != nil {
		_ = n.store.Close() // so that it can't take its keys back
	}
	n.cut()
}

// Drain lets what is under way end.
func (n *Node) Drain(ctx context.Context) error {
	if n.worker != nil {
		return n.worker.Drain(ctx)
	}
	return n.coordinator.Drain(ctx)
}

// living are the nodes that have not ended, in the order of their start.
func (k *Cluster) living() []*Node {
	k.mu.Lock()
	defer k.mu.Unlock()
	var living []*Node
	for _, n := range k.nodes {
		select {
		case <-n.done:
		default:
			living = append(living, n)
		}
	}
	k.nodes = living
	return append([]*Node(nil), living...)
}

// run runs a node until it ends, or the cluster is closed.
func (k *Cluster) run(n *Node, run func(context.Context) error) {
	ctx, cut := context.WithCancel(k.ctx)
	n.cut, n.done = cut, make(chan struct{})
	k.mu.Lock()
	k.nodes = append(k.nodes, n)
	k.mu.Unlock()
	go func() {
		defer close(n.done)
		defer cut()
		err := run(ctx)
		if n.store != nil {
			err = errors.Join(err, n.store.Close())
		}
		if err != nil && !n.killed.Load() {
			select {
			case k.failed <- fmt.Errorf("%s: %w", n.name, err):
			default: // the first one tells enough
			}
		}
	}()
}

// StartCoordinator starts one more coordinator, by default at a free port, and waits until it takes batches.
func (k *Cluster) StartCoordinator(ctx context.Context, listen string) (*Node, error) {
	return k.startCoordinator(ctx, listen, "")
}

func (k *Cluster) startCoordinator(ctx context.Context, listen, http string) (*Node, error) {
	k.mu.Lock()
	k.started++
	name := fmt.Sprintf("coordinator-%d", k.started)
	k.mu.Unlock()
	etcd, err := k.reach(name, "etcd", k.etcd.Address())
	if err != nil {
		return nil, err
	}
	store, err := k.open(etcd, "etcd")
	if err != nil {
		return nil, err
	}
	n, pages, err := k.newCoordinator(ctx, name, store, listen, http)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	k.run(n, n.coordinator.Run)
	select {
	case <-n.coordinator.Ready():
	case err := <-k.failed:
		return nil, err
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the coordinator at %s: %w", n.address, ctx.Err())
	}
	k.config.Announce("coordinator", n.address)
	if pages != nil {
		scheme := "http"
		if k.config.TLS.TLSCert != "" {
			scheme = "https"
		}
		k.metrics = scheme + "://" + pages.Addr().String() + "/metrics"
		k.config.Announce("metrics", k.metrics)
	}
	return n, nil
}

// reach is the address by which a node reaches a service.
func (k *Cluster) reach(node, service, address string) (string, error) {
	if k.config.Network == nil {
		return address, nil
	}
	return k.config.Network.Reach(node, service, address)
}

func (k *Cluster) newCoordinator(ctx context.Context, name string, store *cluster.Store, listen, http string) (n *Node, pages net.Listener, err error) {
	listener, err := listenAt(ctx, listen)
	if err != nil {
		return nil, nil, err
	}
	config := coordinator.Config{
		Store: store, Listener: listener, Lease: k.config.Lease, Logger: k.config.Logger.Named("coordinator"), Build: "dev",
		Transport: k.config.TLS, Registry: prometheus.NewRegistry(), Tracing: k.config.Tracing, DeadLetters: k.dead,
	}
	config.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if network := k.config.Network; network != nil {
		config.DialWorker = func(ctx context.Context, w cluster.Worker) (net.Conn, error) { return network.DialWorker(ctx, name, w) }
	}
	if http != "" {
		if pages, err = listenAt(ctx, http); err != nil {
			return nil, nil, errors.Join(err, listener.Close())
		}
		config.HTTP = pages
	}
	c, err := coordinator.New(config)
	if err != nil {
		return nil, nil, errors.Join(err, listener.Close())
	}
	return &Node{name: name, metrics: config.Registry, coordinator: c, address: listener.Addr().String(), store: store}, pages, nil
}

func listenAt(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	return serve.Listen(ctx, address)
}

// WorkerConfig says what a further worker is like. Only Name must be given.
type WorkerConfig struct {
	Name string
	// Register registers its functions. Default: the Cluster's.
	Register func(*kis.Registry)
	// Build says which build it passes for. Default "dev".
	Build string
	// Environment is what documents' ${NAME} are looked up in. Default: the process's, with the Cluster's Redis as REDIS_ADDR.
	Environment func(string) (string, bool)
}

// StartWorker starts one more worker, without waiting until it has registered: Await does.
func (k *Cluster) StartWorker(c WorkerConfig) (*Node, error) {
	if c.Register == nil {
		c.Register = k.config.Register
	}
	if c.Build == "" {
		c.Build = "dev"
	}
	etcd, err := k.reach(c.Name, "etcd", k.etcd.Address())
	if err != nil {
		return nil, err
	}
	if c.Environment == nil {
		redis, err := k.reach(c.Name, "redis", k.config.Redis)
		if err != nil {
			return nil, err
		}
		c.Environment = environment(redis)
	}
	store, err := k.etcdAt(etcd)
	if err != nil {
		return nil, err
	}
	registry := kis.NewRegistry()
	c.Register(registry)
	w, err := worker.New(worker.Config{
		Registry: registry, Name: c.Name, Listen: "127.0.0.1:0", Lease: k.config.Lease, Environment: c.Environment, Build: c.Build, Documents: k.config.Documents,
		Etcd: store, Transport: k.config.TLS, Logger: k.config.Logger.Named(c.Name), Tracing: k.config.Tracing,
	})
	if err != nil {
		return nil, err
	}
	n := &Node{name: c.Name, metrics: w.Metrics(), worker: w}
	k.run(n, w.Run)
	return n, nil
}
