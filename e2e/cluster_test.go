package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/testprocess"
)

// conf is the students' example.
const conf = "../examples/students/conf"

// lease is longer than a busy machine keeps a process from telling that it lives.
const lease = "6s"

// grid is etcd, Redis and coordinators and workers as processes.
type grid struct {
	t                  *testing.T
	etcd, redis        string // addresses
	etcdDir            string
	coordinator, http  string // addresses
	coordinatorProcess *testprocess.Process
	workers            []*testprocess.Process
}

// startGrid starts a grid with so many workers, named w1, w2, …, and waits until it is up.
func startGrid(t *testing.T, workers int) *grid {
	t.Helper()
	g := &grid{t: t, etcd: testprocess.Address(t), redis: testprocess.Address(t), etcdDir: t.TempDir(), coordinator: testprocess.Address(t), http: testprocess.Address(t)}
	startEtcd(t, g.etcd, g.etcdDir)
	startRedis(t, g.redis)
	g.coordinatorProcess = g.startCoordinator()
	g.coordinatorProcess.Await(`ready:`)
	for i := range workers {
		g.workers = append(g.workers, g.startWorker(fmt.Sprintf("w%d", i+1)))
	}
	g.awaitWorkers(workers)
	return g
}

func (g *grid) startCoordinator() *testprocess.Process {
	g.t.Helper()
	return testprocess.Start(g.t, testprocess.Config{}, "coordinator", "--listen", g.coordinator, "--http", g.http, "--etcd", g.etcd, "--lease", lease)
}

func (g *grid) startWorker(name string) *testprocess.Process {
	g.t.Helper()
	return testprocess.Start(g.t, testprocess.Config{Name: name, Env: []string{"REDIS_ADDR=" + g.redis}},
		"worker", "--name", name, "--listen", testprocess.Address(g.t), "--http", testprocess.Address(g.t), "--etcd", g.etcd, "--lease", lease)
}

// awaitWorkers waits until the coordinator has a session with so many workers.
func (g *grid) awaitWorkers(n int) {
	g.t.Helper()
	testprocess.Until(g.t, fmt.Sprintf("%d sessions", n), func() error {
		got, err := metric(g.http, "kisgrid_coordinator_sessions", "")
		if err == nil && int(got) != n {
			err = fmt.Errorf("%g sessions", got)
		}
		return err
	})
}

// kisgrid runs the command line against the grid's coordinator.
func (g *grid) kisgrid(stdin string, args ...string) (code int, out, log string) {
	g.t.Helper()
	return testprocess.Run(g.t, testprocess.Config{Stdin: stdin}, "kisgrid", append(args, "--server", g.coordinator)...)
}

func (g *grid) mustKisgrid(stdin string, args ...string) (out string) {
	g.t.Helper()
	return must(g.t, stdin, "kisgrid", append(args, "--server", g.coordinator)...)
}

// average reads what CalStuAvgScore12 saved for a student.
func (g *grid) average(id int) string {
	g.t.Helper()
	c := redis.NewClient(&redis.Options{Addr: g.redis})
	defer c.Close()
	value, err := c.HGet(g.t.Context(), fmt.Sprintf("stu_score12_avg_%d", id), "avg_score").Result()
	if err != nil {
		g.t.Fatalf("read student %d's average: %v", id, err)
	}
	return value
}

// summary is what submit -o json prints.
type summary struct {
	Rows      int            `json:"rows"`
	Outcomes  map[string]int `json:"outcomes"`
	Revisions []int64        `json:"revisions"`
}

func readSummary(t *testing.T, text string) summary {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	var s summary
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &s); err != nil {
		t.Fatalf("submit printed no summary: %v\n%s", err, text)
	}
	return s
}
