//go:build linux

package once

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
)

// The defaults are those of the test suite; `make soak-join` sets larger ones.
var (
	joinRoundsFlag   = flag.Int("join.rounds", 50, "how often the two flows are joined")
	joinStudentsFlag = flag.Int("join.students", 100, "rows of each flow in a round, up to 1,000")
	joinCalmFlag     = flag.Int("join.calm", 3, "rounds without a death, up to the next with one")
	joinSeedFlag     = flag.Uint64("join.seed", 1, "what is drawn follows from it")
)

// TestJoin submits rows to both of the students' flows at once, in shuffled order, the rows that load before the rows that save.
// Three workers run them, and one is killed every few rounds. Every average must be right, and no row may be dead.
func TestJoin(t *testing.T) {
	t.Logf("seed %d", *joinSeedFlag)
	address := testprocess.Address(t)
	_, r := testgrid.RealRedis(t, address)
	g := flowtest.Cluster(t, 3, flowtest.Register(students.Register), flowtest.ConfFS(students.Conf), flowtest.RedisAt(address))
	c, workers := g.Client(), g.Workers()
	j := &joins{random: rand.New(rand.NewPCG(*joinSeedFlag, 0)), thirds: join(t, c, "CalStuAvgScore3"), firsts: join(t, c, "CalStuAvgScore12")}
	keys := make([]string, *joinStudentsFlag)
	for id := range keys {
		keys[id] = "stu_score12_avg_" + strconv.Itoa(id)
	}
	began, killed := time.Now(), 0
	for round := range *joinRoundsFlag {
		if err := r.Del(t.Context(), keys...).Err(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := j.round(ctx, *joinStudentsFlag, func() {
			if round%(1+*joinCalmFlag) != 0 {
				return
			}
			killed++
			i := j.random.IntN(len(workers))
			workers[i].Kill()
			workers[i] = g.AddWorker(flowtest.WorkerConfig{Name: workers[i].Name()})
		})
		cancel()
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	t.Logf("%d rounds of %d students, with %d workers killed, took %v", *joinRoundsFlag, *joinStudentsFlag, killed, time.Since(began).Round(time.Millisecond))
}

// join opens a stream of a flow, once the flow is active.
func join(t *testing.T, c *client.Client, flow string) *client.Stream {
	t.Helper()
	s, err := c.Stream(t.Context(), flow)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the stream of %s: %v", flow, err)
		}
	})
	return s
}

// joins submits scores of students on two streams, and checks the averages. random draws the order of the rows.
type joins struct {
	random         *rand.Rand
	thirds, firsts *client.Stream
}

// round submits three scores of each student, may kill a worker meanwhile, and checks the averages.
func (j *joins) round(ctx context.Context, n int, kill func()) error {
	want, want12 := make([]float64, n), make([]float64, n)
	firsts, thirds := make([]students.Scores12, n), make([]students.Scores3, n)
	for id := range n {
		a, b, c := j.random.IntN(101), j.random.IntN(101), j.random.IntN(101)
		firsts[id], thirds[id] = students.Scores12{ID: id, Score1: a, Score2: b}, students.Scores3{ID: id, Score3: c}
		want12[id] = float64(a+b) / 2
		want[id] = (float64(c) + 2*want12[id]) / 3
	}
	loads, err := send(ctx, j.thirds, shuffled(j.random, thirds))
	if err != nil {
		return err
	}
	saves, err := send(ctx, j.firsts, shuffled(j.random, firsts))
	if err != nil {
		return err
	}
	time.Sleep(time.Duration(j.random.IntN(20_000)) * time.Microsecond) // the worker is to die at a random moment
	kill()
	for _, of := range []struct {
		sent []*client.Pending
		want []float64
	}{{saves, want12}, {loads, want}} {
		if err := check(ctx, of.sent, of.want); err != nil {
			return err
		}
	}
	return nil
}

// shuffled cuts all rows, in random order, into batches of random sizes.
func shuffled[T any](random *rand.Rand, rows []T) (batches []*client.Batch) {
	random.Shuffle(len(rows), func(i, k int) { rows[i], rows[k] = rows[k], rows[i] })
	for len(rows) > 0 {
		n := 1 + random.IntN(min(len(rows), 30))
		batches = append(batches, client.Rows(rows[:n]...))
		rows = rows[n:]
	}
	return batches
}

// send sends batches on a stream.
func send(ctx context.Context, s *client.Stream, batches []*client.Batch) (sent []*client.Pending, err error) {
	for _, b := range batches {
		p, err := s.Send(ctx, b)
		if err != nil {
			return nil, err
		}
		sent = append(sent, p)
	}
	return sent, nil
}

// check waits for batches, and compares their averages with the wanted ones, by student.
func check(ctx context.Context, sent []*client.Pending, want []float64) error {
	seen := make([]bool, len(want))
	for _, p := range sent {
		result, err := p.Wait(ctx)
		if err != nil {
			return err
		}
		if len(result.NotDone) > 0 {
			return fmt.Errorf("rows are not done: %v", result.NotDone)
		}
		averages, err := client.Output[students.Avg](result)
		if err != nil {
			return err
		}
		for _, a := range averages {
			if a.ID < 0 || a.ID >= len(want) || seen[a.ID] || a.Avg != want[a.ID] {
				return fmt.Errorf("student %d: an average of %v, which is wrong, or not the first", a.ID, a.Avg)
			}
			seen[a.ID] = true
		}
	}
	for id, there := range seen {
		if !there {
			return fmt.Errorf("student %d has no average", id)
		}
	}
	return nil
}
