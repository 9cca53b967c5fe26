//go:build linux

package once

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/client"
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
	os.Exit(testprocess.Main(m, "../../cmd/coordinator"))
}

// startRedis starts a redis-server, and a client of it. An embedded one would not do.
func startRedis(t *testing.T, address string, args ...string) (stop func(), c *redis.Client) {
	t.Helper()
	stop = testprocess.StartRedis(t, address, nil, args...)
	c = redis.NewClient(&redis.Options{Addr: address})
	t.Cleanup(func() { _ = c.Close() })
	return stop, c
}

const lease = 2 * time.Second

// grid is the processes of a cluster.
type grid struct {
	t            *testing.T
	etcd         string
	workerFlags  []string
	addresses    []string               // of the coordinators
	processes    []*testprocess.Process // theirs
	coordinators []pb.IngestClient
	admin        pb.AdminClient // of the last one

	mu      sync.Mutex
	workers []*testprocess.Process // guarded by mu
	started int                    // workers; guarded by mu
}

// startGrid starts an etcd, coordinators and workers, for flows whose connector's document is given.
func startGrid(t *testing.T, coordinators, workers int, conn string, documents []definition.Document) *grid {
	t.Helper()
	return startGridWith(t, coordinators, workers, conn, documents, nil, nil)
}

// startGridWith is startGrid with more flags.
func startGridWith(t *testing.T, coordinators, workers int, conn string, documents []definition.Document, coordinatorFlags, workerFlags []string) *grid {
	t.Helper()
	etcd, err := devcluster.StartEtcd(t.Context(), devcluster.EtcdConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = etcd.Close() })
	g := &grid{t: t, etcd: etcd.Address(), workerFlags: workerFlags}
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
		address := testprocess.Address(t)
		g.processes = append(g.processes, testprocess.Start(t, testprocess.Config{}, "coordinator",
			append([]string{"--listen", address, "--http", "", "--etcd", g.etcd, "--lease", lease.String()}, coordinatorFlags...)...))
		c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		g.addresses = append(g.addresses, address)
		g.coordinators, g.admin = append(g.coordinators, pb.NewIngestClient(c)), pb.NewAdminClient(c)
	}
	return g
}

// stream opens a stream, once the flow is active.
func (g *grid) stream(ctx context.Context, c *client.Client, flow string) (s *client.Stream) {
	g.t.Helper()
	testprocess.Until(g.t, "flow "+flow+" is active", func() (err error) {
		s, err = c.Stream(ctx, flow)
		return err
	})
	return s
}

// dial is a client of all coordinators.
func (g *grid) dial() *client.Client {
	g.t.Helper()
	c, err := client.Dial(strings.Join(g.addresses, ","), client.WithRetryFor(testprocess.Patience))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (g *grid) startWorker() {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.started++
	listen := testprocess.Address(g.t)
	g.workers = append(g.workers, testprocess.Start(g.t, testprocess.Config{Env: []string{roleVariable + "=worker"}}, os.Args[0],
		append([]string{"--name", fmt.Sprintf("worker-%d", g.started), "--listen", listen, "--advertise", listen, "--http", "", "--etcd", g.etcd,
			"--lease", lease.String()}, g.workerFlags...)...))
}

// take removes a worker from those that run.
func (g *grid) take(i int) *testprocess.Process {
	g.mu.Lock()
	defer g.mu.Unlock()
	i %= len(g.workers)
	w := g.workers[i]
	g.workers = append(g.workers[:i], g.workers[i+1:]...)
	return w
}
