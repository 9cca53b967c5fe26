package flowexec

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics has the Prometheus metrics of lanes and functions. One Metrics serves all lanes of a process. The methods may be called on a nil
// *Metrics: then they do nothing.
type Metrics struct {
	KisFlowMetrics
	flowSeconds *prometheus.HistogramVec
	seconds     *prometheus.HistogramVec
	rows        *prometheus.CounterVec
	parked      *prometheus.GaugeVec
	abandoned   prometheus.Gauge
	totals      totals
}

// NewMetrics makes the metrics and registers them with r. It returns the error of the first metric that can't be registered, such as one
// that is registered already.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		KisFlowMetrics: newKisFlowMetrics(),
		flowSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kisgrid_flow_run_seconds",
			Help:    "How long a flow took for the rows of one run, until they ended or were set aside.",
			Buckets: prometheus.ExponentialBuckets(16e-6, 4, 12),
		}, []string{"flow"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kisgrid_function_run_seconds",
			Help:    "How long a function took for the rows of one run, retries and waits included.",
			Buckets: prometheus.ExponentialBuckets(16e-6, 4, 12),
		}, []string{"flow", "function"}),
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kisgrid_function_rows_total",
			Help: "Rows that entered a function.",
		}, []string{"flow", "function"}),
		parked: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kisgrid_lane_parked_rows",
			Help: "Rows set aside, with what is behind them, until a retry is due or a Load's key is saved.",
		}, []string{"flow"}),
		abandoned: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kisgrid_lane_abandoned",
			Help: "Goroutines given up because their function ignored its timeout, and still running.",
		}),
	}
	for _, c := range append(m.collectors(), m.flowSeconds, m.seconds, m.rows, m.parked, m.abandoned) {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Forget deletes the metrics of a flow that does not run in this process any more. No lanes of the flow may be running.
func (m *Metrics) Forget(flow string) {
	if m == nil {
		return
	}
	m.totals.forget(flow, "")
	for label, all := range map[string][]interface {
		DeletePartialMatch(labels prometheus.Labels) int
	}{
		"flow":      {m.flowSeconds, m.seconds, m.rows, m.parked},
		"flow_name": {m.FlowDataTotal, m.FlowScheduleCntsToTal, m.FlowDuration},
	} {
		for _, metric := range all {
			metric.DeletePartialMatch(prometheus.Labels{label: flow})
		}
	}
}

// ForgetFunction deletes the metrics of a function in a flow that does not use it any more. elsewhere says that other flows of this process
// use the function: then its metrics under KisFlow's names, which are not by flow, stay. mode is the function's mode.
func (m *Metrics) ForgetFunction(flow, function, mode string, elsewhere bool) {
	if m == nil {
		return
	}
	m.seconds.DeleteLabelValues(flow, function)
	m.rows.DeleteLabelValues(flow, function)
	m.totals.forget(flow, function)
	if !elsewhere {
		m.FunctionDuration.DeleteLabelValues(function, mode)
		m.FuncScheduleCntsTotal.DeleteLabelValues(function, mode)
	}
}

// flowMetrics is the metrics of one flow, looked up once for its lanes. The zero value counts nothing.
type flowMetrics struct {
	seconds, milliseconds prometheus.Observer
	runs, rows, allRows   prometheus.Counter
	flow                  string
	// parked is nil if nothing is counted.
	parked *prometheus.GaugeVec
	// waiting counts the rows that are parked or rest, for Lanes.Waiting. The lanes of one Lanes share it. nil means that
	// nothing is counted.
	waiting *atomic.Int64
}

// flow returns the metrics of a flow.
func (m *Metrics) flow(flow string) flowMetrics {
	if m == nil {
		return flowMetrics{waiting: new(atomic.Int64)}
	}
	return flowMetrics{
		m.flowSeconds.WithLabelValues(flow), m.FlowDuration.WithLabelValues(flow),
		m.FlowScheduleCntsToTal.WithLabelValues(flow), m.FlowDataTotal.WithLabelValues(flow), m.DataTotal, flow, m.parked, new(atomic.Int64),
	}
}

// observe counts a run that has ended and the rows that it began with. It is not called for runs of rows that were parked, which were
// counted before.
func (f flowMetrics) observe(rows int, took time.Duration) {
	if f.runs == nil {
		return
	}
	f.runs.Inc()
	f.rows.Add(float64(rows))
	f.allRows.Add(float64(rows))
	f.seconds.Observe(took.Seconds())
	f.milliseconds.Observe(milliseconds(took))
}

// functionMetrics is the metrics of one function, looked up once for a step of a plan in a lane. The zero value counts nothing.
type functionMetrics struct {
	seconds, milliseconds prometheus.Observer
	rows, runs            prometheus.Counter
	totals                *functionCounts
}

// function returns the metrics of a step's function in a flow.
func (m *Metrics) function(flow string, s *step) functionMetrics {
	if m == nil {
		return functionMetrics{}
	}
	mode := string(s.mode)
	return functionMetrics{
		m.seconds.WithLabelValues(flow, s.Name), m.FunctionDuration.WithLabelValues(s.Name, mode),
		m.rows.WithLabelValues(flow, s.Name), m.FuncScheduleCntsTotal.WithLabelValues(s.Name, mode),
		m.totals.of(flow, s.Name),
	}
}

// observe counts the rows of a run that entered the function, and the time that it took for all of them.
func (f functionMetrics) observe(rows int, took time.Duration) {
	if f.rows == nil {
		return
	}
	f.rows.Add(float64(rows))
	f.runs.Inc()
	f.seconds.Observe(took.Seconds())
	f.milliseconds.Observe(milliseconds(took))
	f.totals.observe(rows, took)
}

// addParked adds n to the number of rows that are parked or rest. n is negative when rows go on or are given back. The metric of a flow
// appears when its first row waits.
func (f flowMetrics) addParked(n int) {
	if f.waiting != nil {
		f.waiting.Add(int64(n))
	}
	if f.parked != nil {
		f.parked.WithLabelValues(f.flow).Add(float64(n))
	}
}

// addAbandoned adds n to the number of abandoned goroutines that still run. n is negative when they have ended after all.
func (m *Metrics) addAbandoned(n float64) {
	if m != nil {
		m.abandoned.Add(n)
	}
}
