package flowtest_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/client"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

const lastSeen = "kistype: flow\nflow_name: Seen\nstatus: 1\nshard_key: id\nflows: [{fname: Last}, {fname: Note}]\n---\n" +
	"kistype: func\nfname: Last\nfmode: Load\noption: {cname: Store, on_missing: 'null'}\n---\n" +
	"kistype: func\nfname: Note\nfmode: Save\noption: {cname: Store}\n---\n" +
	"kistype: conn\ncname: Store\ntype: redis\naddrs: ${REDIS_ADDR}\nkey: seen_\n"

// A worker that drains while 65,536 rows of one key are under way hands the key over between two of its rows. It does not run all
// rows that it holds, and the next worker continues where it stopped.
func TestDrainWithinHotKey(t *testing.T) {
	t.Parallel()
	const all, stops = 1 << 16, 100
	var (
		mu    sync.Mutex
		marks []string // marks of rows, in the order in which they ran first; guarded by mu
		wrong []string // rows that found another mark than that of the row before them; guarded by mu
		begun = make(chan struct{})
		leave = make(chan struct{})
	)
	g := flowtest.Cluster(t, 2, flowtest.Register(func(r *kis.Registry) {
		r.Func("Last", kis.Load(func(in row) string { return fmt.Sprint(in.ID) }, func(_ context.Context, in row, saved *map[string]string) (row, error) {
			last := ""
			if saved != nil {
				last = (*saved)["mark"]
			}
			mu.Lock()
			defer mu.Unlock()
			n := len(marks)
			if slices.Contains(marks, in.Mark) {
				return in, nil // the row runs a second time, because the hand-over took long
			}
			if n > 0 && last != marks[n-1] || n == 0 && last != "" {
				wrong = append(wrong, fmt.Sprintf("row %s found %q", in.Mark, last))
			}
			return in, nil
		}))
		r.Func("Note", kis.Save(func(ctx context.Context, to kis.Writer, in row) error {
			to.Set(fmt.Sprint(in.ID), "mark", in.Mark)
			mu.Lock()
			again := slices.Contains(marks, in.Mark)
			if !again {
				marks = append(marks, in.Mark)
			}
			n := len(marks)
			mu.Unlock()
			if again || n != stops {
				return nil
			}
			close(begun)
			select {
			case <-leave:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}))
	}))
	if err := g.Apply(lastSeen); err != nil {
		t.Fatal(err)
	}
	rows := make([]any, all)
	for i := range rows {
		rows[i] = row{ID: 1, Mark: fmt.Sprint(i)}
	}
	c := g.Client()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = c.Submit(ctx, "Seen", client.Rows(rows...)) // the test is over before all rows have run
	}()
	<-begun
	owner := g.Owner("Seen", "1")
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		owner.Drain()
	}()
	until(t, "the slot has moved", func() bool { return g.Owner("Seen", "1") != owner })
	close(leave)
	<-drained
	if n := ran(owner) / 2; n >= 4000 { // the worker holds 4160 rows, and the rest waits at the coordinator
		t.Errorf("the worker that drained went on through %g rows", n)
	}
	next := g.Owner("Seen", "1")
	until(t, "the next worker goes on", func() bool { return ran(next) > 2*stops })
	cancel()
	<-ended
	mu.Lock()
	defer mu.Unlock()
	if len(wrong) > 0 {
		t.Errorf("%d rows did not find the mark of the row before: %v", len(wrong), wrong[:min(5, len(wrong))])
	}
	for i, mark := range marks {
		if mark != fmt.Sprint(i) {
			t.Fatalf("row %s came as number %d", mark, i)
		}
	}
}
