//go:build linux

// Package upgrade rolls a cluster of an earlier build to this one, under load: no row is lost, doubled or failed for it, also where
// documents run that this build would not take in any more.
package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

func TestMain(m *testing.M) {
	code := testprocess.Main(m, "../../cmd/coordinator", "../../cmd/worker", "../../cmd/kisgrid")
	_ = os.RemoveAll(earlierPrograms)
	os.Exit(code)
}

// earlier is the commit whose build is upgraded.
const earlier = "f305d08"

// earlierPrograms is the folder of the earlier programs.
var earlierPrograms = filepath.Join(os.TempDir(), fmt.Sprintf("kisgrid-%s-%d", earlier, os.Getpid()))

// buildEarlier builds the earlier programs and returns their folder. It fails with errNoHistory where git has not the commit, as
// in an archive of the sources or a shallow clone.
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
	// Without paths and version control's state in them the same sources give the same bytes, which the build cache knows again.
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", programs+"/", "./cmd/coordinator", "./cmd/worker")
	build.Dir = sources
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build commit %s: %w\n%s", earlier, err, output)
	}
	return programs, nil
})

// errNoHistory is no fault of the program.
var errNoHistory = errors.New("git does not have commit " + earlier + " here: clone with the whole history to run this test")

func unpack(dir string) error {
	if exec.Command("git", "cat-file", "-e", earlier+"^{commit}").Run() != nil {
		return errNoHistory
	}
	top, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return err
	}
	archive := exec.Command("git", "archive", earlier)
	archive.Dir = strings.TrimSpace(string(top)) // from a folder below, git archives that folder alone
	extract := exec.Command("tar", "-x", "-C", dir)
	if extract.Stdin, err = archive.StdoutPipe(); err != nil {
		return err
	}
	if err := extract.Start(); err != nil {
		return err
	}
	return errors.Join(archive.Run(), extract.Wait())
}

// grid is a cluster of processes, each of which may be of either build.
type grid struct {
	t            *testing.T
	earlier      string // folder of the earlier programs
	etcd, redis  string // addresses
	etcdDir      string // etcd's data
	stopEtcd     func()
	env          []string
	store        *cluster.Store
	client       *clientv3.Client
	coordinators []*member
	workers      []*testprocess.Process
	started      int // workers, ever
}

// member is a coordinator, which keeps its addresses when another build takes its place.
type member struct {
	*testprocess.Process
	address, http string
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
	g := &grid{t: t, earlier: programs, etcd: testprocess.Address(t), redis: testprocess.Address(t)}
	g.startEtcd(t.TempDir())
	testprocess.StartRedis(t, g.redis, func() (io.Closer, error) {
		return devcluster.StartRedis(devcluster.RedisConfig{Address: g.redis})
	})
	if g.store, err = cluster.Open(cluster.Config{Endpoints: []string{g.etcd}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.store.Close() })
	if g.client, err = clientv3.New(clientv3.Config{Endpoints: []string{g.etcd}, Logger: zap.NewNop()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.client.Close() })
	g.env = append(g.env, "REDIS_ADDR="+g.redis, "KISGRID_UPGRADE_REDIS="+g.redis)
	return g
}

// startEtcd starts etcd at its address with the data in a folder.
func (g *grid) startEtcd(dir string) {
	g.t.Helper()
	g.etcdDir = dir
	g.stopEtcd = testprocess.StartEtcd(g.t, "http://"+g.etcd, dir, func() (io.Closer, error) {
		return devcluster.StartEtcd(g.t.Context(), devcluster.EtcdConfig{Address: g.etcd, DataDir: dir})
	})
}

func (g *grid) addCoordinator(build string) {
	g.t.Helper()
	c := &member{address: testprocess.Address(g.t), http: testprocess.Address(g.t)}
	g.startCoordinator(c, build)
	g.coordinators = append(g.coordinators, c)
}

// program is a program of the earlier build in a folder, or of this one where folder is empty.
func program(folder, name string) string {
	if folder == "" {
		return name
	}
	return filepath.Join(folder, name)
}

