// Package metrics counts what flows of KisFlow's programs do, under KisFlow's names and beside them under KisGrid's, and
// serves the counts to Prometheus.
package metrics

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/common"
	"github.com/kisgrid/kisgrid/pkg/kis/config"
	"github.com/kisgrid/kisgrid/pkg/kis/log"
)

// KisMetrics are the metrics of the flows of this process. Totals are counters; durations under KisFlow's names are
// milliseconds, those under KisGrid's seconds. Runs that fail are counted and timed too.
type KisMetrics struct {
	DataTotal             prometheus.Counter
	FlowDataTotal         *prometheus.CounterVec
	FlowScheduleCntsToTal *prometheus.CounterVec
	FuncScheduleCntsTotal *prometheus.CounterVec
	FunctionDuration      *prometheus.HistogramVec
	FlowDuration          *prometheus.HistogramVec

	rows      *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	functions *flowexec.Metrics
}

// Metrics are made by InitMetrics.
var Metrics *KisMetrics

var initialize = sync.OnceValue(func() error {
	m, err := newMetrics(prometheus.DefaultRegisterer)
	Metrics = m
	return err
})

func newMetrics(r prometheus.Registerer) (*KisMetrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	milliseconds := []float64{0.005, 0.01, 0.03, 0.08, 0.1, 0.5, 1, 5, 10, 100, 1000, 5000, 30000, 60000}
	m := &KisMetrics{
		DataTotal: prometheus.NewCounter(prometheus.CounterOpts{
			Name: common.CounterKisflowDataTotalName, Help: common.CounterKisflowDataTotalHelp,
		}),
		FlowDataTotal:         counter(common.GamgeFlowDataTotalName, common.GamgeFlowDataTotalHelp, common.LabelFlowName),
		FlowScheduleCntsToTal: counter(common.GangeFlowScheCntsName, common.GangeFlowScheCntsHelp, common.LabelFlowName),
		FuncScheduleCntsTotal: counter(common.GangeFuncScheCntsName, common.GangeFuncScheCntsHelp, common.LabelFunctionName, common.LabelFunctionMode),
		FunctionDuration: histogram(common.HistogramFunctionDurationName, common.HistogramFunctionDurationHelp, milliseconds[:13],
			common.LabelFunctionName, common.LabelFunctionMode),
		FlowDuration: histogram(common.HistogramFlowDurationName, common.HistogramFlowDurationHelp, milliseconds, common.LabelFlowName),
		rows:         counter("kisgrid_rows_ended_total", "Rows by how they ended.", "flow", "outcome"),
		seconds: histogram("kisgrid_flow_run_seconds", "How long a flow took for a run's rows, retries and waits included.",
			prometheus.ExponentialBuckets(16e-6, 4, 12), "flow"),
	}
	for _, c := range []prometheus.Collector{
		m.DataTotal, m.FlowDataTotal, m.FlowScheduleCntsToTal, m.FuncScheduleCntsTotal, m.FunctionDuration, m.FlowDuration, m.rows, m.seconds,
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	var err error
	if m.functions, err = flowexec.NewMetrics(r); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

// Current are the metrics to count with; nil while config.GlobalConfig has them off.
func Current() *KisMetrics {
	if !config.GlobalConfig.EnableProm || initialize() != nil {
		return nil
	}
	return Metrics
}

// Functions are what flowexec counts; nil for none.
func (m *KisMetrics) Functions() *flowexec.Metrics {
	if m == nil {
		return nil
	}
	return m.functions
}

// Ran counts a run of a flow that has ended.
func (m *KisMetrics) Ran(flow string, rows int, took time.Duration, notDone []batch.RowOutcome) {
	if m == nil {
		return
	}
	m.DataTotal.Add(float64(rows))
	m.FlowDataTotal.WithLabelValues(flow).Add(float64(rows))
	m.FlowScheduleCntsToTal.WithLabelValues(flow).Inc()
	m.FlowDuration.WithLabelValues(flow).Observe(milliseconds(took))
	m.seconds.WithLabelValues(flow).Observe(took.Seconds())
	m.rows.WithLabelValues(flow, batch.Done.String()).Add(float64(rows - len(notDone)))
	for _, o := range notDone {
		m.rows.WithLabelValues(flow, o.Outcome.String()).Inc()
	}
}

// Observed counts a run of a function.
func (m *KisMetrics) Observed(o flowexec.Observed) {
	if m == nil {
		return
	}
	m.FuncScheduleCntsTotal.WithLabelValues(o.Function, string(o.Mode)).Inc()
	m.FunctionDuration.WithLabelValues(o.Function, string(o.Mode)).Observe(milliseconds(o.Took))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// InitMetrics registers the metrics with Prometheus's default registry, once.
func InitMetrics() {
	if err := initialize(); err != nil {
		log.Logger().ErrorF("%v", err)
	}
}

// RunMetrics does what Start does, and tells the logger of an error.
func RunMetrics() {
	if err := Start(); err != nil {
		log.Logger().ErrorF("%v", err)
	}
}

var serving struct {
	mu      sync.Mutex
	address string // guarded by mu; "": not serving
}

// Start registers the metrics and, if config.GlobalConfig asks for that, serves them at its address in the background, until
// kis.Pool is closed. Once it serves, it does nothing for the same address, and refuses another.
func Start() error {
	g := config.GlobalConfig
	if !g.EnableProm {
		return nil
	}
	if err := initialize(); err != nil || !g.PrometheusListen {
		return err
	}
	serving.mu.Lock()
	defer serving.mu.Unlock()
	switch serving.address {
	case g.PrometheusServe:
		return nil
	case "":
	default:
		return fmt.Errorf("serve metrics at %s: they are served at %s: one address is enough for a process", g.PrometheusServe, serving.address)
	}
	listener, err := net.Listen("tcp", g.PrometheusServe)
	if err != nil {
		return fmt.Errorf("serve metrics at prometheus_serve %q: %w: free the port, or name another", g.PrometheusServe, err)
	}
	serving.address = g.PrometheusServe
	server := newServer()
	var background sync.WaitGroup
	background.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Logger().ErrorF("metrics are served no more: %v", err)
		}
	})
	kis.Pool().OnClose(func() error {
		err := server.Close()
		background.Wait()
		serving.mu.Lock()
		defer serving.mu.Unlock()
		serving.address = ""
		return err
	})
	return nil
}

// RunMetricsService serves the metrics at an address until that fails.
func RunMetricsService(address string) error {
	if err := initialize(); err != nil {
		return err
	}
	server := newServer()
	server.Addr = address
	return server.ListenAndServe()
}

func newServer() *http.Server {
	mux := http.NewServeMux()
	mux.Handle(common.MetricsRoute, promhttp.Handler())
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
}
