//go:build linux

package once

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/worker"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// roleVariable makes this binary a worker: then its command line is a worker's.
const roleVariable = "KISGRID_ONCE_ROLE"

// bin is the folder of the built coordinator.
var bin string

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "worker" {
		worker.Main(register)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kisgrid-once-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.Command("go", "build", "-o", dir+"/", "../../cmd/coordinator")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the coordinator:", err)
		return 1
	}
	return m.Run()
}

// process is a program that runs. Its log is shown when the test failed.
type process struct {
	cmd  *exec.Cmd
	gone chan struct{}
}

func start(t *testing.T, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, args...), gone: make(chan struct{})}
	var log bytes.Buffer
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &log, &log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that is cut off leaves nothing behind
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	go func() {
		defer close(p.gone)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %v:\n%s", program, args, log.Bytes()[max(0, log.Len()-4000):])
		}
	})
	return p
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // it may have ended

func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.gone
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startRedis starts a redis-server, and waits until it answers.
func startRedis(t *testing.T, address string, args ...string) (*process, *redis.Client) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	host, port, _ := net.SplitHostPort(address)
	p := start(t, nil, "redis-server", append([]string{"--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir()}, args...)...)
	c := redis.NewClient(&redis.Options{Addr: address})
	t.Cleanup(func() { _ = c.Close() })
	for c.Ping(t.Context()).Err() != nil {
		time.Sleep(20 * time.Millisecond) // another process gives no signal
	}
	return p, c
}

const lease = 2 * time.Second

// grid is the processes of a cluster.
type grid struct {
	t            *testing.T
	etcd         string
	conn         string // the connector's document
	coordinators []pb.IngestClient

	mu      sync.Mutex
	workers []*process // guarded by mu
	started int        // workers; guarded by mu
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
		address := freeAddress(t)
		start(t, nil, filepath.Join(bin, "coordinator"), "--listen", address, "--http", "", "--etcd", g.etcd, "--lease", lease.String())
		c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		g.coordinators = append(g.coordinators, pb.NewIngestClient(c))
	}
	return g
}

func (g *grid) startWorker() {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.started++
	listen := freeAddress(g.t)
	g.workers = append(g.workers, start(g.t, []string{roleVariable + "=worker"}, os.Args[0],
		"--name", fmt.Sprintf("worker-%d", g.started), "--listen", listen, "--advertise", listen, "--http", "", "--etcd", g.etcd, "--lease", lease.String()))
}

// take removes a worker from those that run.
func (g *grid) take(i int) *process {
	g.mu.Lock()
	defer g.mu.Unlock()
	i %= len(g.workers)
	w := g.workers[i]
	g.workers = append(g.workers[:i], g.workers[i+1:]...)
	return w
}
