// Package bench measures KisGrid beside the limit of what it is built on, in the same run.
package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// A benchmark that needs processes runs this test binary again, in a role. It is told what to do by these variables, prints
// its address as its first line, and ends with its standard input.
const (
	roleVariable = "KISGRID_BENCH_ROLE"
	nextVariable = "KISGRID_BENCH_NEXT" // what it works with: etcd's address, or the echo's
	nameVariable = "KISGRID_BENCH_NAME"
)

var roles = map[string]func(ctx context.Context, next, name string) error{
	"echo": echo, "relay": relay, "coordinator": runCoordinator, "worker": runWorker,
}

func TestMain(m *testing.M) {
	role := roles[os.Getenv(roleVariable)]
	if role == nil {
		os.Exit(m.Run())
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the benchmark
		cancel()
	}()
	if err := role(ctx, os.Getenv(nextVariable), os.Getenv(nameVariable)); err != nil {
		fmt.Fprintln(os.Stderr, os.Getenv(roleVariable)+":", err)
		os.Exit(1)
	}
}

// startRole runs a role in a process of its own until the benchmark ends, and returns its address.
func startRole(b *testing.B, role, next, name string) (address string) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, nextVariable+"="+next, nameVariable+"="+name)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatalf("the %s printed no address: %v", role, err)
	}
	return strings.TrimSpace(line)
}

// listen tells the benchmark the address.
func listen(ctx context.Context) (net.Listener, error) {
	l, err := transport.Listen(ctx, "127.0.0.1:0")
	if err == nil {
		fmt.Println(l.Addr())
	}
	return l, err
}

func runCoordinator(ctx context.Context, etcd, _ string) error {
	store, err := cluster.Open(cluster.Config{Endpoints: []string{etcd}})
	if err != nil {
		return err
	}
	defer store.Close()
	l, err := listen(ctx)
	if err != nil {
		return err
	}
	c, err := coordinator.New(coordinator.Config{Store: store, Listener: l})
	if err != nil {
		return err
	}
	return profiled("coordinator", func() error { return c.Run(ctx) })
}

func runWorker(ctx context.Context, etcd, name string) error {
	r := kis.NewRegistry()
	register(r)
	w, err := worker.New(worker.Config{Registry: r, Name: name, Listen: "127.0.0.1:0", Etcd: cluster.Config{Endpoints: []string{etcd}}})
	if err != nil {
		return err
	}
	fmt.Println(name) // nobody dials it but the coordinator, which finds it in etcd
	return profiled(name, func() error { return w.Run(ctx) })
}
