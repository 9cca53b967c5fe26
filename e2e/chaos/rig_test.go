//go:build linux

package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// process is a program that runs, with its log in a file.
type process struct {
	name, log string
	cmd       *exec.Cmd
	exited    chan struct{}
	code      int // once exited
}

func (g *grid) start(name string, env []string, program string, args ...string) *process {
	g.t.Helper()
	p := &process{name: name, log: filepath.Join(g.dir, name+".log"), cmd: exec.Command(program, args...), exited: make(chan struct{})}
	file, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		g.t.Fatal(err)
	}
	defer file.Close()
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = file, file
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that is cut off leaves nothing behind
	if err := p.cmd.Start(); err != nil {
		g.t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.exited)
		err := p.cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			p.code = exit.ExitCode()
		}
	}()
	g.t.Cleanup(p.kill)
	return p
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // it may have ended

func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// logged finds a pattern in what the process has logged.
func (p *process) logged(pattern *regexp.Regexp) []string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return nil
	}
	if all := pattern.FindAllStringSubmatch(string(text), -1); len(all) > 0 {
		return all[len(all)-1]
	}
	return nil
}

// resident is how many bytes of memory the process has at the moment.
func (p *process) resident() int64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)) // it may have ended
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmRSS:")); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(rest)), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// workerProcess is a worker's process and the proxy by which coordinators reach it.
type workerProcess struct {
	*process
	index int // among all that ever ran
	proxy *proxy
	busy  bool // stopped, cut off or leaving: nothing else is done to it; guarded by the grid's lock
}

// coordinator is a coordinator's place; its process changes.
type coordinator struct {
	*process
	address string
	proxies []*proxy // one per client
	starts  int
}

// member is one member of etcd.
type member struct {
	*process
	name, client, peer, dir string
}

// grid is all processes. Its fields belong to the goroutine that makes things happen.
type grid struct {
	t            *testing.T
	dir          string // of logs and records
	members      []*member
	embedded     *devcluster.Etcd // in place of members
	initial      string           // members, as etcd wants to be told of them
	etcd         []string         // addresses
	redis        string           // address
	store        *cluster.Store
	coordinators []*coordinator // their processes are guarded by mu

	mu      sync.Mutex
	workers []*workerProcess // that run; guarded by mu
	all     []string         // names of all that ever ran, by index; guarded by mu
	peak    map[string]int64
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

// startGrid starts everything and waits until the flow runs.
func startGrid(t *testing.T, clients int) *grid {
	t.Helper()
	g := &grid{t: t, dir: *dirFlag, redis: freeAddress(t), peak: map[string]int64{}}
	if g.dir == "" {
		g.dir = t.TempDir()
	} else if err := os.MkdirAll(g.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	g.startEtcd()
	g.startRedis()
	store, err := cluster.Open(cluster.Config{Endpoints: g.etcd})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	g.store = store
	if err := store.Wait(t.Context(), func(error) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.PutDocuments(t.Context(), nil, documents(1), nil); err != nil {
		t.Fatal(err)
	}
	for range *workersFlag {
		g.startWorker("")
	}
	for range 2 {
		c := &coordinator{address: freeAddress(t)}
		g.coordinators = append(g.coordinators, c)
		g.startCoordinator(c)
		for range clients {
			c.proxies = append(c.proxies, startProxy(t, c.address))
		}
	}
	return g
}

func (g *grid) startEtcd() {
	g.t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		g.t.Log("etcd is not installed: an embedded one of one member takes its place")
		g.etcd = []string{freeAddress(g.t)}
		g.startEmbedded()
		g.t.Cleanup(func() { _ = g.embedded.Close() })
		return
	}
	var initial []string
	for i := range 3 {
		m := &member{name: fmt.Sprintf("etcd-%d", i+1), client: freeAddress(g.t), peer: "http://" + freeAddress(g.t), dir: g.t.TempDir()}
		g.members = append(g.members, m)
		g.etcd = append(g.etcd, m.client)
		initial = append(initial, m.name+"="+m.peer)
	}
	g.initial = strings.Join(initial, ",")
	for _, m := range g.members {
		g.startMember(m)
	}
}

func (g *grid) startEmbedded() {
	g.t.Helper()
	e, err := devcluster.StartEtcd(g.t.Context(), devcluster.EtcdConfig{Address: g.etcd[0], DataDir: filepath.Join(g.dir, "etcd")})
	if err != nil {
		g.t.Fatal(err)
	}
	g.embedded = e
}

func (g *grid) startMember(m *member) {
	g.t.Helper()
	m.process = g.start(m.name, nil, "etcd", "--name", m.name, "--data-dir", m.dir, "--log-level", "error", "--logger", "zap",
		"--listen-client-urls", "http://"+m.client, "--advertise-client-urls", "http://"+m.client,
		"--listen-peer-urls", m.peer, "--initial-advertise-peer-urls", m.peer, "--initial-cluster", g.initial)
}

// leader is the member that leads etcd, or nil.
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

func (g *grid) startRedis() {
	g.t.Helper()
	host, port, _ := net.SplitHostPort(g.redis)
	if _, err := exec.LookPath("redis-server"); err != nil {
		g.t.Log("redis-server is not installed: an embedded one takes its place")
		r, err := devcluster.StartRedis(devcluster.RedisConfig{Address: g.redis})
		if err != nil {
			g.t.Fatal(err)
		}
		g.t.Cleanup(func() { _ = r.Close() })
		return
	}
	g.start("redis", nil, "redis-server", "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", g.t.TempDir())
	c := redis.NewClient(&redis.Options{Addr: g.redis})
	defer c.Close()
	until(g.t, "Redis answers", func() bool { return c.Ping(g.t.Context()).Err() == nil })
}

// startCoordinator starts the process of a coordinator's place, under its address.
func (g *grid) startCoordinator(c *coordinator) {
	g.t.Helper()
	c.starts++
	name := fmt.Sprintf("coordinator-%d.%d", slices.Index(g.coordinators, c)+1, c.starts)
	g.mu.Lock()
	defer g.mu.Unlock()
	c.process = g.start(name, nil, filepath.Join(bin, "coordinator"),
		"--listen", c.address, "--http", "", "--etcd", strings.Join(g.etcd, ","), "--lease", leaseFlag.String())
}

var (
	servingWorker    = regexp.MustCompile(`session began`)
	readyCoordinator = regexp.MustCompile(`ready: id=`)
)

// until asks until it is so: other processes give no signal.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(*patienceFlag); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to this: %s", what)
		}
	}
}

