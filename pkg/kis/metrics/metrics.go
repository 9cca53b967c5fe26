// Package metrics counts the runs and rows of flows in KisFlow's manner, under KisFlow's names and under KisGrid's, and serves
// the counts to Prometheus.
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

// KisMetrics has the metrics of the flows of this process: those that a worker has, and the number of rows by outcome, which in a
// cluster the coordinator counts. Runs that fail are counted and timed too.
type KisMetrics struct {
	*flowexec.Metrics
	rows *prometheus.CounterVec
}

// Metrics has the metrics of this process. It is nil until InitMetrics, RunMetrics, Start, or a flow that runs with metrics on
// has made them, and stays nil if they can't be registered.
var Metrics *KisMetrics

// initialize makes Metrics and registers them with Prometheus's default registry, at the first call. Each call returns the error
// of the first.
var initialize = sync.OnceValue(func() error {
	m, err := newMetrics(prometheus.DefaultRegisterer)
	Metrics = m
	return err
})

// newMetrics makes metrics and registers them with r.
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

// Current returns the metrics to count with. It returns nil if config.GlobalConfig has metrics off, or if they can't be
// registered.
func Current() *KisMetrics {
	if !config.GlobalConfig.EnableProm || initialize() != nil {
		return nil
	}
	return Metrics
}

// Lanes returns those metrics that package flowexec counts. For a nil KisMetrics it returns nil.
func (m *KisMetrics) Lanes() *flowexec.Metrics {
	if m == nil {
		return nil
	}
	return m.Metrics
}

// Ended counts the rows of a run of a flow by their outcomes. rows is the number of all rows; notDone has the outcomes of those
// that are not done. For a nil KisMetrics it does nothing.
func (m *KisMetrics) Ended(flow string, rows int, notDone []batch.RowOutcome) {
	if m == nil {
		return
	}
	m.rows.WithLabelValues(flow, batch.Done.String()).Add(float64(rows - len(notDone)))
	for _, o := range notDone {
		m.rows.WithLabelValues(flow, o.Outcome.String()).Inc()
	}
}

// InitMetrics makes the metrics, and registers them with Prometheus's default registry. Later calls do nothing. An error goes to
// the log.
func InitMetrics() {
	if err := initialize(); err != nil {
		log.Logger().ErrorF("%v", err)
	}
}

// RunMetrics does the same as Start, and logs its error.
func RunMetrics() {
	if err := Start(); err != nil {
		log.Logger().ErrorF("%v", err)
	}
}

// serving has the address of the server that Start started.
var serving struct {
	mu      sync.Mutex
	address string // "" means not serving; guarded by mu
}

// Start registers the metrics if config.GlobalConfig has them on. If it also asks for a server, Start serves the metrics at its
// address, in the background, until kis.Pool is closed. Once a server runs, Start does nothing for the same address, and returns
// an error for another one.
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
		return fmt.Errorf("serve metrics at %s: they are served at %s already: use that address", g.PrometheusServe, serving.address)
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
			log.Logger().ErrorF("the server of the metrics has stopped: %v", err)
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

// RunMetricsService serves the metrics at an address. It blocks until the server fails, and returns the error.
func RunMetricsService(address string) error {
	if err := initialize(); err != nil {
		return err
	}
	server := newServer()
	server.Addr = address
	return server.ListenAndServe()
}

// newServer makes an HTTP server that serves the metrics at common.MetricsRoute. The caller starts it.
func newServer() *http.Server {
	mux := http.NewServeMux()
	mux.Handle(common.MetricsRoute, promhttp.Handler())
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
}
