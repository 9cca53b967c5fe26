package flowexec

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// rowsIn, rowsEnded and rowsInFlight describe the metrics of the rows in a Local. The names are those of a
// coordinator's metrics, so that dashboards and alerts for a cluster work for a Local too.
var (
	rowsIn = prometheus.NewDesc("kisgrid_rows_in_total",
		"Rows that were submitted in this process.", []string{"flow"}, nil)
	rowsEnded = prometheus.NewDesc("kisgrid_rows_ended_total",
		"Rows by how they ended. Rows in are these and those in flight, at every moment.", []string{"flow", "outcome"}, nil)
	rowsInFlight = prometheus.NewDesc("kisgrid_rows_in_flight",
		"Rows without an outcome.", []string{"flow"}, nil)
)

// tally counts the rows of one flow in a Local. It is safe for concurrent use.
type tally struct {
	mu    sync.Mutex
	in    uint64       // how many rows were submitted; guarded by mu
	ended batch.Counts // how many rows have ended, by outcome; guarded by mu
}

// enter adds to the count of rows that were submitted.
func (t *tally) enter(rows int) {
	t.mu.Lock()
	t.in += uint64(rows)
	t.mu.Unlock()
}

// leave counts rows that have ended; rows is their number. notDone has the outcomes of some of them, and the others
// are done.
func (t *tally) leave(rows int, notDone []batch.RowOutcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range notDone {
		t.ended[notDone[i].Outcome]++
	}
	t.ended[batch.Done] += uint64(rows - len(notDone))
}

// read returns how many rows were submitted, and how many have ended, by outcome. Both counts are of one moment.
func (t *tally) read() (in uint64, ended batch.Counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.in, t.ended
}

// tallies is the Prometheus collector of the row metrics of a Local. It has the Local's flows by name.
type tallies map[string]*localFlow

// Describe implements prometheus.Collector.
func (tallies) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{rowsIn, rowsEnded, rowsInFlight} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (ts tallies) Collect(out chan<- prometheus.Metric) {
	for name, f := range ts {
		in, ended := f.tally.read()
		out <- prometheus.MustNewConstMetric(rowsIn, prometheus.CounterValue, float64(in), name)
		for o := batch.Done; o <= batch.Failed; o++ {
			out <- prometheus.MustNewConstMetric(rowsEnded, prometheus.CounterValue, float64(ended[o]), name, o.String())
		}
		out <- prometheus.MustNewConstMetric(rowsInFlight, prometheus.GaugeValue, float64(in-ended.Total()), name)
	}
}
