package devcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// Network makes the connections between the parties of a cluster. A test gives one that can disturb them. Coordinators are named
// coordinator-1, coordinator-2 and so on; workers have the names of their WorkerConfig.
type Network interface {
	// Reach returns the address by which a node reaches a service. The service is "etcd" or "redis", and listens at the given address.
	Reach(node, service, address string) (string, error)
	// DialWorker connects a coordinator to a worker.
	DialWorker(ctx context.Context, coordinator string, w cluster.Worker) (net.Conn, error)
	// DialCoordinator connects a coordinator to another one.
	DialCoordinator(ctx context.Context, coordinator string, other cluster.Coordinator) (net.Conn, error)
}

// Node is one coordinator or worker of a Cluster. Its methods may be called from several goroutines.
//
//	         Kill, Abandon              its goroutine returns
//	running ───────────────▶ cut off ──────────────────────────▶ ended (Done is closed)
//	   │         Drain                   its goroutine returns      ▲
//	   └───────────────────▶ draining ──────────────────────────────┘
type Node struct {
	name        string
	metrics     prometheus.Gatherer
	coordinator *coordinator.Coordinator // nil for a worker
	worker      *worker.Worker           // nil for a coordinator
	address     string                   // where a coordinator takes clients; empty for a worker
	pages       string                   // the URL of a coordinator's HTTP pages; empty means that there are none
	store       *cluster.Store           // a coordinator's access to etcd; nil for a worker
	cut         context.CancelFunc       // ends Run
	killed      atomic.Bool              // its error is then no failure of the cluster
	done        chan struct{}            // closed when the node has ended
}

// Address returns the address (host:port) at which a coordinator takes clients; it is empty for a worker.
func (n *Node) Address() string { return n.address }

// Pages returns the URL of a coordinator's HTTP pages, without a slash at the end; it is empty where there are none.
func (n *Node) Pages() string { return n.pages }

// Name returns the name by which a Network knows the node.
func (n *Node) Name() string { return n.name }

// ID returns the node's id in etcd. The id of a worker is empty before it has registered.
func (n *Node) ID() string {
	if n.worker != nil {
		return n.worker.ID()
	}
	return n.coordinator.ID()
}

// Metrics returns the metrics that the node would serve to Prometheus.
func (n *Node) Metrics() prometheus.Gatherer { return n.metrics }

// Kill ends the node at once and waits until it has ended. A coordinator's keys stay in etcd until its lease has run out.
func (n *Node) Kill() {
	n.Abandon()
	<-n.done
}

// Done returns a channel that is closed when the node has ended.
func (n *Node) Done() <-chan struct{} { return n.done }

// Abandon does what Kill does, without the wait. Done tells when the node has ended, and Close of the Cluster waits for it.
func (n *Node) Abandon() {
	n.killed.Store(true)
	if n.store != nil {
		_ = n.store.Close() // so that the node can't delete its keys on its way out
	}
	n.cut()
}

// Drain ends the node in good order: rows under way end, or are handed back. It returns when the node has drained, or with an error when
// ctx ends.
func (n *Node) Drain(ctx context.Context) error {
	if n.worker != nil {
		return n.worker.Drain(ctx)
	}
	return n.coordinator.Drain(ctx)
}

// living returns the nodes that have not ended, in the order of their start. It removes the ended ones from k.nodes.
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

// run runs a node in a goroutine until the node ends or the cluster is closed. An error of a node that was not killed goes to k.failed.
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
			default: // an earlier error is there already
			}
		}
	}()
}

// StartCoordinator starts one more coordinator and waits until it takes batches. An empty listen address means a free port of 127.0.0.1.
func (k *Cluster) StartCoordinator(ctx context.Context, listen string) (*Node, error) {
	return k.startCoordinator(ctx, listen, "")
}

