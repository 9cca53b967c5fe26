package bench

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// hostileDocuments is a flow whose rows take all steps, or all bytes, that an expression may take.
const hostileDocuments = `
kistype: flow
status: 1
flow_name: Chain
flows:
  - fname: Hostile
---
kistype: func
fname: Hostile
fmode: Calculate
option:
  calculate:
    steps: len(map(range(0, 600), a => sum(map(range(0, 400), b => a * b + n))))
    bytes: len(repeat("0123456789abcdef" + string(n), 200000))
    texts: len(replace(repeat("ab" + string(n), 1000), "a", repeat("x", 100)))
`

// BenchmarkBesideHostile measures how long a batch of 100 rows takes on a lane of its own, alone and beside lanes whose rows use up the budget of
// expressions. The batches come one every 2 ms or more. It reports the median and the 99th percentile in microseconds.
func BenchmarkBesideHostile(b *testing.B) {
	for _, hostile := range []int{0, 1, runtime.GOMAXPROCS(0)} {
		b.Run(fmt.Sprintf("hostile-%d", hostile), func(b *testing.B) {
			stop := besideHostile(b, hostile)
			defer stop()
			const n = 100
			plan, columns := plan(b, exprDocuments, func(*kis.Registry) {}), rows(n)
			lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "Chain", Copies: 1})
			defer lanes.Stop()
			ended := make(chan flowexec.RunResult, 1)
			took := make([]time.Duration, b.N)
			ticker := time.NewTicker(2 * time.Millisecond)
			defer ticker.Stop()
			b.ResetTimer()
			for i := range took {
				<-ticker.C
				begin := time.Now()
				lanes.Enqueue(&flowexec.Part{Plan: plan, BatchRows: n, Columns: columns, Attempt: 1, Done: func(r flowexec.RunResult) { ended <- r }})
				if r := <-ended; len(r.NotDone) > 0 {
					b.Fatalf("not all rows are done: %+v", r.NotDone[0])
				}
				took[i] = time.Since(begin)
			}
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
		})
	}
}

// besideHostile keeps as many lanes busy with hostile rows as n says, until the returned function is called.
func besideHostile(b *testing.B, n int) (stop func()) {
	plan := plan(b, hostileDocuments, func(*kis.Registry) {})
	lanes := flowexec.StartLanes(flowexec.LanesConfig{Flow: "Hostile", Copies: max(n, 1)})
	var stopped atomic.Bool
	var under sync.WaitGroup
	for lane := range n {
		under.Go(func() {
			for i := 0; !stopped.Load(); i++ {
				var columns batch.Columns
				columns.Append(fmt.Appendf(nil, `{"n":%d}`, i))
				columns.Keys = append(columns.Keys, uint64(lane))
				ended := make(chan struct{})
				lanes.Enqueue(&flowexec.Part{Plan: plan, BatchRows: 1, Columns: columns, Attempt: 1, Done: func(flowexec.RunResult) { close(ended) }})
				<-ended
			}
		})
	}
	return func() {
		stopped.Store(true)
		under.Wait()
		lanes.Stop()
	}
}
