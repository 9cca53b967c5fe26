// Package dead shows what becomes of rows that could not be done: built coordinators and the command line as processes, against a
// real Redis where it is installed, with workers in this process.
package dead

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// patience bounds every wait: long enough for a slow machine, short enough to fail.
const patience = 90 * time.Second

// bin is the folder of the built programs.
var bin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kisgrid-dead-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.Command("go", "build", "-o", dir+"/", "../../cmd/coordinator", "../../cmd/kisgrid")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	return m.Run()
}

// rig is a cluster: an etcd in this process, a Redis, coordinators as processes, a worker in this process.
type rig struct {
	t            *testing.T
	etcd         string
	redis        *goredis.Client
	address      string // Redis's
	coordinators []*coordinator
}

type coordinator struct {
	address, http string
	process       *exec.Cmd
	log           *logged
	exited        chan struct{}
}

// logged is what a process wrote, for several goroutines.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// kill ends it without a word of warning.
func (c *coordinator) kill() {
	_ = c.process.Process.Kill()
	<-c.exited
}

// start starts a cluster with so many coordinators, which get these flags too; none: they have the store in the cluster's Redis.
func start(t *testing.T, coordinators int, register func(*kis.Registry), flags ...string) *rig {
	t.Helper()
	r := &rig{t: t, address: freeAddress(t)}
	startRedis(t, r.address)
	r.redis = goredis.NewClient(&goredis.Options{Addr: r.address})
	t.Cleanup(func() { _ = r.redis.Close() })
	e, err := devcluster.StartEtcd(t.Context(), devcluster.EtcdConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	r.etcd = e.Address()
	if len(flags) == 0 {
		flags = []string{"--dead-letters", "redis://" + r.address}
	}
	for range coordinators {
		r.coordinate(flags...)
	}
	r.work(register)
	return r
}

// startRedis starts a redis-server at the address, or an embedded one where it is not installed.
func startRedis(t *testing.T, address string) (stop func()) {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Log("redis-server is not installed: an embedded one takes its place")
		s, err := devcluster.StartRedis(devcluster.RedisConfig{Address: address})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return func() { _ = s.Close() }
	}
	host, port, _ := net.SplitHostPort(address)
	p := exec.Command(program, "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { _ = p.Process.Kill(); _ = p.Wait() })
	t.Cleanup(stop)
	c := goredis.NewClient(&goredis.Options{Addr: address})
	defer c.Close()
	until(t, "redis-server answers", func() error { return c.Ping(t.Context()).Err() })
	return stop
}

// coordinate starts one more coordinator.
func (r *rig) coordinate(flags ...string) *coordinator {
	r.t.Helper()
	c := &coordinator{address: freeAddress(r.t), http: freeAddress(r.t), log: &logged{}, exited: make(chan struct{})}
	c.process = exec.Command(filepath.Join(bin, "coordinator"), append([]string{"--etcd", r.etcd, "--listen", c.address, "--http", c.http, "--lease", "2s"}, flags...)...)
	c.process.Stderr = c.log
	if err := c.process.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		defer close(c.exited)
		_ = c.process.Wait()
	}()
	r.t.Cleanup(func() {
		c.kill()
		if r.t.Failed() {
			r.t.Logf("coordinator %s logged:\n%s", c.address, c.log)
		}
	})
	r.coordinators = append(r.coordinators, c)
	return c
}

// work starts a worker, which ends with the test.
func (r *rig) work(register func(*kis.Registry)) {
	r.t.Helper()
	registry := kis.NewRegistry()
	register(registry)
	w, err := worker.New(worker.Config{
		Registry: registry, Name: "w", Listen: "127.0.0.1:0", Lease: 2 * time.Second, Etcd: cluster.Config{Endpoints: []string{r.etcd}},
		Environment: func(name string) (string, bool) { return r.address, name == "REDIS_ADDR" },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.Run(ctx); err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(func() { stop(); running.Wait() })
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

// until asks a question until it is answered with nil.
func until(t *testing.T, what string, question func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := question()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		time.Sleep(20 * time.Millisecond) // another process's state gives no signal
	}
}

// addresses are the coordinators', for --server and clients.
func (r *rig) addresses() string {
	var all []string
	for _, c := range r.coordinators {
		all = append(all, c.address)
	}
	return strings.Join(all, ",")
}

// command is a kisgrid command, to be started.
func (r *rig) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(bin, "kisgrid"), args...)
	cmd.Env = append(os.Environ(), "KISGRID_SERVER="+r.addresses())
	return cmd
}

// kisgrid runs a command to its end.
func (r *rig) kisgrid(args ...string) (out string, code int) {
	r.t.Helper()
	cmd := r.command(args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	text, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return string(text) + errs.String(), cmd.ProcessState.ExitCode()
}

// must is kisgrid for what has to succeed.
func (r *rig) must(args ...string) string {
	r.t.Helper()
	out, code := r.kisgrid(args...)
	if code != 0 {
		r.t.Fatalf("kisgrid %s ended with %d:\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// apply writes documents, by file name, and waits until they are active.
func (r *rig) apply(documents map[string]string) {
	r.t.Helper()
	dir := r.t.TempDir()
	for name, text := range documents {
		if err := os.WriteFile(filepath.Join(dir, name+".yml"), []byte(text), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	until(r.t, "a coordinator takes documents", func() error {
		if out, code := r.kisgrid("apply", "-f", dir); code != 0 {
			return errors.New(out)
		}
		return nil
	})
}

func (r *rig) dial() *client.Client {
	r.t.Helper()
	c, err := client.Dial(r.addresses(), client.WithRetryFor(patience))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// letter is what dead list -o json says of one.
type letter struct {
	ID       string          `json:"id"`
	Function string          `json:"function"`
	Code     string          `json:"code"`
	Reason   string          `json:"reason"`
	Redrives int             `json:"redrives"`
	Edited   bool            `json:"edited"`
	Row      json.RawMessage `json:"row"`
}

// store is what it says of a flow's store.
type store struct {
	Letters int  `json:"letters"`
	Limit   int  `json:"limit"`
	Full    bool `json:"full"`
	Refused int  `json:"refused"`
}

// list is what dead list says.
func (r *rig) list(args ...string) (letters []letter, s store) {
	r.t.Helper()
	for line := range strings.Lines(r.must(append([]string{"dead", "list", "-o", "json"}, args...)...)) {
		var e struct {
			Letter *letter
			Store  *store
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			r.t.Fatalf("%s: %v", line, err)
		}
		if e.Letter != nil {
			letters = append(letters, *e.Letter)
		} else {
			s = *e.Store
		}
	}
	return letters, s
}

// data is all of Redis but what KisGrid keeps for itself.
func (r *rig) data() map[string]string {
	r.t.Helper()
	all := map[string]string{}
	keys, err := r.redis.Keys(r.t.Context(), "pay:*").Result()
	if err != nil {
		r.t.Fatal(err)
	}
	p := r.redis.Pipeline()
	lists := map[string]*goredis.StringSliceCmd{}
	hashes := map[string]*goredis.MapStringStringCmd{}
	for _, key := range keys {
		if strings.HasPrefix(key, "pay:log:") {
			lists[key] = p.LRange(r.t.Context(), key, 0, -1)
		} else {
			hashes[key] = p.HGetAll(r.t.Context(), key)
		}
	}
	if len(keys) > 0 {
		if _, err := p.Exec(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
	for key, c := range lists {
		all[key] = strings.Join(c.Val(), " ")
	}
	for key, c := range hashes {
		all[key] = fmt.Sprint(c.Val()) // in the order of keys
	}
	return all
}
