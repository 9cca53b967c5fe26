//go:build linux

package chaos

import (
	"slices"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
)

// TestPoison submits a row that kills each worker that runs it, among other rows, and starts workers again as they die. That row must
// end dead with the code POISON, and every other row must be done.
func TestPoison(t *testing.T) {
	g := startGrid(t, 1)
	stop := make(chan struct{})
	var keeping sync.WaitGroup
	died := make(chan string, 100)
	var keep func(w *workerProcess)
	keep = func(w *workerProcess) {
		select {
		case <-w.Exited():
			died <- w.Name()
			g.remove(w)
			again := g.startWorker(w.bareName())
			keeping.Go(func() { keep(again) })
		case <-stop:
		}
	}
	for _, w := range slices.Clone(g.workers) {
		keeping.Go(func() { keep(w) })
	}
	defer keeping.Wait()
	defer close(stop)

	p := startProducer(t.Context(), t, 0, 1, g.coordinators[0].Address, hclog.NewNullLogger())
	defer p.stream.Close()
	const batches, of = 60, 50
	var all []*client.Pending
	for i := range batches {
		rows := make([]row, of)
		for k := range rows {
			rows[k] = row{Key: uint32(k), Sequence: uint64(i + 1)}
		}
		if i == batches/2 {
			rows = []row{{Client: deadly, Key: 7, Sequence: 1}}
		}
		pending, err := p.stream.Send(t.Context(), client.Rows(rows...))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pending)
	}
	for i, pending := range all {
		r, err := pending.Wait(t.Context())
		switch {
		case err != nil:
			t.Fatal(err)
		case i != batches/2 && len(r.NotDone) > 0:
			t.Errorf("batch %d: %d rows are not done, the first: %+v", i, len(r.NotDone), r.NotDone[0])
		case i == batches/2 && (len(r.NotDone) != 1 || r.NotDone[0].Outcome != client.Dead || r.NotDone[0].Code != batch.CodePoison):
			t.Errorf("the deadly row ended so: %+v", r.NotDone)
		}
	}
	if n := len(died); n < 3 || n > 6 {
		t.Errorf("%d workers died, want 3, or a few more where one died before it had told what had ended", n)
	}
}
