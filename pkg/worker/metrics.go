package worker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics has the worker's own metrics: of sessions, coordinators, parts, results and compiled flows. The help texts in
// newMetrics explain each. Flows, connectors and the Go runtime have metrics of their own.
type metrics struct {
	sessions          prometheus.Gauge
	sessionsEnded     *prometheus.CounterVec
	peers             prometheus.Gauge
	peersExpired      prometheus.Counter
	peersAnew         prometheus.Counter
	partsHeld         prometheus.Gauge
	partsReceived     prometheus.Counter
	partsRepeated     prometheus.Counter
	creditsSent       prometheus.Counter
	rowsReturned      prometheus.Counter
	resultsSent       prometheus.Counter
	resultsResent     prometheus.Counter
	resultsKept       prometheus.Gauge
	definitions       *prometheus.CounterVec
	redefinitions     prometheus.Counter
	plans             prometheus.Gauge
	registered        prometheus.Gauge
	registrations     prometheus.Counter
	registrationsLost *prometheus.CounterVec
	draining          prometheus.Gauge
	taps              prometheus.Gauge
}

// newMetrics makes the worker's own metrics and adds them to a Prometheus registry.
func newMetrics(r prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "kisgrid_worker_" + name, Help: help})
		r.MustRegister(g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "kisgrid_worker_" + name, Help: help})
		r.MustRegister(c)
		return c
	}
	counters := func(name, label, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kisgrid_worker_" + name, Help: help}, []string{label})
		r.MustRegister(c)
		return c
	}
	return &metrics{
		sessions:          gauge("sessions", "Sessions with coordinators that are open now."),
		sessionsEnded:     counters("sessions_ended_total", "code", "Sessions that ended, by the code of the reason; NONE where the coordinator ended it."),
		peers:             gauge("peers", "Coordinators of which the worker keeps parts and results: those with a session, and others for a lease time after it."),
		peersExpired:      counter("peers_expired_total", "Coordinators that were forgotten because they had no session for a lease time."),
		peersAnew:         counter("peers_anew_total", "Coordinators that were forgotten because both sides disagreed about which results were delivered."),
		partsHeld:         gauge("parts_held", "Parts that the worker holds: some rows have not ended, or the last result is not acknowledged."),
		partsReceived:     counter("parts_received_total", "Parts received and accepted."),
		partsRepeated:     counter("parts_repeated_total", "Parts that came a second time and were skipped."),
		creditsSent:       counter("credits_sent_total", "Messages that gave coordinators credit to send more rows of a flow."),
		rowsReturned:      counter("rows_returned_total", "Rows that were handed back to their coordinators before they began."),
		resultsSent:       counter("results_sent_total", "Results sent; a result that is sent twice counts twice."),
		resultsResent:     counter("results_resent_total", "Results sent again on a new session because the one before broke."),
		resultsKept:       gauge("results_kept", "Results that are not acknowledged yet."),
		definitions:       counters("definitions_total", "outcome", "Definitions compiled, by outcome: ready or rejected."),
		redefinitions:     counter("redefinitions_total", "Definitions that were compiled already, for an earlier session or another coordinator."),
		plans:             gauge("plans", "Compiled revisions of flows that are kept."),
		registered:        gauge("registered", "1 while the worker's record is in etcd, as far as the worker knows."),
		registrations:     counter("registrations_total", "Times that the worker put its record into etcd."),
		registrationsLost: counters("registrations_lost_total", "reason", "Times that the record was lost: gone when it was deleted, silent when etcd did not answer for a lease time."),
		draining:          gauge("draining", "1 while the worker drains."),
		taps:              gauge("taps", "Taps that are open: people who look at rows as they pass."),
	}
}

// register adds the metric that counts the lanes that wait for output memory to a Prometheus registry.
func (m *outputMemory) register(to prometheus.Registerer) {
	to.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kisgrid_worker_lanes_waiting",
		Help: "Lanes that wait to begin a run, until coordinators and clients have taken enough of the output of earlier runs.",
	}, func() float64 {
		m.mu.Lock()
		defer m.mu.Unlock()
		return float64(m.waiting)
	}))
}

// register adds the metric of the time that taps use to a Prometheus registry.
func (b *tapBudget) register(r prometheus.Registerer) {
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "kisgrid_worker_tap_seconds_total",
		Help: "Time that taps have used, in lanes and beside them; it grows by a hundredth of a second in each second at most.",
	}, func() float64 { return time.Duration(b.spent.Load()).Seconds() }))
}

// register adds the metrics of the budget to a Prometheus registry.
func (b *budget) register(r prometheus.Registerer) {
	gauge := func(name, help string, value func() int64) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kisgrid_worker_" + name, Help: help},
			func() float64 { return float64(value()) }))
	}
	gauge("rows_held", "Rows of the parts that the worker holds, without rows whose end is acknowledged.", func() int64 { return b.sums().held.rows })
	gauge("bytes_held", "Bytes of rows that have not ended, and of results that are not acknowledged.", func() int64 { return b.sums().held.bytes })
	gauge("rows_granted", "Rows that coordinators may still send.", func() int64 { s := b.sums(); return s.used.minus(s.held).rows })
	gauge("bytes_granted", "Bytes that coordinators may still send.", func() int64 { s := b.sums(); return s.used.minus(s.held).bytes })
	gauge("budget_rows", "Rows that the worker may hold or have granted.", func() int64 { return b.total.rows })
	gauge("budget_bytes", "Bytes that the worker may hold or have granted.", func() int64 { return b.total.bytes })
}
