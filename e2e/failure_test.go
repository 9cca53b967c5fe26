package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
)

// scores writes rows of 1,000 students into a file. It returns the average that each student must have in the end.
func scores(t *testing.T, rows int) (path string, want map[int]float64) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	want = map[int]float64{}
	var text strings.Builder
	for range rows {
		id := random.IntN(1000)
		s1, s2 := random.IntN(101), random.IntN(101)
		want[id] = float64(s1+s2) / 2 // the last row of a student counts: rows of one student take effect in their order
		fmt.Fprintf(&text, "{\"stu_id\":%d,\"score_1\":%d,\"score_2\":%d}\n", id, s1, s2)
	}
	path = filepath.Join(t.TempDir(), "rows.ndjson")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, want
}

// checkAverages fails the test unless Redis has, for each student, the average that want says.
func checkAverages(g *testgrid.Grid, want map[int]float64) {
	g.TB.Helper()
	c := testgrid.RedisClient(g.TB, g.Redis)
	wrong := 0
	for id, average := range want {
		got, err := c.HGet(g.TB.Context(), "stu_score12_avg_"+strconv.Itoa(id), "avg_score").Float64()
		if err != nil || got != average {
			if wrong++; wrong <= 5 {
				g.TB.Errorf("student %d: Redis has %v (%v), want %v", id, got, err, average)
			}
		}
	}
	if wrong > 0 {
		g.TB.Errorf("%d of %d averages are wrong", wrong, len(want))
	}
}

// TestKilledWorker kills a worker in the middle of 100,000 rows. The rows that it had not answered run on the other worker, every row
// is counted, and the last row of each student takes effect last.
func TestKilledWorker(t *testing.T) {
	const rows = 100_000
	g := startGrid(t, 2)
	g.MustKisgrid("", "apply", "-f", conf)
	path, want := scores(t, rows)

	submit := testprocess.Start(t, testprocess.Config{Name: "submit"}, "kisgrid", "submit", "CalStuAvgScore12", "-f", path, "-o", "json", "--server", g.Addresses())
	testprocess.Until(t, "a fifth of the rows is done", func() error {
		n, err := testgrid.Metric(g.Coordinators[0].HTTP, "kisgrid_rows_ended_total", `flow="CalStuAvgScore12",outcome="done"`)
		if err == nil && n < rows/5 {
			err = fmt.Errorf("%g are", n)
		}
		return err
	})
	g.Workers[0].Kill()
	if code := submit.Wait(); code != 0 {
		t.Fatalf("submit ended with %d:\n%s%s", code, submit.Out(), submit.Log())
	}
	if s := readSummary(t, submit.Out()); s.Rows != rows || s.Outcomes["done"] != rows {
		t.Errorf("the rows ended so: %+v", s)
	}
	checkAverages(g, want)
	for name, labels := range map[string]string{"kisgrid_rows_in_total": "", "kisgrid_rows_ended_total": `,outcome="done"`} {
		testprocess.Until(t, name+" counts all rows", func() error { // the counter is raised after the answer is sent
			n, err := testgrid.Metric(g.Coordinators[0].HTTP, name, `flow="CalStuAvgScore12"`+labels)
			if err == nil && n != rows {
				err = fmt.Errorf("it is %g, not %d", n, rows)
			}
			return err
		})
	}
}

// TestEtcdAway starts a coordinator and a worker before their etcd, and later stops the etcd while they run. Both wait for it, and
// rows run meanwhile.
func TestEtcdAway(t *testing.T) {
	g, etcdDir := newGrid(t), t.TempDir()
	testgrid.StartRedis(t, g.Redis)
	coordinator := g.AddCoordinator().Start()
	g.StartWorker("w1")
	coordinator.Await(`etcd .*` + g.Etcd)
	g.Workers[0].Await(`etcd.*` + g.Etcd)
	stop := testgrid.StartEtcd(t, g.Etcd, etcdDir)
	coordinator.Ready()
	g.AwaitWorkers(1)
	g.MustKisgrid("", "apply", "-f", conf)

	row := "{\"stu_id\":101,\"score_1\":100,\"score_2\":90}\n"
	stop()
	if out := g.MustKisgrid(row, "submit", "CalStuAvgScore12", "--results"); out != "{\"stu_id\":101,\"avg_score\":95}\n" {
		t.Errorf("without etcd, submit prints:\n%s", out)
	}
	testgrid.StartEtcd(t, g.Etcd, etcdDir)
	testprocess.Until(t, "the worker is in etcd again", func() error {
		code, out, log := g.Kisgrid("", "get", "workers")
		if code != 0 || !strings.Contains(out, "w1-") {
			return fmt.Errorf("get workers ended with %d: %s%s", code, out, log)
		}
		return nil
	})
	g.MustKisgrid(row, "submit", "CalStuAvgScore12")
}

// TestRedisAway submits rows while Redis is away, first before it was ever started and then after it was stopped. The rows wait for
// it.
func TestRedisAway(t *testing.T) {
	g := newGrid(t)
	testgrid.StartEtcd(t, g.Etcd, t.TempDir())
	g.AddCoordinator().Start().Ready()
	g.StartWorker("w1")
	g.AwaitWorkers(1)
	g.MustKisgrid("", "apply", "-f", conf)

	submit := func() *testprocess.Process {
		return testprocess.Start(t, testprocess.Config{Name: "submit", Stdin: "{\"stu_id\":101,\"score_1\":100,\"score_2\":90}\n"},
			"kisgrid", "submit", "CalStuAvgScore12", "--results", "--server", g.Addresses())
	}
	waiting := submit()
	g.Workers[0].Await(`(?i)redis|connector`)
	stop := testgrid.StartRedis(t, g.Redis)
	if waiting.Wait() != 0 || waiting.Out() != "{\"stu_id\":101,\"avg_score\":95}\n" {
		t.Fatalf("submit before Redis ended with %d and printed:\n%s%s", waiting.Wait(), waiting.Out(), waiting.Log())
	}
	stop()
	waiting = submit()
	testprocess.Until(t, "the row is under way", func() error {
		n, err := testgrid.Metric(g.Coordinators[0].HTTP, "kisgrid_rows_in_flight", `flow="CalStuAvgScore12"`)
		if err == nil && n != 1 {
			err = fmt.Errorf("%g rows in flight", n)
		}
		return err
	})
	testgrid.StartRedis(t, g.Redis)
	if waiting.Wait() != 0 || waiting.Out() != "{\"stu_id\":101,\"avg_score\":95}\n" {
		t.Fatalf("submit while Redis was away ended with %d and printed:\n%s%s", waiting.Wait(), waiting.Out(), waiting.Log())
	}
	if got := average(g, 101); got != "95" {
		t.Errorf("Redis has %s as the average", got)
	}
}
