package devcluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// Config says what a Cluster consists of. Addresses are host:port; empty ones are free ports of 127.0.0.1.
type Config struct {
	// Workers is how many workers run, each with the functions of Register. Default none.
	Workers  int
	Register func(*kis.Registry)
	// Etcd, Listen and HTTP are where the embedded etcd and the coordinator listen. An etcd address that is taken is an error.
	Etcd, Listen, HTTP string
	// DataDir keeps etcd's data. Default: nothing is kept.
	DataDir string
	// Redis is a Redis that is there; empty: an embedded one is started, at EmbeddedRedis if that is free.
	Redis, EmbeddedRedis string
	// Lease of members. Default 2 s: whoever plays with a cluster does not want to wait.
	Lease time.Duration
	// Logger gets what coordinator and workers log. Default: nobody.
	Logger hclog.Logger
	// Announce is told what is up, and where. Default: nobody.
	Announce func(what, where string)
}

// Cluster is an etcd, a Redis, a coordinator and workers in this process.
type Cluster struct {
	config Config
	etcd   *Etcd
	redis  *Redis // nil: one from outside
	store  *cluster.Store

	coordinator *coordinator.Coordinator
	address     string // the coordinator's
	workers     []*worker.Worker

	ctx    context.Context // ends what Run methods run
	cancel context.CancelFunc
	runs   sync.WaitGroup
	failed chan error // takes the first error of a Run

	closing sync.Once
	closed  error // of Close
}

// stopPatience bounds how long Close waits for rows under way.
const stopPatience = 5 * time.Second

