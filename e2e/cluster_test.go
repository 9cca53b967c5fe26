package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/testgrid"
)

// conf is the folder of the students' example's documents.
const conf = "../examples/students/conf"

// lease is the lease of the processes. It is long enough for a busy machine, on which a process may renew it late.
const lease = "6s"

// newGrid makes a grid. It starts no process.
func newGrid(t *testing.T) *testgrid.Grid {
	t.Helper()
	g := testgrid.New(t)
	g.Lease = lease
	return g
}

// startGrid starts etcd, Redis, one coordinator, and as many workers as workers says, named w1, w2 and so on. It waits until they
// all have joined.
func startGrid(t *testing.T, workers int) *testgrid.Grid {
	t.Helper()
	g := newGrid(t)
	testgrid.StartEtcd(t, g.Etcd, t.TempDir())
	testgrid.StartRedis(t, g.Redis)
	g.AddCoordinator().Start().Ready()
	for range workers {
		g.StartWorker("")
	}
	g.AwaitWorkers(workers)
	return g
}

// average reads the average that the flow CalStuAvgScore12 saved for a student.
func average(g *testgrid.Grid, id int) string {
	g.TB.Helper()
	value, err := testgrid.RedisClient(g.TB, g.Redis).HGet(g.TB.Context(), fmt.Sprintf("stu_score12_avg_%d", id), "avg_score").Result()
	if err != nil {
		g.TB.Fatalf("read student %d's average: %v", id, err)
	}
	return value
}

// summary is the last line that submit -o json prints.
type summary struct {
	Rows      int            `json:"rows"`
	Outcomes  map[string]int `json:"outcomes"`
	Revisions []int64        `json:"revisions"`
}

// readSummary reads the summary from everything that submit -o json printed.
func readSummary(t *testing.T, text string) summary {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	var s summary
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &s); err != nil {
		t.Fatalf("submit printed no summary: %v\n%s", err, text)
	}
	return s
}
