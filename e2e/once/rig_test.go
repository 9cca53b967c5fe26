//go:build linux

package once

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/process"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// roleVariable makes this binary a worker: then its command line is a worker's.
const roleVariable = "KISGRID_ONCE_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "worker" {
		worker.Main(func(r *kis.Registry) { register(r); registerWait(r) })
	}
	os.Exit(process.Main(m, "../../cmd/coordinator"))
}

// startRedis starts a redis-server, and a client of it. An embedded one would not do.
func startRedis(t *testing.T, address string, args ...string) (stop func(), c *redis.Client) {
	t.Helper()
	stop = process.StartRedis(t, address, nil, args...)
	c = redis.NewClient(&redis.Options{Addr: address})
	t.Cleanup(func() { _ = c.Close() })
	return stop, c
}

const lease = 2 * time.Second

// grid is the processes of a cluster.
type grid struct {
	t            *testing.T
	etcd         string
	conn         string             // the connector's document
	addresses    []string           // of the coordinators
	processes    []*process.Process // theirs
	coordinators []pb.IngestClient

	mu      sync.Mutex
	workers []*process.Process // guarded by mu
	started int                // workers; guarded by mu
}

// startGrid starts an etcd, coordinators and workers, for a flow whose connector's document is given.
func startGrid(t *testing.T, coordinators, workers int, conn string, documents []definition.Document) *grid {
	t.Helper()
	etcd, err := devcluster.StartEtcd(t.Context(), devcluster.EtcdConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = etcd.Close() })
	g := &grid{t: t, etcd: etcd.Address()}
	store, err := cluster.Open(cluster.Config{Endpoints: []string{g.etcd}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	documents = append(documents, definition.Document{Kind: definition.KindConn, Name: "Store", YAML: []byte("kistype: conn\ncname: Store\ntype: redis\n" + conn)})
	if _, err := store.PutDocuments(t.Context(), nil, documents, nil); err != nil {
		t.Fatal(err)
	}
	for range workers {
		g.startWorker()
	}
	for range coordinators {
		address := process.Address(t)
		g.processes = append(g.processes, process.Start(t, process.Config{}, "coordinator", "--listen", address, "--http", "", "--etcd", g.etcd, "--lease", lease.String()))
		c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		g.addresses = append(g.addresses, address)
		g.coordinators = append(g.coordinators, pb.NewIngestClient(c))
	}
	return g
}

func (g *grid) startWorker() {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.started++
	listen := process.Address(g.t)
	g.workers = append(g.workers, process.Start(g.t, process.Config{Env: []string{roleVariable + "=worker"}}, os.Args[0],
		"--name", fmt.Sprintf("worker-%d", g.started), "--listen", listen, "--advertise", listen, "--http", "", "--etcd", g.etcd, "--lease", lease.String()))
}

// take removes a worker from those that run.
func (g *grid) take(i int) *process.Process {
	g.mu.Lock()
	defer g.mu.Unlock()
	i %= len(g.workers)
	w := g.workers[i]
	g.workers = append(g.workers[:i], g.workers[i+1:]...)
	return w
}