func (g *grid) startCoordinator(c *member, build string) {
	g.t.Helper()
	c.Process = testprocess.Start(g.t, testprocess.Config{Name: "coordinator"}, program(build, "coordinator"),
		"--listen", c.address, "--http", c.http, "--etcd", g.etcd)
	c.Await(`ready:`)
}

// startWorker starts a worker and waits until every coordinator has a session with all workers.
func (g *grid) startWorker(build string) *testprocess.Process {
	g.t.Helper()
	g.started++
	name := fmt.Sprintf("w%d", g.started)
	listen := testprocess.Address(g.t)
	w := testprocess.Start(g.t, testprocess.Config{Name: name, Env: g.env}, program(build, "worker"),
		"--name", name, "--listen", listen, "--advertise", listen, "--http", "", "--etcd", g.etcd)
	g.workers = append(g.workers, w)
	g.awaitSessions()
	return w
}

// awaitSessions waits until every coordinator has a session with every worker.
func (g *grid) awaitSessions() {
	g.t.Helper()
	for _, c := range g.coordinators {
		testprocess.Until(g.t, fmt.Sprintf("%d sessions at %s", len(g.workers), c.address), func() error {
			n, err := sessions(c.http)
			if err == nil && n != len(g.workers) {
				err = fmt.Errorf("%d sessions", n)
			}
			return err
		})
	}
}

// sessions asks a coordinator for its number of sessions with workers.
func sessions(address string) (int, error) {
	answer, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "kisgrid_coordinator_sessions "); ok {
			return strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return 0, errors.New("it tells no kisgrid_coordinator_sessions")
}

// replaceWorkers replaces the workers one by one: a worker of the given build joins, then an old one is drained.
func (g *grid) replaceWorkers(build string) {
	g.t.Helper()
	for range len(g.workers) {
		old := g.workers[0]
		g.startWorker(build)
		old.Stop()
		g.workers = g.workers[1:]
		g.awaitSessions()
	}
}

// replaceCoordinators restarts the coordinators one by one, each at its address, as the given build.
func (g *grid) replaceCoordinators(build string) {
	g.t.Helper()
	for _, c := range g.coordinators {
		c.Stop()
		g.startCoordinator(c, build)
		g.awaitSessions()
	}
}

// put writes documents as etcdctl does, unparsed, in one transaction: nobody sees some of them beside what the others were before.
func (g *grid) put(documents ...definition.Document) {
	g.t.Helper()
	var puts []clientv3.Op
	for _, d := range documents {
		puts = append(puts, clientv3.OpPut("/kisgrid/config/"+string(d.Kind)+"/"+d.Name, string(d.YAML)))
	}
	if _, err := g.client.Txn(g.t.Context()).Then(puts...).Commit(); err != nil {
		g.t.Fatal(err)
	}
}

// awaitStatus waits until a flow's status is as asked for.
func (g *grid) awaitStatus(flow, what string, is func(*cluster.FlowStatus) bool) *cluster.FlowStatus {
	g.t.Helper()
	var last *cluster.FlowStatus
	testprocess.Until(g.t, "flow "+flow+" "+what, func() error {
		ctx, cancel := context.WithTimeout(g.t.Context(), testprocess.Patience)
		defer cancel()
		status, err := g.store.Status(ctx, flow)
		switch {
		case err != nil:
			return err
		case status == nil:
			return errors.New("it has no status")
		case !is(status):
			return fmt.Errorf("its status is %+v", *status)
		}
		last = status
		return nil
	})
	return last
}

// counted reads how often each row of a flow was counted.
func (g *grid) counted(flow string, rows int) []string {
	g.t.Helper()
	r := redis.NewClient(&redis.Options{Addr: g.redis})
	defer r.Close()
	var answers []*redis.StringCmd
	_, err := r.Pipelined(g.t.Context(), func(p redis.Pipeliner) error {
		for i := range rows {
			answers = append(answers, p.HGet(g.t.Context(), fmt.Sprintf("upgrade:%s-%d", flow, i), "n"))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		g.t.Fatal(err)
	}
	counts := make([]string, rows)
	for i, a := range answers {
		if counts[i], err = a.Result(); err != nil && !errors.Is(err, redis.Nil) {
			g.t.Fatal(err)
		}
	}
	return counts
}
