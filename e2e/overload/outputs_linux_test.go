package overload

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kisgrid/kisgrid/pkg/client"
)

var outputBatches = flag.Int("outputs.batches", 2, "how many batches each of four streams sends")

// TestOutputsStayInBudget has streams send batches of which functions make a thousand times as many bytes. Each row must be passed
// on, and worker and coordinator must stay small, however slowly the client reads.
func TestOutputsStayInBudget(t *testing.T) {
	const streams, workerTakes = 4, 64<<20 + 96<<20 // the worker's budget, and the memory that it may take beyond it
	batches := *outputBatches
	address, coordinator, worker := startGrid(t, nil)
	c, err := client.Dial(address, client.WithRetryFor(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	for _, flow := range []struct {
		name       string
		rows, each int // rows in a batch, and rows that are made of each
	}{
		{"Wide", 1000, 1000}, {"WideThen", 1000, 1000}, {"Large", 2000, 1}, {"WideWhole", 1000, 1000}, {"LargeWhole", 500, 1},
	} {
		began := time.Now()
		var all errgroup.Group
		for k := range streams {
			all.Go(func() error {
				s, err := c.Stream(t.Context(), flow.name)
				if err != nil {
					return err
				}
				pending := make(chan *client.Pending, batches)
				all.Go(func() error {
					for p := range pending {
						r, err := p.Wait(t.Context())
						if err != nil {
							return fmt.Errorf("flow %s: %w", flow.name, err)
						}
						if n := r.Output.Rows.Len(); n != flow.rows*flow.each || len(r.NotDone) > 0 {
							return fmt.Errorf("flow %s: %d rows came of a batch, and %d are not done", flow.name, n, len(r.NotDone))
						}
					}
					return nil
				})
				defer close(pending)
				for b := range batches {
					in := make([]string, flow.rows)
					for i := range in {
						in[i] = fmt.Sprintf(`{"key":%d,"text":"a text of thirty or forty bytes"}`, (k*batches+b)*flow.rows+i)
					}
					p, err := s.Send(t.Context(), client.Rows(in...))
					if err != nil {
						return err
					}
					pending <- p
				}
				return s.Close()
			})
		}
		if err := all.Wait(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s, so far the worker took up to %d MiB, the coordinator %d", flow.name, time.Since(began).Round(time.Millisecond), worker.Peak()>>20, coordinator.Peak()>>20)
	}
	if size := worker.Peak(); size > workerTakes {
		t.Errorf("the worker took %d MiB, and may take %d", size>>20, workerTakes>>20)
	}
	if size := coordinator.Peak(); size > most {
		t.Errorf("the coordinator took %d MiB, and may take %d", size>>20, most>>20)
	}
}