// StartHTTPCoordinator does what StartCoordinator does at a free port, and serves HTTP at another free port.
func (k *Cluster) StartHTTPCoordinator(ctx context.Context) (*Node, error) {
	return k.startCoordinator(ctx, "", "127.0.0.1:0")
}

// startCoordinator does what StartCoordinator does, and serves the coordinator's metrics at the address http; "" means that they are not
// served.
func (k *Cluster) startCoordinator(ctx context.Context, listen, http string) (*Node, error) {
	k.mu.Lock()
	k.started++
	name := fmt.Sprintf("coordinator-%d", k.started)
	k.mu.Unlock()
	etcd, err := k.reach(name, "etcd", k.Etcd())
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
		n.pages = scheme + "://" + pages.Addr().String()
		k.config.Announce("metrics", n.pages+"/metrics")
		k.config.Announce("console", n.pages+"/")
	}
	return n, nil
}

// reach returns the address at which a node reaches a service that listens at the given address: the Network's answer, or the same
// address if there is no Network.
func (k *Cluster) reach(node, service, address string) (string, error) {
	if k.config.Network == nil {
		return address, nil
	}
	return k.config.Network.Reach(node, service, address)
}

// newCoordinator makes a coordinator that does not run yet. pages is the listener of its metrics; nil means that they are not served.
func (k *Cluster) newCoordinator(ctx context.Context, name string, store *cluster.Store, listen, http string) (n *Node, pages net.Listener, err error) {
	listener, err := listenAt(ctx, k.config.Machine, listen)
	if err != nil {
		return nil, nil, err
	}
	config := coordinator.Config{
		Store: store, Listener: listener, Lease: k.config.Lease, Logger: k.config.Logger.Named("coordinator"), Build: k.config.Build, AccessFile: k.config.AccessFile, HTTPBase: k.config.HTTPBase,
		Transport: k.config.TLS, Registry: prometheus.NewRegistry(), Tracing: k.config.Tracing, DeadLetters: k.dead,
	}
	config.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if network := k.config.Network; network != nil {
		config.DialWorker = func(ctx context.Context, w cluster.Worker) (net.Conn, error) { return network.DialWorker(ctx, name, w) }
		config.DialCoordinator = func(ctx context.Context, c cluster.Coordinator) (net.Conn, error) {
			return network.DialCoordinator(ctx, name, c)
		}
	}
	if http != "" {
		if pages, err = listenAt(ctx, k.config.Machine, http); err != nil {
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

// listenAt opens a TCP listener at an address of a network; "" means a free port of 127.0.0.1.
func listenAt(ctx context.Context, in network.Network, address string) (net.Listener, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	return serve.Listen(ctx, in, address)
}

// WorkerConfig describes a worker for StartWorker. Only Name must be given.
type WorkerConfig struct {
	// Name is the worker's name, by which slots are shared out.
	Name string
	// Register registers the worker's functions. Default: Config.Register of the Cluster.
	Register func(*kis.Registry)
	// Build is the build of its program that the worker reports. Default: that of the cluster.
	Build string
	// Environment looks up the ${NAME} of documents. Default: the environment of the process, with the address of the Cluster's Redis as
	// REDIS_ADDR.
	Environment func(string) (string, bool)
}

// StartWorker starts one more worker. It does not wait until the worker has joined: call Await.
func (k *Cluster) StartWorker(c WorkerConfig) (*Node, error) {
	if c.Register == nil {
		c.Register = k.config.Register
	}
	if c.Build == "" {
		c.Build = k.config.Build
	}
	etcd, err := k.reach(c.Name, "etcd", k.Etcd())
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
		Etcd: store, Transport: k.config.TLS, Network: k.config.Machine, Logger: k.config.Logger.Named(c.Name), Tracing: k.config.Tracing,
	})
	if err != nil {
		return nil, err
	}
	n := &Node{name: c.Name, metrics: w.Metrics(), worker: w}
	k.run(n, w.Run)
	return n, nil
}
