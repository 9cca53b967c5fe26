package devcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Config says what a Cluster consists of. Addresses are host:port; empty ones are free ports of 127.0.0.1.
type Config struct {
	// Coordinators is how many coordinators run. Default 1.
	Coordinators int
	// Workers is how many workers run, each with the functions of Register. Default none.
	Workers  int
	Register func(*kis.Registry)
	// Etcd, Listen and HTTP are where the embedded etcd and the first coordinator listen. An etcd address that is taken is an error.
	Etcd, Listen, HTTP string
	// DataDir keeps etcd's data. Default: nothing is kept.
	DataDir string
	// Redis is a Redis that is there; empty: an embedded one is started, at EmbeddedRedis if that is free.
	Redis, EmbeddedRedis string
	// Documents says what of this process connectors' documents may read, as worker.Config has it.
	Documents definition.Access
	// Lease of members. Default 2 s: whoever plays with a cluster does not want to wait.
	Lease time.Duration
	// TLS, where its files are set, secures what coordinators, workers and etcd listen on and dial, with one certificate for
	// all; Redis stays plain. Default: nothing is secured.
	TLS transport.Config
	// Logger gets what coordinator and workers log. Default: nobody.
	Logger hclog.Logger
	// Network stands between the cluster's parties. Default: nothing does.
	Network Network
	// Tracing takes the spans of coordinators and workers. Default: nobody traces.
	Tracing trace.TracerProvider
	// Announce is told what is up, and where. Default: nobody.
	Announce func(what, where string)
}

// Cluster is an etcd, a Redis, coordinators and workers in this process.
type Cluster struct {
	config Config
	etcd   *Etcd
	redis  *Redis // nil: one from outside
	store  *cluster.Store
	dead   *deadletter.Store // in the same Redis

	coordinator *Node  // the first
	metrics     string // its URL; empty for none

	mu      sync.Mutex
	nodes   []*Node // that were started; guarded by mu
	started int     // coordinators; guarded by mu

	ctx    context.Context // ends what Run methods run
	cancel context.CancelFunc
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
	if k.etcd, err = StartEtcd(ctx, EtcdConfig{
		Address: c.Etcd, DataDir: c.DataDir, TLSCert: c.TLS.TLSCert, TLSKey: c.TLS.TLSKey, TLSCA: c.TLS.TLSCA, Logger: c.Logger.Named("etcd"),
	}); err != nil {
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
	if k.store, err = k.open(k.etcd.Address(), "etcd"); err != nil {
		return err
	}
	if k.dead, err = deadletter.Open(deadletter.Config{URL: "redis://" + c.Redis}); err != nil {
		return err
	}
	if k.coordinator, err = k.startCoordinator(ctx, c.Listen, c.HTTP); err != nil {
		return err
	}
	for range c.Coordinators - 1 {
		if _, err := k.StartCoordinator(ctx, ""); err != nil {
			return err
		}
	}
	var workers []*Node
	for i := range c.Workers {
		w, err := k.StartWorker(WorkerConfig{Name: fmt.Sprintf("worker-%d", i+1)})
		if err != nil {
			return err
		}
		workers = append(workers, w)
	}
	if err := k.Await(ctx, c.Workers); err != nil {
		return err
	}
	for _, w := range workers {
		c.Announce("worker", w.worker.ID())
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

func (k *Cluster) open(address, name string) (*cluster.Store, error) {
	config, err := k.etcdAt(address)
	if err != nil {
		return nil, err
	}
	config.Logger = k.config.Logger.Named(name)
	return cluster.Open(config)
}

// etcdAt is how a process reaches etcd at an address.
func (k *Cluster) etcdAt(address string) (config cluster.Config, err error) {
	config.Endpoints = []string{address}
	if k.config.TLS.TLSCert != "" {
		config.Credentials, err = k.config.TLS.Credentials()
	}
	return config, err
}

// Await waits until each coordinator has sessions with at least so many workers.
func (k *Cluster) Await(ctx context.Context, workers int) error {
	for _, n := range k.Coordinators() {
		if err := n.coordinator.AwaitWorkers(ctx, workers); err != nil {
			return err
		}
	}
	return nil
}

// environment is what documents' ${NAME} are looked up in where a worker has no other: the process's, with the cluster's Redis.
func environment(redis string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if name == "REDIS_ADDR" {
			return redis, true
		}
		return os.LookupEnv(name)
	}
}

// Coordinator is the first coordinator's address.
func (k *Cluster) Coordinator() string { return k.coordinator.address }

// Metrics is the URL of the first coordinator's metrics; empty for none.
func (k *Cluster) Metrics() string { return k.metrics }

// Coordinators are the coordinators that have not ended, in the order of their start.
func (k *Cluster) Coordinators() []*Node {
	var all []*Node
	for _, n := range k.living() {
		if n.coordinator != nil {
			all = append(all, n)
		}
	}
	return all
}

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

// Put writes documents as etcdctl does, in as few transactions as take them, without waiting for what becomes of them. Documents that
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
	for _, part := range k.store.Parts(put) {
		if _, err := k.store.PutDocuments(ctx, nil, part, nil); err != nil {
			return err
		}
	}
	return nil
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

// Close stops everything in order: coordinators, workers, Redis, etcd. It is safe twice.
func (k *Cluster) Close() error {
	k.closing.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
		defer cancel()
		for _, n := range k.Coordinators() {
			k.closed = errors.Join(k.closed, n.Drain(ctx))
		}
		var stops sync.WaitGroup
		for _, n := range k.living() {
			stops.Go(func() { _ = n.Drain(ctx) }) // what is left is cut off below
		}
		stops.Wait()
		k.cancel()
		for _, n := range k.living() {
			<-n.done
		}
		if k.store != nil {
			k.closed = errors.Join(k.closed, k.store.Close())
		}
		if k.dead != nil {
			k.closed = errors.Join(k.closed, k.dead.Close())
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
