package coordinator

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

var (
	rowsIn = prometheus.NewDesc("kisgrid_rows_in_total",
		"Rows that clients submitted through this coordinator.", []string{"flow"}, nil)
	rowsEnded = prometheus.NewDesc("kisgrid_rows_ended_total",
		"Rows by how they ended. Rows in are these and those in flight, at every moment.", []string{"flow", "outcome"}, nil)
	rowsInFlight = prometheus.NewDesc("kisgrid_rows_in_flight",
		"Rows without an outcome.", []string{"flow"}, nil)
	flowRevision = prometheus.NewDesc("kisgrid_flow_revision",
		"Revision of the flow that new batches run on; 0 for none.", []string{"flow"}, nil)
	flowWanted = prometheus.NewDesc("kisgrid_flow_wanted_revision",
		"Revision of the flow that its documents ask for; another than kisgrid_flow_revision while that is not what runs.", []string{"flow"}, nil)
	sessions = prometheus.NewDesc("kisgrid_coordinator_sessions",
		"Sessions with workers that are up.", nil, nil)
	streams = prometheus.NewDesc("kisgrid_coordinator_streams",
		"Client streams that are open.", nil, nil)
	budgetBytes = prometheus.NewDesc("kisgrid_coordinator_budget_left_bytes",
		"Bytes of rows that clients may still be granted.", nil, nil)
	isLeader = prometheus.NewDesc("kisgrid_coordinator_leader",
		"1 for the coordinator that decides revisions.", nil, nil)
)

// collector reads the coordinator's state when it is asked, so that counts fit together.
type collector struct{ coordinator *Coordinator }

// Describe implements prometheus.Collector.
func (*collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{rowsIn, rowsEnded, rowsInFlight, flowRevision, flowWanted, sessions, streams, budgetBytes, isLeader} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *collector) Collect(out chan<- prometheus.Metric) {
	c := m.coordinator
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for flow, l := range c.loop.ledgers(ctx) {
		counter(rowsIn, l.In, flow)
		for o := batch.Done; o <= batch.Failed; o++ {
			counter(rowsEnded, l.Outcomes[o], flow, o.String())
		}
		gauge(rowsInFlight, float64(l.InFlight()), flow)
	}
	now := c.board.load()
	gauge(sessions, float64(now.sessions))
	for name, e := range now.flows {
		number := int64(0)
		if e.active != nil {
			number = e.active.number
		}
		gauge(flowRevision, float64(number), name)
		gauge(flowWanted, float64(e.status.Wanted), name)
	}
	c.ingest.mu.Lock()
	open := len(c.ingest.streams)
	c.ingest.mu.Unlock()
	gauge(streams, float64(open))
	gauge(budgetBytes, float64(c.ingest.budget.remaining()))
	leads := 0.0
	if c.leading.Load() {
		leads = 1
	}
	gauge(isLeader, leads)
}
