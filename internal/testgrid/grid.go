package testgrid

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/client"
)

// Grid is a cluster whose coordinators and workers are processes. A test sets the fields, and may change them between two starts; it
// calls the methods from one goroutine, unless a method says otherwise. Every process ends with the test.
type Grid struct {
	// TB is the test. A failed start fails it.
	TB testing.TB
	// Etcd is the address of etcd, as host:port, or several addresses with commas between them.
	Etcd string
	// Redis is the address of the Redis that workers find as ${REDIS_ADDR}. Empty means that workers are told of none.
	Redis string
	// Lease is the --lease of each process, such as "6s". Empty means the programs' default.
	Lease string
	// Coordinator and Worker say which programs run, with which flags and environment. Default: the built programs coordinator and
	// worker.
	Coordinator, Worker Program

	// Coordinators are those that AddCoordinator made, in that order.
	Coordinators []*Coordinator
	// Workers are the processes that StartWorker started, in that order. A test may remove some.
	Workers []*testprocess.Process

	started int // how many workers StartWorker has ever started
}

// Program is a program that a process runs.
type Program struct {
	// Path is the name of a program that testprocess.Main built, or the path of a file. Empty means the default.
	Path string
	// Flags come before the flags that Grid adds.
	Flags []string
	// Env is added to the test's environment, as NAME=value.
	Env []string
}

// New makes a grid with free addresses for an etcd and a Redis. It starts nothing.
func New(tb testing.TB) *Grid {
	tb.Helper()
	return &Grid{TB: tb, Etcd: testprocess.Address(tb), Redis: testprocess.Address(tb)}
}

// Coordinator is one coordinator of a Grid. Its addresses stay; its process may be started, stopped and started again.
type Coordinator struct {
	// Process is the latest process. Nil means that none was started yet.
	*testprocess.Process
	// Address and HTTP are where clients and HTTP requests are taken, as host:port.
	Address, HTTP string
	// Flags are added to the command line of this coordinator.
	Flags []string

	grid *Grid
}

// AddCoordinator makes one more Coordinator, with free addresses and with these flags. It starts no process: call Start.
func (g *Grid) AddCoordinator(flags ...string) *Coordinator {
	g.TB.Helper()
	c := &Coordinator{Address: testprocess.Address(g.TB), HTTP: testprocess.Address(g.TB), Flags: flags, grid: g}
	g.Coordinators = append(g.Coordinators, c)
	return c
}

// Start starts the coordinator's process at the coordinator's addresses. It does not wait until the coordinator is ready: call Ready.
// It returns c, so that calls can be chained.
func (c *Coordinator) Start() *Coordinator {
	c.grid.TB.Helper()
	c.Process = c.grid.RunCoordinator(testprocess.Config{}, c.Address, c.HTTP, c.Flags...)
	return c
}

// Ready waits until the coordinator has logged that it takes batches. It returns c, so that calls can be chained.
func (c *Coordinator) Ready() *Coordinator {
	c.grid.TB.Helper()
	c.Await(`ready:`)
	return c
}

// RunCoordinator starts a coordinator's process that is not added to Coordinators. An empty http means that it serves no HTTP. Several
// goroutines may call it.
func (g *Grid) RunCoordinator(p testprocess.Config, listen, http string, flags ...string) *testprocess.Process {
	g.TB.Helper()
	return g.run(p, g.Coordinator, "coordinator", append([]string{"--listen", listen, "--http", http}, flags...))
}

// StartWorker starts the process of a worker at free addresses and adds it to Workers. Without a name the worker is called w1, w2 and
// so on. StartWorker does not wait until the worker has joined: call AwaitWorkers.
func (g *Grid) StartWorker(name string, flags ...string) *testprocess.Process {
	g.TB.Helper()
	g.started++
	if name == "" {
		name = fmt.Sprintf("w%d", g.started)
	}
	w := g.RunWorker(testprocess.Config{Name: name}, name, testprocess.Address(g.TB), testprocess.Address(g.TB), flags...)
	g.Workers = append(g.Workers, w)
	return w
}

// RunWorker starts a worker's process that is not added to Workers. An empty http means that it serves no HTTP. Several goroutines
// may call it.
func (g *Grid) RunWorker(p testprocess.Config, name, listen, http string, flags ...string) *testprocess.Process {
	g.TB.Helper()
	if g.Redis != "" {
		p.Env = append(p.Env, "REDIS_ADDR="+g.Redis)
	}
	return g.run(p, g.Worker, "worker", append([]string{"--name", name, "--listen", listen, "--http", http}, flags...))
}