// Start starts everything, and waits until the coordinator takes batches and has a session with each worker. What was
// started is stopped again when something fails.
func Start(ctx context.Context, c Config) (*Cluster, error) {
	if c.Lease <= 0 {
		c.Lease = 2 * time.Second
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Announce == nil {
		c.Announce = func(string, string) {}
	}
	k := &Cluster{config: c, failed: make(chan error, 1)}
	k.ctx, k.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := k.start(ctx); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

func (k *Cluster) start(ctx context.Context) (err error) {
	c := &k.config
	if k.etcd, err = StartEtcd(ctx, EtcdConfig{Address: c.Etcd, DataDir: c.DataDir, Logger: c.Logger.Named("etcd")}); err != nil {
		return err
	}
	c.Announce("etcd", k.etcd.Address())
	if c.Redis == "" {
		if k.redis, err = startRedisNear(c.EmbeddedRedis); err != nil {
			return err
		}
		c.Redis = k.redis.Address()
	}
	c.Announce("redis", c.Redis)
	if k.store, err = k.open("etcd"); err != nil {
		return err
	}
	if err := k.startCoordinator(ctx); err != nil {
		return err
	}
	for i := range c.Workers {
		if err := k.startWorker(i); err != nil {
			return err
		}
	}
	if err := k.Await(ctx, c.Workers); err != nil {
		return err
	}
	for _, w := range k.workers {
		c.Announce("worker", w.ID())
	}
	return nil
}

// startRedisNear starts a Redis at the address, or at a free port if that is taken.
func startRedisNear(address string) (*Redis, error) {
	if address != "" {
		if r, err := StartRedis(RedisConfig{Address: address}); err == nil {
			return r, nil
		}
	}
	return StartRedis(RedisConfig{})
}

func (k *Cluster) open(name string) (*cluster.Store, error) {
	return cluster.Open(cluster.Config{Endpoints: []string{k.etcd.Address()}, Logger: k.config.Logger.Named(name)})
}

func (k *Cluster) startCoordinator(ctx context.Context) error {
	c := &k.config
	listener, err := listen(ctx, c.Listen)
	if err != nil {
		return err
	}
	k.address = listener.Addr().String()
	var http net.Listener
	if c.HTTP != "" {
		if http, err = listen(ctx, c.HTTP); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	k.coordinator, err = coordinator.New(coordinator.Config{
		Store: k.store, Listener: listener, HTTP: http, Lease: c.Lease, Logger: c.Logger.Named("coordinator"), Build: "dev",
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	k.run("coordinator", k.coordinator.Run)
	select {
	case <-k.coordinator.Ready():
	case err := <-k.failed:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the coordinator at %s: %w", k.address, ctx.Err())
	}
	c.Announce("coordinator", k.address)
	if http != nil {
		c.Announce("metrics", "http://"+http.Addr().String()+"/metrics")
	}
	return nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	return transport.Listen(ctx, address)
}

// run runs a process of the cluster until Close.
func (k *Cluster) run(name string, run func(context.Context) error) {
	k.runs.Go(func() {
		if err := run(k.ctx); err != nil {
			select {
			case k.failed <- fmt.Errorf("%s: %w", name, err):
			default: // the first one tells enough
			}
		}
	})
}

// startWorker starts the i-th worker.
func (k *Cluster) startWorker(i int) error {
	registry := kis.NewRegistry()
	k.config.Register(registry)
	name := fmt.Sprintf("worker-%d", i+1)
	w, err := worker.New(worker.Config{
		Registry: registry, Name: name, Listen: "127.0.0.1:0", Lease: k.config.Lease, Environment: k.environment, Build: "dev",
		Etcd: cluster.Config{Endpoints: []string{k.etcd.Address()}}, Logger: k.config.Logger.Named(name),
	})
	if err != nil {
		return err
	}
	k.workers = append(k.workers, w)
	k.run(name, w.Run)
	return nil
}

// Await waits until the coordinator has a session with at least so many workers.
func (k *Cluster) Await(ctx context.Context, workers int) error {
	return k.coordinator.AwaitWorkers(ctx, workers)
}

// environment is what documents' ${NAME} are looked up in: the process's, with the cluster's Redis.
func (k *Cluster) environment(name string) (string, bool) {
	if name == "REDIS_ADDR" {
		return k.config.Redis, true
	}
	return os.LookupEnv(name)
}

// Coordinator is the coordinator's address.
func (k *Cluster) Coordinator() string { return k.address }

// Etcd is etcd's address.
func (k *Cluster) Etcd() string { return k.etcd.Address() }

// Redis is the address of the Redis that flows share.
func (k *Cluster) Redis() string { return k.config.Redis }

// WorkerCommand is how a worker in a process of its own joins.
func (k *Cluster) WorkerCommand() string {
	command := "go run ./cmd/worker"
	if k.Redis() != "127.0.0.1:6379" {
		command = "REDIS_ADDR=" + k.Redis() + " " + command
	}
	if k.Etcd() != "127.0.0.1:2379" {
		command += " --etcd " + k.Etcd()
	}
	return command
}

// Put writes documents as etcdctl does, all in one transaction, without waiting for what becomes of them. Documents that
// stand so already are not written again.
func (k *Cluster) Put(ctx context.Context, docs []definition.Document) error {
	_, stored, err := k.store.Documents(ctx)
	if err != nil {
		return err
	}
	var put []definition.Document
	for _, change := range definition.Diff(stored, docs) {
		if change.After != nil {
			put = append(put, *change.After)
		}
	}
	if len(put) == 0 {
		return nil
	}
	_, err = k.store.PutDocuments(ctx, nil, put, nil)
	return err
}

// Wait blocks until ctx is done, or a process of the cluster fails; then it returns why.
func (k *Cluster) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-k.failed:
		return err
	}
}

// Close stops everything in order: coordinator, workers, Redis, etcd. It is safe twice.
func (k *Cluster) Close() error {
	k.closing.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
		defer cancel()
		if k.coordinator != nil {
			k.closed = k.coordinator.Drain(ctx)
		}
		var stops sync.WaitGroup
		for _, w := range k.workers {
			stops.Go(func() { _ = w.Drain(ctx) }) // what is left is cut off below
		}
		stops.Wait()
		k.cancel()
		k.runs.Wait()
		if k.store != nil {
			k.closed = errors.Join(k.closed, k.store.Close())
		}
		if k.redis != nil {
			k.closed = errors.Join(k.closed, k.redis.Close())
		}
		if k.etcd != nil {
			k.closed = errors.Join(k.closed, k.etcd.Close())
		}
	})
	return k.closed
}
