// Package e2e drives the built programs as an operator does: as processes, against a real etcd and a real Redis where they
// are installed, else against embedded ones.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// patience bounds every wait: long enough for a slow machine, short enough to fail.
const patience = 60 * time.Second

// bin is the folder of the built programs.
var bin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "kisgrid-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.Command("go", "build", "-o", dir+"/", "../cmd/...")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	return m.Run()
}

// logged is what a process wrote, for several goroutines.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{}
}

func newLogged() *logged { return &logged{news: make(chan struct{}, 1)} }

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// process is a program that runs.
type process struct {
	t        *testing.T
	name     string
	cmd      *exec.Cmd
	out, log *logged // what it wrote to standard output and standard error
	exited   chan struct{}
	code     int // once exited
}

// start starts a program; it is killed when the test ends, and what it wrote is shown when the test failed.
func start(t *testing.T, name, program string, args ...string) *process {
	t.Helper()
	return startWith(t, name, nil, nil, program, args...)
}

func startWith(t *testing.T, name string, env []string, stdin io.Reader, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, out: newLogged(), log: newLogged(), exited: make(chan struct{})}
	if own := filepath.Join(bin, program); fileExists(own) {
		program = own
	}
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, p.out, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.exited)
		err := p.cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			p.code = exit.ExitCode()
		} else if err != nil {
			p.code = -1
		}
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s wrote:\n%s%s", name, p.out, tail(p.log.String(), 60))
		}
	})
	return p
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func tail(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// awaitLog waits until the process has logged what the pattern says, and returns the match.
func (p *process) awaitLog(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	for {
		if match := re.FindStringSubmatch(p.log.String()); match != nil {
			return match
		}
		select {
		case <-p.log.news:
		case <-p.exited:
			if match := re.FindStringSubmatch(p.log.String()); match != nil {
				return match
			}
			p.t.Fatalf("%s ended with %d before it logged %q", p.name, p.code, pattern)
		case <-deadline:
			p.t.Fatalf("%s did not log %q within %s", p.name, pattern, patience)
		}
	}
}

// wait waits for the process to end, and returns its exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.code
	case <-time.After(patience):
		p.t.Fatalf("%s did not end within %s", p.name, patience)
		return 0
	}
}

// kill ends the process without a word of warning.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.exited
}

// stop asks the process to end, and fails the test unless it does so cleanly.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatalf("stop %s: %v", p.name, err)
	}
	if code := p.wait(); code != 0 {
		p.t.Fatalf("%s ended with %d after SIGTERM", p.name, code)
	}
}

// do runs a program to its end and returns its exit code and what it wrote.
func do(t *testing.T, stdin, program string, args ...string) (code int, out, log string) {
	t.Helper()
	p := startWith(t, program+" "+strings.Join(args, " "), nil, strings.NewReader(stdin), program, args...)
	code = p.wait()
	return code, p.out.String(), p.log.String()
}

// must is do for what has to succeed.
func must(t *testing.T, stdin, program string, args ...string) (out string) {
	t.Helper()
	code, out, log := do(t, stdin, program, args...)
	if code != 0 {
		t.Fatalf("%s %s ended with %d:\n%s%s", program, strings.Join(args, " "), code, out, log)
	}
	return out
}

// freePort finds a port of loopback that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func freeAddress(t *testing.T) string {
	t.Helper()
	return "127.0.0.1:" + strconv.Itoa(freePort(t))
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

// startEtcd starts an etcd at the address with its data in dir.
func startEtcd(t *testing.T, address, dir string) (stop func()) {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		t.Log("etcd is not installed: an embedded one takes its place")
		e, err := devcluster.StartEtcd(t.Context(), devcluster.EtcdConfig{Address: address, DataDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		stop := func() { _ = e.Close() }
		t.Cleanup(stop)
		return stop
	}
	peer := "http://" + freeAddress(t)
	p := start(t, "etcd", "etcd", "--data-dir", dir, "--listen-client-urls", "http://"+address, "--advertise-client-urls", "http://"+address,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--log-level", "error", "--logger", "zap")
	store, err := cluster.Open(cluster.Config{Endpoints: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := store.Wait(ctx, func(error) {}); err != nil {
		t.Fatal(err)
	}
	return p.kill
}

// startRedis starts a Redis at the address.
func startRedis(t *testing.T, address string) (stop func()) {
	t.Helper()
	host, port, _ := net.SplitHostPort(address)
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Log("redis-server is not installed: an embedded one takes its place")
		r, err := devcluster.StartRedis(devcluster.RedisConfig{Address: address})
		if err != nil {
			t.Fatal(err)
		}
		stop := func() { _ = r.Close() }
		t.Cleanup(stop)
		return stop
	}
	p := start(t, "redis-server", "redis-server", "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	c := redis.NewClient(&redis.Options{Addr: address})
	defer c.Close()
	until(t, "redis-server answers", func() error { return c.Ping(t.Context()).Err() })
	return p.kill
}

// metric reads one value from a process's metrics; labels as they are printed, or empty.
func metric(address, name, labels string) (float64, error) {
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err
	}
	if labels != "" {
		name += "{" + labels + "}"
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}
