package coordinator

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
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
	flowUnserved = prometheus.NewDesc("kisgrid_flow_unserved",
		"1 while no worker can run the flow, as far as this coordinator sees, 0 while one can; kisgrid get flow NAME says why.", []string{"flow"}, nil)
	connectorDegraded = prometheus.NewDesc("kisgrid_connector_degraded",
		"1 for a worker on which a connector that an active flow needs is of no use now, with the reason, 0 while it is connected or being opened.", []string{"connector", "worker", "reason"}, nil)
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
	workersUnreachable = prometheus.NewDesc("kisgrid_coordinator_workers_unreachable",
		"Registered workers that were tried in vain and have no session; kisgrid get coordinators names them.", nil, nil)
	isCutOff = prometheus.NewDesc("kisgrid_coordinator_cut_off",
		"1 while this coordinator reaches so few workers that it leaves its clients to others.", nil, nil)
	budgetBytes = prometheus.NewDesc("kisgrid_coordinator_budget_left_bytes",
		"Bytes of rows that clients may still be granted.", nil, nil)
	deadLetters = prometheus.NewDesc("kisgrid_dead_letters",
		"Dead letters that the store has; the same at each coordinator.", []string{"flow"}, nil)
	deadLettersLimit = prometheus.NewDesc("kisgrid_dead_letters_limit",
		"The most dead letters that a flow may have.", nil, nil)
	deadLettersExpired = prometheus.NewDesc("kisgrid_dead_letters_expired_total",
		"Dead letters that were forgotten because of their age; the same at each coordinator.", []string{"flow"}, nil)
	deadLettersUp = prometheus.NewDesc("kisgrid_dead_letters_up",
		"1 while the store of dead letters answers, 0 while it does not; missing where there is none.", nil, nil)
	lookupsMade = prometheus.NewDesc("kisgrid_etcd_enquiries_total",
		"Requests to etcd for flows and revisions that clients named and this coordinator did not know; each may be for many.", nil, nil)
	ownBuild = prometheus.NewDesc("kisgrid_coordinator_build",
		"1, with the build of the coordinator's program.", []string{"build"}, nil)
	isLeader = prometheus.NewDesc("kisgrid_coordinator_leader",
		"1 for the coordinator that decides revisions.", nil, nil)
)

// newBatchTimes makes the metric of the times that batches take, from when their clients first sent them. Batches of a flow with a Load that
// waits may take minutes.
func newBatchTimes() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "kisgrid_batch_seconds",
		Help:    "Time from when a client first sent a batch until all its rows had ended, by this coordinator's clock.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 18),
	}, []string{"flow"})
}

// collector is the prometheus.Collector of a coordinator. It reads the coordinator's state whenever metrics are asked for. The counts of
// rows are all read at one moment, so that they add up.
type collector struct{ coordinator *Coordinator }

// Describe sends the descriptions of all metrics of the collector, as prometheus.Collector demands.
func (*collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		rowsIn, rowsEnded, rowsInFlight, rowsAgain, flowRevision, flowWanted, flowUnserved, connectorDegraded, lookupsMade, sessions, workerStates, workersUnreachable, isCutOff, streams, windowBytes, windowUsed, budgetBytes, ownBuild, isLeader,
		deadLetters, deadLettersLimit, deadLettersExpired, deadLettersUp,
	} {
		out <- d
	}
}

