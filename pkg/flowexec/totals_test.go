package flowexec_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/sketch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Coordinators are told how many rows entered a function, died in it and were tried again, how long that took, and which rows wait meanwhile.
func TestFunctionTotals(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBed(t, "shard_key: k\n", func(b *bed, r *kis.Registry) { loader(b, r); failing(b, r) },
			"r Verify; retry_times: 3; retry_duration: 1s", "v Verify")
		b.lanes.Stop()
		metrics, err := flowexec.NewMetrics(prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		b.lanes = flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 1, Connectors: pool{b.store}, Metrics: metrics})
		t.Cleanup(b.lanes.Stop)
		totals := func() (all map[string]string, count uint32) {
			all = map[string]string{}
			metrics.FunctionTotals(func(f *flowexec.FunctionTotals) {
				runs := uint64(0)
				for _, n := range f.Times {
					runs += n
				}
				all[f.Flow+" "+f.Function] = fmt.Sprintf("%d rows, %d errors, %d retries, timed %v", f.Rows, f.Errors, f.Retries, runs > 0 && f.Times[sketch.Bucket(time.Hour)] == 0)
				count = max(count, f.Count)
			})
			return all, count
		}
		p := b.send("a 2", "b 0", "a 10", "c 9", "b 10", "c 20")
		b.expect("ra2.1 rb0.1 rc9.1 rb10.1 vb0 vb10")
		w := b.lanes.Waiting(1)
		if w.Rows != 4 || w.Keys != 2 || len(w.Most) != 1 || w.Most[0].Rows != 2 {
			t.Errorf("it tells of waiting rows %+v", w)
		}
		if w = b.lanes.Waiting(5); len(w.Most) != 2 {
			t.Errorf("it tells of waiting rows %+v", w)
		}
		for range 3 {
			time.Sleep(1200 * time.Millisecond) // 0.8 s to 1.2 s
			synctest.Wait()
		}
		b.expectEnded(p, "[0 1 2 3 4 5] 3 FUNCTION_ERROR r 0→a2 1→b0 2→a10 4→b10 5→c20")
		if w = b.lanes.Waiting(5); w.Rows != 0 || w.Keys != 0 || len(w.Most) != 0 {
			t.Errorf("it tells of waiting rows %+v", w)
		}
		got, count := totals()
		// a 10 and c 20 waited behind a row of their key, twice and three times.
		want := map[string]string{"F r": "11 rows, 1 errors, 5 retries, timed true", "F v": "5 rows, 0 errors, 0 retries, timed true"}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("it counts %v instead of %v", got, want)
		}
		metrics.Forget("F")
		if got, _ := totals(); len(got) != 0 {
			t.Errorf("a forgotten flow has %v", got)
		}
		again := flowexec.StartLanes(flowexec.LanesConfig{Flow: "F", Copies: 1, Connectors: pool{b.store}, Metrics: metrics})
		t.Cleanup(again.Stop)
		b.lanes = again
		b.expectEnded(b.send("b 0"), "[0] 0→b0")
		if got, anew := totals(); got["F r"] != "1 rows, 0 errors, 0 retries, timed true" || anew <= count {
			t.Errorf("after it was forgotten the flow has %v, count %d after %d", got, anew, count)
		}
	})
}
