package overload

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
)

// TestLimitsThatDiffer runs a coordinator and a worker with different limits, either way round. Rows that fit both are done. A single
// row that does not fit is ROW_TOO_LARGE. A batch that must not be divided is refused or fails. No session ends because of it.
func TestLimitsThatDiffer(t *testing.T) {
	const low, high = 2 << 20, 24 << 20
	limit := func(bytes int) []string {
		return []string{"--max-batch-bytes", strconv.Itoa(bytes)}
	}
	for name, c := range map[string]struct{ coordinator, worker int }{
		"a coordinator that takes less": {low, high},
		"a worker that takes less":      {high, low},
		"both take more":                {high, high},
	} {
		t.Run(name, func(t *testing.T) {
			address, coordinator, _ := startGrid(t, flags{"coordinator": append(limit(c.coordinator), "--max-row-bytes", strconv.Itoa(c.coordinator)), "worker": limit(c.worker)})
			k, err := client.Dial(address, client.WithRetryFor(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			takes := min(c.coordinator, c.worker)
			for _, flow := range []string{"Grow", "GrowWhole"} {
				s, err := k.Stream(t.Context(), flow)
				if err != nil {
					t.Fatal(err)
				}
				submit := func(b *client.Batch, call bool) (*client.Result, error) {
					if call {
						return k.Submit(t.Context(), flow, b)
					}
					p, err := s.Send(t.Context(), b)
					if err != nil {
						return nil, err
					}
					return p.Wait(t.Context())
				}
				for _, call := range []bool{false, true} {
					// Functions make rows of these sizes; some are larger than the lower limit.
					sizes := []int{100, takes - 1000, takes + 1000, 14 << 20, 200}
					rows := make([]string, len(sizes))
					for i, n := range sizes {
						rows[i] = fmt.Sprintf(`{"key":%d}`, n)
					}
					r, err := submit(client.Rows(rows...), call)
					if err != nil && (!call || batch.CodeOf(err) != batch.CodeBatchTooLarge || r == nil) {
						t.Fatalf("%s, call %t: %v", flow, call, err)
					}
					large := map[uint32]bool{}
					for _, o := range r.NotDone {
						large[o.Row] = o.Code == batch.CodeRowTooLarge
					}
					for i, n := range sizes {
						if large[uint32(i)] != (n > takes-100) || len(r.NotDone) != len(large) {
							t.Errorf("%s, call %t: of %d bytes, where %d are taken, came %v", flow, call, sizes, takes, r.NotDone)
							break
						}
					}
					// The rows of one batch together are larger than the lower limit.
					rows = make([]string, 300)
					for i := range rows {
						rows[i] = fmt.Sprintf(`{"key":%d,"text":"%s"}`, i, strings.Repeat("x", 10<<10))
					}
					r, err = submit(client.Rows(rows...), call)
					switch {
					case c.coordinator == low:
						if batch.CodeOf(err) != batch.CodeBatchTooLarge || errors.Is(err, client.ErrUnanswered) {
							t.Errorf("%s, call %t: a batch over the coordinator's limit: %v", flow, call, err)
						}
					case err != nil:
						t.Errorf("%s, call %t: %v", flow, call, err)
					case c.worker == low && flow == "GrowWhole":
						if len(r.NotDone) != len(rows) || r.NotDone[0].Code != batch.CodeBatchTooLarge {
							t.Errorf("%s, call %t: no worker takes the batch: %d rows are not done", flow, call, len(r.NotDone))
						}
					case len(r.NotDone) > 0:
						t.Errorf("%s, call %t: %d rows are not done, the first %v", flow, call, len(r.NotDone), r.NotDone[0])
					}
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			if log := coordinator.Log(); strings.Contains(log, "session ended") || strings.Contains(log, "given up") {
				t.Errorf("sessions ended over it:\n%s", log)
			}
		})
	}
}