// Collect sends the values that the metrics have now, as prometheus.Collector demands. It waits for the coordinator's goroutines for 5
// seconds at most.
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
	for flow, l := range c.loop.Ledgers(ctx) {
		c.letters.initCounters(flow)
		counter(rowsIn, l.In, flow)
		for o := batch.Done; o <= batch.Failed; o++ {
			counter(rowsEnded, l.Outcomes[o], flow, o.String())
		}
		gauge(rowsInFlight, float64(l.InFlight()), flow)
		counter(rowsAgain, l.Redispatched, flow, "lost")
		counter(rowsAgain, l.HandedBack, flow, "returned")
	}
	counter(lookupsMade, c.lookups.requests.Load())
	now := c.board.Load()
	gauge(sessions, float64(now.Sessions))
	gauge(workersUnreachable, float64(len(now.Unreachable)))
	gauge(isCutOff, oneIf(now.CutOff))
	unserved, seen := c.fleet.Unserved(ctx, slices.Collect(maps.Keys(now.Flows)))
	for name, e := range now.Flows {
		if seen {
			gauge(flowUnserved, oneIf(len(unserved[name]) > 0), name)
		}
		number := int64(0)
		if e.Active != nil {
			number = e.Active.Number
		}
		gauge(flowRevision, float64(number), name)
		gauge(flowWanted, float64(e.Status.Wanted), name)
	}
	m.collectConnectors(ctx, gauge)
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
	c.letters.collectDead(ctx, gauge, counter)
	gauge(ownBuild, 1, c.config.Build)
	gauge(isLeader, oneIf(c.leading.Load()))
}

// collectConnectors sends a gauge for each connector and worker: 1 if the connector is degraded there, otherwise 0. Flows may use several
// versions of a connector; if one of them is degraded, the connector is.
func (m *collector) collectConnectors(ctx context.Context, gauge func(*prometheus.Desc, float64, ...string)) {
	c, _ := m.coordinator.fleet.Connectors(ctx)
	down := flowstate.DownBy(c.Degraded, nil)
	for name, workers := range down {
		for worker, reason := range workers {
			gauge(connectorDegraded, 1, name, worker, reason)
		}
	}
	up := map[[2]string]bool{}
	for _, s := range slices.Concat(c.Connected, c.Opening) {
		if at := [2]string{s.Name, s.Worker}; down[s.Name][s.Worker] == "" && !up[at] {
			up[at] = true
			gauge(connectorDegraded, 0, s.Name, s.Worker, "")
		}
	}
}

// oneIf returns the value of a gauge: 1 if is is true, and otherwise 0.
func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

const (
	// storePatience bounds how long a request for metrics waits for the store of dead letters.
	storePatience = time.Second
	// storeNews is for how long the store's last answer is used before the store is asked again.
	storeNews = time.Second
)

// letterCounts is the last answer of the store of dead letters. Concurrent requests for metrics share one question to the store: only the
// goroutine that asks it, within asking, uses the other fields.
type letterCounts struct {
	asking singleflight.Group
	at     time.Time
	flows  []deadletter.Status
	err    error
}

// ask returns how many letters each flow has. It asks the store, unless the last answer is younger than storeNews.
func (c *letterCounts) ask(ctx context.Context, store *deadletter.Store) ([]deadletter.Status, error) {
	flows, err, _ := c.asking.Do("", func() (any, error) {
		if time.Since(c.at) < storeNews {
			return c.flows, c.err
		}
		ctx, cancel := context.WithTimeout(ctx, storePatience)
		defer cancel()
		c.flows = nil
		var flows []string
		flows, c.err = store.Flows(ctx)
		for _, flow := range flows {
			var status deadletter.Status
			if status, c.err = store.Status(ctx, flow); c.err != nil {
				break
			}
			c.flows = append(c.flows, status)
		}
		c.at = time.Now()
		return c.flows, c.err
	})
	return flows.([]deadletter.Status), err
}

// collectDead sends the metrics of the store of dead letters: how many letters each flow has and may have, how many have expired,
// and whether the store answers. Without a store it sends nothing.
func (k *letterKeeper) collectDead(ctx context.Context, gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string)) {
	if k.store == nil {
		return
	}
	flows, err := k.counted.ask(ctx, k.store)
	for _, status := range flows {
		gauge(deadLetters, float64(status.Letters), status.Flow)
		counter(deadLettersExpired, uint64(status.Expired), status.Flow)
	}
	up := 1.0
	if err != nil {
		up = 0 // the reason is logged when a row is not kept
	}
	gauge(deadLettersUp, up)
	gauge(deadLettersLimit, float64(k.store.Max()))
}
