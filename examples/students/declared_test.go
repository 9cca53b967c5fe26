package students_test

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/examples/students"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// withoutStores registers what the declared form needs: no Save and no Load.
func withoutStores(r *kis.Registry) {
	r.Func("VerifyStu", kis.Verify(students.VerifyStu))
	r.Func("AvgStuScore12", kis.Calculate(students.AvgStuScore12))
	r.Func("AvgStuScore3", kis.Calculate(students.AvgStuScore3))
	r.Func("PrintStuAvgScore", kis.Expand(students.PrintStuAvgScore))
}

// Save and Load in Go and as their documents declare them give the same results, in this process and on a cluster, and leave
// the same in Redis.
func TestDeclared(t *testing.T) {
	forms := map[string]struct {
		conf     fs.FS
		register func(*kis.Registry)
	}{"Go": {students.Conf, students.Register}, "declared": {students.ConfDeclared, withoutStores}, "expressions": {students.ConfExpressions, func(*kis.Registry) {}}}
	results, stored := map[string]string{}, map[string]string{}
	for name, form := range forms {
		local, err := flowexec.NewLocalFS(form.conf, form.register)
		if err != nil {
			t.Fatal(err)
		}
		results[name+" locally"] = runBoth(t, func(ctx context.Context, flow string, rows *batch.Batch) (*batch.Result, error) {
			return local.Submit(ctx, flow, rows)
		})
		if err := local.Close(); err != nil {
			t.Error(err)
		}
		g := flowtest.Cluster(t, 2, flowtest.Register(form.register), flowtest.ConfFS(form.conf))
		c := g.Client()
		results[name+" on a cluster"] = runBoth(t, func(ctx context.Context, flow string, rows *batch.Batch) (*batch.Result, error) {
			return c.Submit(ctx, flow, rows)
		})
		stored[name] = averagesIn(t, g.Redis())
	}
	want := results["Go locally"]
	if n := strings.Count(want, "avg_score"); n != 2*class {
		t.Fatalf("%d averages, not %d:\n%s", n, 2*class, want)
	}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		if results[name] != want {
			t.Errorf("%s:\n%s\nnot as Go locally:\n%s", name, results[name], want)
		}
	}
	if stored["Go"] != stored["expressions"] {
		t.Errorf("Redis has, by Go code:\n%s\nby expressions:\n%s", stored["Go"], stored["expressions"])
	}
	if stored["Go"] != stored["declared"] || strings.Count(stored["Go"], "avg_score") != class {
		t.Errorf("Redis has, by Go code:\n%s\nas declared:\n%s", stored["Go"], stored["declared"])
	}
}

// class is how many students there are.
const class = 60

// runBoth submits the loading flow's rows, and then those of the flow that it waits for. It returns how all rows ended.
func runBoth(t *testing.T, submit func(context.Context, string, *batch.Batch) (*batch.Result, error)) string {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	var firsts []students.Scores12
	var thirds []students.Scores3
	for _, id := range random.Perm(class) {
		firsts = append(firsts, students.Scores12{ID: id, Score1: random.IntN(101), Score2: random.IntN(101)})
		thirds = append(thirds, students.Scores3{ID: id, Score3: random.IntN(101)})
	}
	firsts, thirds = append(firsts, students.Scores12{ID: 1000}), append(thirds, students.Scores3{ID: -1})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan string)
	for flow, rows := range map[string]*batch.Batch{"CalStuAvgScore3": client.Rows(thirds...), "CalStuAvgScore12": client.Rows(firsts...)} {
		go func() {
			result, err := submit(ctx, flow, rows)
			if err != nil {
				ended <- fmt.Sprintf("%s: %v", flow, err)
				return
			}
			var said []string
			for i := range result.Output.Rows.Len() {
				said = append(said, string(result.Output.Rows.Row(i)))
			}
			slices.Sort(said)
			for _, o := range result.NotDone {
				said = append(said, fmt.Sprintf("row %d is %v in %s: %v %s", o.Row, o.Outcome, o.Function, o.Code, o.Reason))
			}
			ended <- flow + ":\n" + strings.Join(said, "\n")
		}()
	}
	both := []string{<-ended, <-ended}
	slices.Sort(both)
	return strings.Join(both, "\n")
}

// averagesIn is what a Redis has under the connector's prefix.
func averagesIn(t *testing.T, address string) string {
	t.Helper()
	r := redis.NewClient(&redis.Options{Addr: address})
	defer r.Close()
	var all []string
	for id := range class {
		hash, err := r.HGetAll(t.Context(), "stu_score12_avg_"+strconv.Itoa(id)).Result()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprint(id, hash))
	}
	return strings.Join(all, "\n")
}