// run starts a program with its own flags, the given flags, and those that every process of the grid gets. fallback names the program
// that runs if program.Path is empty.
func (g *Grid) run(p testprocess.Config, program Program, fallback string, flags []string) *testprocess.Process {
	g.TB.Helper()
	if program.Path == "" {
		program.Path = fallback
	}
	if p.Name == "" {
		p.Name = fallback
	}
	p.Env = append(append([]string(nil), program.Env...), p.Env...)
	args := append(append(append([]string(nil), program.Flags...), flags...), "--etcd", g.Etcd)
	if g.Lease != "" {
		args = append(args, "--lease", g.Lease)
	}
	return testprocess.Start(g.TB, p, program.Path, args...)
}

// AwaitWorkers waits until each coordinator whose process runs has sessions with exactly n workers.
func (g *Grid) AwaitWorkers(n int) {
	g.TB.Helper()
	for _, c := range g.Coordinators {
		if !c.running() {
			continue
		}
		testprocess.Until(g.TB, fmt.Sprintf("the coordinator at %s has %d sessions", c.Address, n), func() error {
			got, err := Metric(c.HTTP, "kisgrid_coordinator_sessions", "")
			if err == nil && int(got) != n {
				err = fmt.Errorf("it has %g sessions", got)
			}
			return err
		})
	}
}

// running reports whether the coordinator's process was started and has not ended.
func (c *Coordinator) running() bool {
	if c.Process == nil {
		return false
	}
	select {
	case <-c.Exited():
		return false
	default:
		return true
	}
}

// TakeWorker removes a worker from Workers and returns it; its process goes on. It takes the worker at the index i modulo the number
// of workers, of which there must be one.
func (g *Grid) TakeWorker(i int) *testprocess.Process {
	i %= len(g.Workers)
	w := g.Workers[i]
	g.Workers = slices.Delete(g.Workers, i, i+1)
	return w
}

// Addresses are the addresses of all Coordinators with commas between them, for --server and for client.Dial.
func (g *Grid) Addresses() string {
	all := make([]string, len(g.Coordinators))
	for i, c := range g.Coordinators {
		all[i] = c.Address
	}
	return strings.Join(all, ",")
}

// Dial returns a client of all Coordinators. The client repeats failed calls, and waits for a coordinator, for
// testprocess.Patience, unless opts have another client.WithRetryFor. The end of the test closes the client.
func (g *Grid) Dial(opts ...client.Option) *client.Client {
	g.TB.Helper()
	c, err := client.Dial(g.Addresses(), append([]client.Option{client.WithRetryFor(testprocess.Patience)}, opts...)...)
	if err != nil {
		g.TB.Fatal(err)
	}
	g.TB.Cleanup(func() { _ = c.Close() })
	return c
}

// Stream opens a stream for a flow. It tries again until the flow is active.
func (g *Grid) Stream(ctx context.Context, c *client.Client, flow string) (s *client.Stream) {
	g.TB.Helper()
	testprocess.Until(g.TB, "flow "+flow+" is active", func() (err error) {
		s, err = c.Stream(ctx, flow)
		return err
	})
	return s
}

// StartKisgrid starts a command of the program kisgrid against all Coordinators. Several goroutines may call it.
func (g *Grid) StartKisgrid(p testprocess.Config, args ...string) *testprocess.Process {
	g.TB.Helper()
	return testprocess.Start(g.TB, p, "kisgrid", append(args, "--server", g.Addresses())...)
}

// Kisgrid runs a command of the program kisgrid against all Coordinators to its end. Stdin is all that the command reads. It returns
// the exit code, and the text on standard output (out) and on standard error (log).
func (g *Grid) Kisgrid(stdin string, args ...string) (code int, out, log string) {
	g.TB.Helper()
	return testprocess.Run(g.TB, testprocess.Config{Stdin: stdin}, "kisgrid", append(args, "--server", g.Addresses())...)
}

// MustKisgrid is Kisgrid for a command that must end with 0; another exit code fails the test. It returns the standard output.
func (g *Grid) MustKisgrid(stdin string, args ...string) (out string) {
	g.TB.Helper()
	return testprocess.MustRun(g.TB, testprocess.Config{Stdin: stdin}, "kisgrid", append(args, "--server", g.Addresses())...)
}

// Metric reads one number from the metrics that a process serves at the address (host:port). Labels are written as the process prints
// them, such as `flow="F",outcome="done"`; empty means that the metric has no labels. A metric that is not there is an error.
func Metric(address, name, labels string) (float64, error) {
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
	return 0, fmt.Errorf("%s serves no metric %s", address, name)
}

// WriteDocuments writes a YAML file for each document into a new folder, under its name with .yml added, and returns the folder. Apply
// takes it with -f.
func WriteDocuments(tb testing.TB, documents map[string]string) (dir string) {
	tb.Helper()
	dir = tb.TempDir()
	for name, text := range documents {
		if err := os.WriteFile(dir+"/"+name+".yml", []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}
