// Package bench measures KisGrid, and in the same run the limits that its parts set: relays of the same bytes, plain pipelines to
// Redis, and a plain JSON decoder.
package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/command"
	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// A benchmark that needs several processes runs this test binary again, in a role. These environment variables say which role. The
// process prints its address as its first line. It answers each line of its standard input with the CPU time that it has used, and
// ends when its standard input ends.
const (
	roleVariable = "KISGRID_BENCH_ROLE"
	nextVariable = "KISGRID_BENCH_NEXT" // the address of the process that it uses: etcd, or the echo
	nameVariable = "KISGRID_BENCH_NAME"
	// lettersVariable is the address of a Redis in which coordinators keep dead rows; without it they keep none. mostVariable is how many of a
	// flow they keep.
	lettersVariable = "KISGRID_BENCH_LETTERS"
	mostVariable    = "KISGRID_BENCH_MOST"
	httpVariable    = "KISGRID_BENCH_HTTP" // the address at which a coordinator serves HTTP; without it none
)

var roles = map[string]func(ctx context.Context, next, name string) error{
	"etcd": runEtcd, "echo": echo, "echo-batches": echoBatches, "relay": relay, "coordinator": runCoordinator, "worker": runWorker,
}

func TestMain(m *testing.M) {
	role := roles[os.Getenv(roleVariable)]
	if role == nil {
		os.Exit(m.Run())
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			fmt.Println(cpuTime().Nanoseconds())
		}
		cancel()
	}()
	command.SteadyHeap() // the programs call it too
	if err := role(ctx, os.Getenv(nextVariable), os.Getenv(nameVariable)); err != nil {
		fmt.Fprintln(os.Stderr, os.Getenv(roleVariable)+":", err)
		os.Exit(1)
	}
}

// cpuTime is the CPU time that this process has used, in user and in kernel mode.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // getrusage of this process can't fail
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// processes are the processes of a benchmark: those in roles, and its own, which is the client.
type processes struct {
	b     testing.TB
	env   []string // environment variables of further processes, besides those that say the role
	roles []*player
	used  map[string]time.Duration // by role: the CPU time when start was called
}

// player is a process in a role.
type player struct {
	role    string
	process int // its id
	in      io.Writer
	out     *bufio.Reader
}

// cpu is the CPU time that each role has used so far.
func (p *processes) cpu() map[string]time.Duration {
	p.b.Helper()
	used := map[string]time.Duration{"client": cpuTime()}
	for _, r := range p.roles {
		if _, err := io.WriteString(r.in, "\n"); err != nil {
			p.b.Fatal(err)
		}
		line, err := r.out.ReadString('\n')
		if err != nil {
			p.b.Fatalf("the %s does not say what CPU time it has used: %v", r.role, err)
		}
		n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err != nil {
			p.b.Fatal(err)
		}
		used[r.role] += time.Duration(n)
	}
	return used
}

// start begins the measurement.
func (p *processes) start(b *testing.B) {
	p.used = p.cpu()
	b.ReportAllocs()
	b.ResetTimer()
}

// stop ends the measurement. It reports rows per second, and CPU time per row, in total and for each role.
func (p *processes) stop(b *testing.B, rows int) {
	b.StopTimer()
	total := time.Duration(0)
	for role, used := range p.cpu() {
		used -= p.used[role]
		total += used
		b.ReportMetric(float64(used.Nanoseconds())/float64(rows), role+"-ns/row")
	}
	b.ReportMetric(float64(total.Nanoseconds())/float64(rows), "cpu-ns/row")
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}

// run runs a role in a new process until the benchmark ends, and returns its address.
func (p *processes) run(role, next, name string) (address string) {
	b := p.b
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, nextVariable+"="+next, nameVariable+"="+name)
	cmd.Env = append(cmd.Env, p.env...)
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
	r := &player{role: role, process: cmd.Process.Pid, in: in, out: bufio.NewReader(out)}
	line, err := r.out.ReadString('\n')
	if err != nil {
		b.Fatalf("the %s printed no address: %v", role, err)
	}
	p.roles = append(p.roles, r)
	return strings.TrimSpace(line)
}

// listen listens at a free port and prints the address for the benchmark.
func listen(ctx context.Context) (net.Listener, error) {
	l, err := serve.Listen(ctx, nil, "127.0.0.1:0")
	if err == nil {
		fmt.Println(l.Addr())
	}
	return l, err
}

// runEtcd is the role of an etcd.
func runEtcd(ctx context.Context, _, _ string) error {
	etcd, err := devcluster.StartEtcd(ctx, devcluster.EtcdConfig{})
	if err != nil {
		return err
	}
	fmt.Println(etcd.Address())
	<-ctx.Done()
	return etcd.Close()
}

// runCoordinator is the role of a coordinator.
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
	config := coordinator.Config{Store: store, Listener: l}
	if at := os.Getenv(httpVariable); at != "" {
		if config.HTTP, err = serve.Listen(ctx, nil, at); err != nil {
			return err
		}
	}
	if redis := os.Getenv(lettersVariable); redis != "" {
		most, err := strconv.Atoi(os.Getenv(mostVariable))
		if err != nil {
			return err
		}
		if config.DeadLetters, err = deadletter.Open(deadletter.Config{URL: "redis://" + redis, Max: most}); err != nil {
			return err
		}
		defer config.DeadLetters.Close()
	}
	c, err := coordinator.New(config)
	if err != nil {
		return err
	}
	return profiled("coordinator", func() error { return c.Run(ctx) })
}

// runWorker is the role of a worker.
func runWorker(ctx context.Context, etcd, name string) error {
	r := kis.NewRegistry()
	register(r)
	registerGrowth(r)
	w, err := worker.New(worker.Config{Registry: r, Name: name, Listen: "127.0.0.1:0", Etcd: cluster.Config{Endpoints: []string{etcd}}})
	if err != nil {
		return err
	}
	fmt.Println(name) // only the coordinator dials the worker, and finds its address in etcd
	return profiled(name, func() error { return w.Run(ctx) })
}
