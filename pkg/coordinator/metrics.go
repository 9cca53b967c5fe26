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
	rowsAgain = prometheus.NewDesc("kisgrid_rows_redispatched_total",
		"Rows that went to a worker again, each time, by why: lost where the worker was given up, returned where it gave them back.", []string{"flow", "why"}, nil)
	sessions = prometheus.NewDesc("kisgrid_coordinator_sessions",
		"Sessions with workers that are up.", nil, nil)
	streams = prometheus.NewDesc("kisgrid_coordinator_streams",
		"Client streams that are open.", nil, nil)
	windowBytes = prometheus.NewDesc("kisgrid_stream_window_bytes",
		"Bytes of rows that the open client streams of a flow may have unanswered together.", []string{"flow"}, nil)
	windowUsed = prometheus.NewDesc("kisgrid_stream_window_used_bytes",
		"Bytes of rows that they have unanswered, by as much as a batch each above their windows.", []string{"flow"}, nil)
	workerStates = prometheus.NewDesc("kisgrid_coordinator_workers",
		"Registered workers by the state of the session with them: up, draining, down, or lost after a lease time of that.", []string{"state"}, nil)
	budgetBytes = prometheus.NewDesc("kisgrid_coordinator_budget_left_bytes",
		"Bytes of rows that clients may still be granted.", nil, nil)
	isLeader = prometheus.NewDesc("kisgrid_coordinator_leader",
		"1 for the coordinator that decides revisions.", nil, nil)
)

// collector reads the coordinator's state when it is asked, so that counts fit together.
type collector struct{ coordinator *Coordinator }

// Describe implements prometheus.Collector.
func (*collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		rowsIn, rowsEnded, rowsInFlight, rowsAgain, flowRevision, flowWanted, sessions, workerStates, streams, windowBytes, windowUsed, budgetBytes, isLeader,
	} {
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
		counter(rowsAgain, l.Redispatched, flow, "lost")
		counter(rowsAgain, l.HandedBack, flow, "returned")
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
	for state, n := range c.fleet.states(ctx) {
		gauge(workerStates, float64(n), state)
	}
	open, windows := c.ingest.windows()
	gauge(streams, float64(open))
	for flow, w := range windows {
		gauge(windowBytes, float64(w.size), flow)
		gauge(windowUsed, float64(w.used), flow)
	}
	gauge(budgetBytes, float64(c.ingest.budget.remaining()))
	leads := 0.0
	if c.leading.Load() {
		leads = 1
	}
	gauge(isLeader, leads)
}
