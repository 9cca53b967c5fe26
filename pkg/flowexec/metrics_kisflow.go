package flowexec

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// KisFlowMetrics are KisFlow's metrics, under its names and with its labels, so that dashboards for KisFlow go on working. Totals are
// counters, and durations are in milliseconds. Metrics has metrics of KisGrid for nearly the same things, with durations in seconds.
type KisFlowMetrics struct {
	DataTotal             prometheus.Counter
	FlowDataTotal         *prometheus.CounterVec
	FlowScheduleCntsToTal *prometheus.CounterVec
	FuncScheduleCntsTotal *prometheus.CounterVec
	FunctionDuration      *prometheus.HistogramVec
	FlowDuration          *prometheus.HistogramVec
}

// newKisFlowMetrics makes the metrics. It does not register them.
func newKisFlowMetrics() KisFlowMetrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	milliseconds := []float64{0.005, 0.01, 0.03, 0.08, 0.1, 0.5, 1, 5, 10, 100, 1000, 5000, 30000, 60000}
	return KisFlowMetrics{
		DataTotal: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kisflow_data_total", Help: "Rows that all flows were run for.",
		}),
		FlowDataTotal:         counter("flow_data_total", "Rows that the flow was run for.", "flow_name"),
		FlowScheduleCntsToTal: counter("flow_schedule_cnts", "Runs of the flow.", "flow_name"),
		FuncScheduleCntsTotal: counter("func_schedule_cnts", "Runs of the function.", "func_name", "func_mode"),
		FunctionDuration: histogram("func_run_duration", "How long the function took for a run's rows, in milliseconds.",
			milliseconds[:13], "func_name", "func_mode"),
		FlowDuration: histogram("flow_run_duration", "How long the flow took for a run's rows, in milliseconds.", milliseconds, "flow_name"),
	}
}

// collectors returns all metrics, for NewMetrics to register.
func (m *KisFlowMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.DataTotal, m.FlowDataTotal, m.FlowScheduleCntsToTal, m.FuncScheduleCntsTotal, m.FunctionDuration, m.FlowDuration}
}

// milliseconds returns a duration in milliseconds, the unit of KisFlow's metrics.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
