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

// given holds the addresses that Address has returned in this test binary.
var given sync.Map

// Address returns a free address on 127.0.0.1, as host:port, and returns each address once. The port is below 32,000: there the
// system takes none of its own accord, so the address is still free when a server that listened there is started again.
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

// Socket returns a path for a unix socket, at which there is no file yet.
func Socket(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "kisgrid") //nolint:usetesting // its path would be too long for a socket
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "socket")
}

// StartRedis starts a redis-server that keeps nothing on disk, and waits until it answers. The address is host:port, or the path of a
// unix socket. Where no redis-server is installed, StartRedis calls instead, which starts a replacement; nil means that the test is
// skipped. The returned function stops the server at once and is safe to call twice; the end of the test calls it too.
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

// StartSentinel starts a Redis Sentinel that watches the Redis at the address master, under the name. The Sentinel alone decides that
// the master is down: after half a second of silence it promotes a replica of that master. Where redis-server, the program that is
// also the Sentinel, is not installed, the test is skipped.
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

// StartEtcd starts an etcd of one member that serves clients at a URL and keeps its data in the folder dir. It waits until the etcd
// serves. Where no etcd is installed, StartEtcd calls instead, which starts a replacement; nil means that the test is skipped. The
// returned function stops the server at once and is safe to call twice; the end of the test calls it too.
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

// installed reports whether a program is on the PATH.
func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// standIn starts the replacement of a program that is not installed, and returns the function that stops it. If start is nil, the
// test is skipped.
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
