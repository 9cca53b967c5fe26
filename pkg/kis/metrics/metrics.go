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

// KisMetrics are the metrics of the flows of this process, as a worker has them, and beside them what a coordinator counts:
// rows by how they ended. Runs that fail are counted and timed too.
type KisMetrics struct {
	*flowexec.Metrics
	rows *prometheus.CounterVec
}

// Metrics are made by InitMetrics.
var Metrics *KisMetrics

var initialize = sync.OnceValue(func() error {
	m, err := newMetrics(prometheus.DefaultRegisterer)
	Metrics = m
	return err
})

func newMetrics(r prometheus.Registerer) (*KisMetrics, error) {
	m := &KisMetrics{rows: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kisgrid_rows_ended_total", Help: "Rows by how they ended.",
	}, []string{"flow", "outcome"})}
	err := r.Register(m.rows)
	if err == nil {
		m.Metrics, err = flowexec.NewMetrics(r)
	}
	if err != nil {
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

// Lanes are what flowexec counts; nil for none.
func (m *KisMetrics) Lanes() *flowexec.Metrics {
	if m == nil {
		return nil
	}
	return m.Metrics
}

// Ended counts the rows of a run of a flow.
func (m *KisMetrics) Ended(flow string, rows int, notDone []batch.RowOutcome) {
	if m == nil {
		return
	}
	m.rows.WithLabelValues(flow, batch.Done.String()).Add(float64(rows - len(notDone)))
	for _, o := range notDone {
		m.rows.WithLabelValues(flow, o.Outcome.String()).Inc()
	}
}

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
