package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

const tally = "kistype: flow\nflow_name: Tally\nstatus: 1\nshard_key: id\nflows: [{fname: Count}]\n---\n" +
	"kistype: func\nfname: Count\nfmode: Save\noption: {cname: Store}\n---\n" +
	"kistype: conn\ncname: Store\ntype: redis\naddrs: ${REDIS_ADDR}\nkey: tally_\n"

// numbered is a row of Tally.
type numbered struct {
	ID int `json:"id"`
	N  int `json:"n"`
}

// numberedLines makes the rows from one number up to another, exclusive, in lines.
func numberedLines(from, to int) string {
	var text strings.Builder
	for n := from; n < to; n++ {
		fmt.Fprintf(&text, `{"id":%d,"n":%d}`+"\n", n%11, n)
	}
	return text.String()
}

// TestSubmitLog ends a submit of a log at random moments, without waiting for answers, and runs it again: each row counts once, in its order.
func TestSubmitLog(t *testing.T) {
	g := flowtest.Cluster(t, 2, flowtest.Register(func(r *kis.Registry) {
		r.Func("Count", kis.Save(func(_ context.Context, to kis.Writer, in numbered) error {
			to.Incr(strconv.Itoa(in.ID), "rows", 1)
			to.Append("list"+strconv.Itoa(in.ID), strconv.Itoa(in.N))
			return nil
		}))
	}))
	if err := g.Apply(tally); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rows.ndjson")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := redis.NewClient(&redis.Options{Addr: g.Redis()})
	defer r.Close()
	check := func(rows int) {
		t.Helper()
		for id := range 11 {
			var want []string
			for n := id; n < rows; n += 11 {
				want = append(want, strconv.Itoa(n))
			}
			got, err := r.LRange(t.Context(), "tally_list"+strconv.Itoa(id), 0, -1).Result()
			if err != nil || strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("%v: of %d, the list %d has %d values, of %d: %v", err, rows, id, len(got), len(want), got)
			}
			if n := r.HGet(t.Context(), "tally_"+strconv.Itoa(id), "rows").Val(); n != strconv.Itoa(len(want)) {
				t.Errorf("%d counts %s rows, of %d", id, n, len(want))
			}
		}
	}
	args := []string{"submit", "Tally", "-f", file, "--log", "numbers"}
	write(numberedLines(0, 20_000))
	for range 12 {
		command := begin(t, g, "", append(args, "--grace", "0s", "--batch-rows", strconv.Itoa(1+rand.IntN(300)))...)
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		command.cancel()
		_, _ = command.end(t)
	}
	runs(t, g, "", args, " done")
	check(20_000)

	// Another command has only the lines behind those that are done, and a row that is dead counts as done. A line without a row keeps its place:
	// a row may come there.
	write(numberedLines(0, 20_050) + "{\"id\":\n")
	fails(t, g, "", args, "50 done", "1 dead")
	write(numberedLines(0, 20_050) + "{\"id\":\n" + numberedLines(20_050, 20_060) + "\n" + numberedLines(20_060, 20_070))
	for range 2 {
		runs(t, g, "", args, "20 done")
	}
	check(20_070)
	fails(t, g, "", append(args, "--from-line", "7"), "--log, which knows where to begin")
}
