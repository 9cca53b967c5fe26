package devcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// Node is one coordinator or worker of a Cluster.
type Node struct {
	name        string
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

// Kill ends it at once, and waits for that. A coordinator's keys stay in etcd until its lease has run out.
func (n *Node) Kill() {
	n.killed.Store(true)
	if n.store != nil {
		_ = n.store.Close() // so that it can't take its keys back
	}
	n.cut()
	<-n.done
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
	store, err := k.open("etcd")
	if err != nil {
		return nil, err
	}
	n, pages, err := k.newCoordinator(ctx, store, listen, http)
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
		k.metrics = "http://" + pages.Addr().String() + "/metrics"
		k.config.Announce("metrics", k.metrics)
	}
	return n, nil
}

func (k *Cluster) newCoordinator(ctx context.Context, store *cluster.Store, listen, http string) (n *Node, pages net.Listener, err error) {
	listener, err := listenAt(ctx, listen)
	if err != nil {
		return nil, nil, err
	}
	config := coordinator.Config{
		Store: store, Listener: listener, Lease: k.config.Lease, Logger: k.config.Logger.Named("coordinator"), Build: "dev",
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
	return &Node{name: "coordinator", coordinator: c, address: listener.Addr().String(), store: store}, pages, nil
}

func listenAt(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	return transport.Listen(ctx, address)
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
	if c.Environment == nil {
		c.Environment = k.environment
	}
	registry := kis.NewRegistry()
	c.Register(registry)
	w, err := worker.New(worker.Config{
		Registry: registry, Name: c.Name, Listen: "127.0.0.1:0", Lease: k.config.Lease, Environment: c.Environment, Build: c.Build,
		Etcd: cluster.Config{Endpoints: []string{k.etcd.Address()}}, Logger: k.config.Logger.Named(c.Name),
	})
	if err != nil {
		return nil, err
	}
	n := &Node{name: c.Name, worker: w}
	k.run(n, w.Run)
	return n, nil
}
