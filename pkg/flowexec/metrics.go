package flowexec

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what lanes tell Prometheus. One Metrics serves all lanes of a process; nil tells nothing.
type Metrics struct {
	KisFlowMetrics
	flowSeconds *prometheus.HistogramVec
	seconds     *prometheus.HistogramVec
	rows        *prometheus.CounterVec
	parked      *prometheus.GaugeVec
	abandoned   prometheus.Gauge
}

// NewMetrics registers the metrics with r.
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

// Forget drops what is told of a flow that does not run here any more. No lanes of the flow may be running.
func (m *Metrics) Forget(flow string) {
	if m == nil {
		return
	}
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

// ForgetFunction drops what is told of a function in a flow that has it no more. elsewhere: other flows here have it.
func (m *Metrics) ForgetFunction(flow, function, mode string, elsewhere bool) {
	if m == nil {
		return
	}
	m.seconds.DeleteLabelValues(flow, function)
	m.rows.DeleteLabelValues(flow, function)
	if !elsewhere {
		m.FunctionDuration.DeleteLabelValues(function, mode)
		m.FuncScheduleCntsTotal.DeleteLabelValues(function, mode)
	}
}

// flowMetrics is one flow's share of the metrics, looked up once for its lanes.
type flowMetrics struct {
	seconds, milliseconds prometheus.Observer
	runs, rows, allRows   prometheus.Counter
	flow                  string
	parked                *prometheus.GaugeVec // nil where nothing is counted
}

func (m *Metrics) flow(flow string) flowMetrics {
	if m == nil {
		return flowMetrics{}
	}
	return flowMetrics{
		m.flowSeconds.WithLabelValues(flow), m.FlowDuration.WithLabelValues(flow),
		m.FlowScheduleCntsToTal.WithLabelValues(flow), m.FlowDataTotal.WithLabelValues(flow), m.DataTotal, flow, m.parked,
	}
}

// observe counts a run whose rows had not run before.
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

// functionMetrics is one function's share of the metrics, looked up once for a plan's step and lane.
type functionMetrics struct {
	seconds, milliseconds prometheus.Observer
	rows, runs            prometheus.Counter
}

func (m *Metrics) function(flow string, s *step) functionMetrics {
	if m == nil {
		return functionMetrics{}
	}
	mode := string(s.mode)
	return functionMetrics{
		m.seconds.WithLabelValues(flow, s.Name), m.FunctionDuration.WithLabelValues(s.Name, mode),
		m.rows.WithLabelValues(flow, s.Name), m.FuncScheduleCntsTotal.WithLabelValues(s.Name, mode),
	}
}

func (f functionMetrics) observe(rows int, took time.Duration) {
	if f.rows == nil {
		return
	}
	f.rows.Add(float64(rows))
	f.runs.Inc()
	f.seconds.Observe(took.Seconds())
	f.milliseconds.Observe(milliseconds(took))
}

// addParked counts rows that were set aside, or, if n is negative, rows that are not any more. A flow whose rows never wait has no such metric.
func (f flowMetrics) addParked(n int) {
	if f.parked != nil {
		f.parked.WithLabelValues(f.flow).Add(float64(n))
	}
}

func (m *Metrics) addAbandoned(n float64) {
	if m != nil {
		m.abandoned.Add(n)
	}
}