var startingID = regexp.MustCompile(`starting: id=(coordinator-[0-9a-f]{12})`)

// id is the id that the coordinator's process drew, "" before it has logged it.
func (c *coordinator) id() string {
	if match := c.logged(startingID); match != nil {
		return match[1]
	}
	return ""
}

// startWorker starts a worker; without a name it gets a new one.
func (g *grid) startWorker(name string) *workerProcess {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	w := &workerProcess{index: len(g.all)}
	if name == "" {
		name = fmt.Sprintf("worker-%d", w.index+1)
	}
	record := fmt.Sprintf("%s.%d", name, w.index+1)
	listen := freeAddress(g.t)
	w.proxy = startProxy(g.t, listen)
	w.process = g.start(record, []string{roleVariable + "=worker", recordVariable + "=" + recordPath(g.dir, record), "REDIS_ADDR=" + g.redis},
		os.Args[0], "--name", name, "--listen", listen, "--advertise", w.proxy.address(), "--http", "",
		"--etcd", strings.Join(g.etcd, ","), "--lease", leaseFlag.String())
	go func() {
		<-w.exited
		w.proxy.close()
	}()
	g.workers = append(g.workers, w)
	g.all = append(g.all, record)
	return w
}

// remove takes a worker out of those that run.
func (g *grid) remove(w *workerProcess) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.workers = slices.DeleteFunc(g.workers, func(o *workerProcess) bool { return o == w })
}

// bareName is the name under which a worker registered.
func (w *workerProcess) bareName() string { return w.name[:strings.LastIndexByte(w.name, '.')] }

// weigh notes how much memory each process has at most, until stop is closed.
func (g *grid) weigh(stop <-chan struct{}) {
	for {
		g.mu.Lock()
		for _, w := range g.workers {
			g.peak["worker"] = max(g.peak["worker"], w.resident())
		}
		for _, c := range g.coordinators {
			g.peak["coordinator"] = max(g.peak["coordinator"], c.resident())
		}
		g.mu.Unlock()
		select {
		case <-stop:
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
}
