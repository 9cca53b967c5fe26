package testprocess

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// given has the ports that Address gave away.
var given sync.Map

// Address is a host:port of loopback where nobody listens, and which it gives away once. It stays free, also while what listens
// there is started again: the system's own choice for listeners and outgoing connections is from ports above.
func Address(tb testing.TB) string {
	tb.Helper()
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(22_000)))
		if _, again := given.LoadOrStore(address, true); again {
			continue
		}
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	tb.Fatal("no port is free")
	return ""
}

// Socket is the path of a unix socket that nobody has made yet.
func Socket(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "kisgrid") //nolint:usetesting // its path would be too long for a socket
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "socket")
}

// StartRedis starts a redis-server that keeps nothing on disk at an address, host:port or a socket's path, and waits until it
// answers. Where none is installed, instead starts what takes its place; nil skips the test. Stop is safe twice, and called when
// the test ends.
func StartRedis(tb testing.TB, address string, instead func() (io.Closer, error), args ...string) (stop func()) {
	tb.Helper()
	if !installed("redis-server") {
		return standIn(tb, "redis-server", instead)
	}
	listen := []string{"--port", "0", "--unixsocket", address}
	if host, port, err := net.SplitHostPort(address); err == nil {
		listen = []string{"--bind", host, "--port", port}
	}
	p := Start(tb, Config{}, "redis-server", append(append(listen, "--save", "", "--appendonly", "no", "--dir", tb.TempDir()), args...)...)
	p.Await(`eady to accept connections`)
	return p.Kill
}

// StartSentinel starts a Redis Sentinel that alone decides whether the master, which it calls name, is down: after half a second of
// silence it promotes a replica that it knows of. It skips the test where redis-server, which is a Sentinel too, is not installed.
func StartSentinel(tb testing.TB, address, name, master string) {
	tb.Helper()
	if !installed("redis-server") {
		tb.Skip("redis-server is not installed")
	}
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		tb.Fatal(err)
	}
	config := filepath.Join(tb.TempDir(), "sentinel.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, "sentinel monitor %[1]s %s %s 1\nsentinel down-after-milliseconds %[1]s 500\nsentinel failover-timeout %[1]s 2000\n",
		name, host, port), 0o600); err != nil {
		tb.Fatal(err)
	}
	host, port, err = net.SplitHostPort(address)
	if err != nil {
		tb.Fatal(err)
	}
	Start(tb, Config{}, "redis-server", config, "--sentinel", "--bind", host, "--port", port).Await(`Sentinel ID is`)
}

// StartEtcd starts an etcd of one member that serves clients at a URL, with its data in dir, and waits until it does. Where none
// is installed, instead starts what takes its place; nil skips the test. Stop is safe twice, and called when the test ends.
func StartEtcd(tb testing.TB, url, dir string, instead func() (io.Closer, error), args ...string) (stop func()) {
	tb.Helper()
	if !installed("etcd") {
		return standIn(tb, "etcd", instead)
	}
	peer := "http://" + Address(tb)
	p := Start(tb, Config{}, "etcd", append([]string{
		"--data-dir", dir, "--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer, "--logger", "zap",
	}, args...)...)
	p.Await(`serving client traffic`)
	return p.Kill
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

func standIn(tb testing.TB, program string, start func() (io.Closer, error)) (stop func()) {
	tb.Helper()
	if start == nil {
		tb.Skip(program + " is not installed")
	}
	tb.Log(program + " is not installed: an embedded one takes its place")
	server, err := start()
	if err != nil {
		tb.Fatal(err)
	}
	stop = func() { _ = server.Close() }
	tb.Cleanup(stop)
	return stop
}
