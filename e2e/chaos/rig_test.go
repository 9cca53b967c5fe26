//go:build linux

package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// workerProcess is the process of a worker, and the proxy through which coordinators reach it.
type workerProcess struct {
	*testprocess.Process
	index int // the number of the worker among all that ever ran, from 0
	proxy *proxy
	busy  bool // an event affects the worker, so that no other event may; guarded by the grid's mu
}

// coordinator is a coordinator of the cluster. Its addresses stay, and its processes come and go.
type coordinator struct {
	*testgrid.Coordinator
	proxies []*proxy // one for each client
	starts  int      // how many processes were started there
}

// member is one member of etcd.
type member struct {
	*testprocess.Process
	name, client, peer, dir string
}

// grid is all processes of the cluster. The goroutine that makes things happen owns the fields, unless a field says otherwise.
type grid struct {
	*testgrid.Grid
	t            *testing.T
	dir          string // of logs and records
	members      []*member
	embedded     *devcluster.Etcd // used in place of members where no etcd is installed
	initial      string           // the members, as etcd's --initial-cluster has them
	etcd         []string         // addresses
	store        *cluster.Store
	coordinators []*coordinator // their processes are guarded by mu

	mu      sync.Mutex
	workers []*workerProcess // that run; guarded by mu
	all     []string         // names of all that ever ran, by index; guarded by mu
	peak    map[string]int64 // the most memory of a coordinator and of a worker, in bytes; guarded by mu
}

// startGrid starts everything and waits until the flow runs.
func startGrid(t *testing.T, clients int) *grid {
	t.Helper()
	g := &grid{Grid: testgrid.New(t), t: t, dir: *dirFlag, peak: map[string]int64{}}
	if g.dir == "" {
		g.dir = t.TempDir()
	} else if err := os.MkdirAll(g.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	g.startEtcd()
	g.Etcd, g.Lease = strings.Join(g.etcd, ","), leaseFlag.String()
	g.Worker = testgrid.Program{Path: os.Args[0], Env: []string{roleVariable + "=worker"}}
	testgrid.StartRedis(t, g.Redis)
	g.store = testgrid.OpenDefinitions(t, g.etcd...).Store
	if err := g.store.Wait(t.Context(), func(error) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.store.PutDocuments(t.Context(), nil, documents(1), nil); err != nil {
		t.Fatal(err)
	}
	for range *workersFlag {
		g.startWorker("")
	}
	for range 2 {
		c := &coordinator{Coordinator: g.AddCoordinator()}
		g.coordinators = append(g.coordinators, c)
		g.startCoordinator(c)
		for range clients {
			c.proxies = append(c.proxies, startProxy(t, c.Address))
		}
	}
	return g
}

// startEtcd starts an etcd of three members, or an embedded one of one member where no etcd is installed.
func (g *grid) startEtcd() {
	g.t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		g.t.Log("etcd is not installed: an embedded one of one member takes its place")
		g.etcd = []string{testprocess.Address(g.t)}
		g.startEmbedded()
		g.t.Cleanup(func() { _ = g.embedded.Close() })
		return
	}
	var initial []string
	for i := range 3 {
		m := &member{name: fmt.Sprintf("etcd-%d", i+1), client: testprocess.Address(g.t), peer: "http://" + testprocess.Address(g.t), dir: g.t.TempDir()}
		g.members = append(g.members, m)
		g.etcd = append(g.etcd, m.client)
		initial = append(initial, m.name+"="+m.peer)
	}
	g.initial = strings.Join(initial, ",")
	for _, m := range g.members {
		g.startMember(m)
	}
}

// startEmbedded starts the embedded etcd, with its data in the folder of the grid.
func (g *grid) startEmbedded() {
	g.t.Helper()
	e, err := devcluster.StartEtcd(g.t.Context(), devcluster.EtcdConfig{Address: g.etcd[0], DataDir: filepath.Join(g.dir, "etcd")})
	if err != nil {
		g.t.Fatal(err)
	}
	g.embedded = e
}

// startMember starts the process of a member of etcd.
func (g *grid) startMember(m *member) {
	g.t.Helper()
	m.Process = testprocess.Start(g.t, testprocess.Config{Name: m.name, Logs: g.dir}, "etcd", "--name", m.name, "--data-dir", m.dir, "--log-level", "error", "--logger", "zap",
		"--listen-client-urls", "http://"+m.client, "--advertise-client-urls", "http://"+m.client,
		"--listen-peer-urls", m.peer, "--initial-advertise-peer-urls", m.peer, "--initial-cluster", g.initial)
}

// leader returns the member that leads etcd; nil means that there is none, or that it does not answer.
func (g *grid) leader() *member {
	for _, m := range g.members {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{m.client}, DialTimeout: time.Second})
		if err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(g.t.Context(), time.Second)
		status, err := c.Status(ctx, m.client)
		cancel()
		_ = c.Close()
		if err == nil && status.Leader == status.Header.MemberId {
			return m
		}
	}
	return nil
}

// startCoordinator starts the process of a coordinator at its address.
func (g *grid) startCoordinator(c *coordinator) {
	g.t.Helper()
	c.starts++
	name := fmt.Sprintf("coordinator-%d.%d", slices.Index(g.coordinators, c)+1, c.starts)
	g.mu.Lock()
	defer g.mu.Unlock()
	c.Process = g.RunCoordinator(testprocess.Config{Name: name, Logs: g.dir}, c.Address, "")
}

var startingID = regexp.MustCompile(`starting: id=(coordinator-[0-9a-f]{12})`)

// id is the id of the coordinator's process; empty means that the process has not logged it yet.
func (c *coordinator) id() string {
	if match := startingID.FindStringSubmatch(c.Log()); match != nil {
		return match[1]
	}
	return ""
}

// startWorker starts a worker. An empty name means a new name.
func (g *grid) startWorker(name string) *workerProcess {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	w := &workerProcess{index: len(g.all)}
	if name == "" {
		name = fmt.Sprintf("worker-%d", w.index+1)
	}
	record := fmt.Sprintf("%s.%d", name, w.index+1)
	listen := testprocess.Address(g.t)
	w.proxy = startProxy(g.t, listen)
	w.Process = g.RunWorker(testprocess.Config{Name: record, Env: []string{recordVariable + "=" + recordPath(g.dir, record)}, Logs: g.dir},
		name, listen, "", "--advertise", w.proxy.address())
	go func() {
		<-w.Exited()
		w.proxy.close()
	}()
	g.workers = append(g.workers, w)
	g.all = append(g.all, record)
	return w
}

// remove takes a worker off the list of the workers that run.
func (g *grid) remove(w *workerProcess) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.workers = slices.DeleteFunc(g.workers, func(o *workerProcess) bool { return o == w })
}

// bareName is the name under which a worker registered.
func (w *workerProcess) bareName() string { return w.Name()[:strings.LastIndexByte(w.Name(), '.')] }

// weigh measures the memory of coordinators and workers until stop is closed, and notes the most that one of each kind had.
func (g *grid) weigh(stop <-chan struct{}) {
	for {
		g.mu.Lock()
		for _, w := range g.workers {
			g.peak["worker"] = max(g.peak["worker"], w.Resident())
		}
		for _, c := range g.coordinators {
			g.peak["coordinator"] = max(g.peak["coordinator"], c.Resident())
		}
		g.mu.Unlock()
		select {
		case <-stop:
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
}
