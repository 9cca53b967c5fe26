//go:build linux

// Package upgrade rolls a cluster of an earlier build to this one, under load. No row may be lost, doubled or failed because of it,
// also where documents run that this build would refuse if they were written now.
package upgrade

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
)

func TestMain(m *testing.M) {
	code := testprocess.Main(m, "../../cmd/coordinator", "../../cmd/worker", "../../cmd/kisgrid")
	_ = os.RemoveAll(earlierPrograms)
	os.Exit(code)
}

// earlier is the commit of the build from which clusters are upgraded.
const earlier = "f305d08"

// earlierPrograms is the folder of the earlier programs.
var earlierPrograms = filepath.Join(os.TempDir(), fmt.Sprintf("kisgrid-%s-%d", earlier, os.Getpid()))

// buildEarlier builds the earlier programs and returns their folder. Its error is errNoHistory where git does not have the commit, as
// in an archive of the sources or in a shallow clone.
var buildEarlier = sync.OnceValues(func() (string, error) {
	sources, err := os.MkdirTemp("", "kisgrid-earlier-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(sources)
	if err := unpack(sources); err != nil {
		return "", err
	}
	programs := earlierPrograms
	// Without paths and the state of version control in them, the same sources give the same bytes, which the build cache has.
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", programs+"/", "./cmd/coordinator", "./cmd/worker")
	build.Dir = sources
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build commit %s: %w\n%s", earlier, err, output)
	}
	return programs, nil
})

// errNoHistory means that the test can't run here, which is no fault of the program.
var errNoHistory = errors.New("git does not have commit " + earlier + " here: clone with the whole history to run this test")

// unpack writes the sources of the earlier commit into a folder.
func unpack(dir string) error {
	if exec.Command("git", "cat-file", "-e", earlier+"^{commit}").Run() != nil {
		return errNoHistory
	}
	top, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return err
	}
	archive := exec.Command("git", "archive", earlier)
	archive.Dir = strings.TrimSpace(string(top)) // in a folder below the top, git would archive only that folder
	extract := exec.Command("tar", "-x", "-C", dir)
	if extract.Stdin, err = archive.StdoutPipe(); err != nil {
		return err
	}
	if err := extract.Start(); err != nil {
		return err
	}
	return errors.Join(archive.Run(), extract.Wait())
}

// grid is a cluster of processes, each of which may be of the earlier build or of this one.
type grid struct {
	*testgrid.Grid
	earlier     string // folder of the earlier programs
	etcdDir     string // folder of etcd's data
	stopEtcd    func()
	definitions *testgrid.Definitions
}

// startGrid starts etcd, Redis, and coordinators and workers of the earlier build.
func startGrid(t *testing.T, coordinators, workers int) *grid {
	t.Helper()
	g := startStores(t)
	for range coordinators {
		g.addCoordinator(g.earlier)
	}
	for range workers {
		g.startWorker(g.earlier)
	}
	return g
}

// startStores starts etcd and Redis.
func startStores(t *testing.T) *grid {
	t.Helper()
	programs, err := buildEarlier()
	if errors.Is(err, errNoHistory) {
		fmt.Fprintln(os.Stderr, "SKIPPED, nothing was upgraded:", err)
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	g := &grid{Grid: testgrid.New(t), earlier: programs}
	g.startEtcd(t.TempDir())
	testgrid.StartRedis(t, g.Redis)
	g.definitions = testgrid.OpenDefinitions(t, g.Etcd)
	g.Worker.Env = []string{"KISGRID_UPGRADE_REDIS=" + g.Redis}
	return g
}

// startEtcd starts etcd at its address, with its data in a folder.
func (g *grid) startEtcd(dir string) {
	g.TB.Helper()
	g.etcdDir = dir
	g.stopEtcd = testgrid.StartEtcd(g.TB, g.Etcd, dir)
}

// program is a program of the earlier build in a folder, or of this build where folder is empty.
func program(folder, name string) string {
	if folder == "" {
		return name
	}
	return filepath.Join(folder, name)
}

// addCoordinator starts one more coordinator of a build.
func (g *grid) addCoordinator(build string) {
	g.TB.Helper()
	g.startCoordinator(g.AddCoordinator(), build)
}

// startCoordinator starts a coordinator's process, of a build, at the coordinator's addresses, and waits until it is ready.
func (g *grid) startCoordinator(c *testgrid.Coordinator, build string) {
	g.TB.Helper()
	g.Coordinator.Path = program(build, "coordinator")
	c.Start().Ready()
}

// startWorker starts a worker of a build and waits until every coordinator has a session with all workers.
func (g *grid) startWorker(build string) {
	g.TB.Helper()
	g.Worker.Path = program(build, "worker")
	g.StartWorker("")
	g.awaitSessions()
}

// awaitSessions waits until every coordinator has a session with every worker.
func (g *grid) awaitSessions() {
	g.TB.Helper()
	g.AwaitWorkers(len(g.Workers))
}

// replaceWorkers replaces the workers one by one: a worker of the given build joins, then an old one is drained.
func (g *grid) replaceWorkers(build string) {
	g.TB.Helper()
	for range len(g.Workers) {
		g.startWorker(build)
		g.TakeWorker(0).Stop()
		g.awaitSessions()
	}
}

// replaceCoordinators restarts the coordinators one by one, each at its address, as the given build.
func (g *grid) replaceCoordinators(build string) {
	g.TB.Helper()
	for _, c := range g.Coordinators {
		c.Stop()
		g.startCoordinator(c, build)
		g.awaitSessions()
	}
}

// counted reads how often each row of a flow was counted.
func (g *grid) counted(flow string, rows int) []string {
	g.TB.Helper()
	r := testgrid.RedisClient(g.TB, g.Redis)
	var answers []*redis.StringCmd
	_, err := r.Pipelined(g.TB.Context(), func(p redis.Pipeliner) error {
		for i := range rows {
			answers = append(answers, p.HGet(g.TB.Context(), fmt.Sprintf("upgrade:%s-%d", flow, i), "n"))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		g.TB.Fatal(err)
	}
	counts := make([]string, rows)
	for i, a := range answers {
		if counts[i], err = a.Result(); err != nil && !errors.Is(err, redis.Nil) {
			g.TB.Fatal(err)
		}
	}
	return counts
}
