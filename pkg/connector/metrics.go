package connector

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics measure a process's connections, by connector name. A nil *Metrics measures nothing. Safe for concurrent use.
type Metrics struct {
	roundTrips *prometheus.HistogramVec
	up         *prometheus.GaugeVec
	waiting    *prometheus.GaugeVec
	risk       *prometheus.GaugeVec

	mu    sync.Mutex
	stand map[string]stand // by connector name; guarded by mu
}

// stand counts a connector's connections: those that are open or being opened, and of these those whose store does not answer.
type stand struct{ all, down int }

// NewMetrics makes the metrics and registers them, once per registerer; nil gives nil.
func NewMetrics(r prometheus.Registerer) *Metrics {
	if r == nil {
		return nil
	}
	m := &Metrics{
		stand: make(map[string]stand),
		roundTrips: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kisgrid_connector_round_trip_seconds",
			Help:    "Time of one round trip to a connector's store, whatever it carried and however it ended.",
			Buckets: prometheus.ExponentialBuckets(100e-6, 4, 9), // 100 µs to 6.5 s
		}, []string{"connector", "op"}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kisgrid_connector_up",
			Help: "1 while a connector's store answers, takes what is saved and lets keys be read; 0 while it does not. Only of connectors with a connection that is open or being opened.",
		}, []string{"connector"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kisgrid_connector_waiting_keys",
			Help: "Keys that somebody in this process waits for.",
		}, []string{"connector"}),
		risk: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kisgrid_connector_risk",
			Help: "Open connections to a store whose own settings may lose what flows saved, by risk: evicts, when it is full, or not_on_disk, when it restarts.",
		}, []string{"connector", "risk"}),
	}
	r.MustRegister(m.roundTrips, m.up, m.waiting, m.risk)
	return m
}

// RoundTrip records one round trip.
func (m *Metrics) RoundTrip(connector, op string, took time.Duration) {
	if m != nil {
		m.roundTrips.WithLabelValues(connector, op).Observe(took.Seconds())
	}
}

// Up records that so many more of a connector's connections are open or being opened, or fewer, and that the store of so many more
// of them does not answer. The connector is up while all of them answer. All that is told of a connector goes with its last
// connection: nobody needs it then, or its document was deleted.
func (m *Metrics) Up(connector string, more, down int) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stand[connector]
	s.all, s.down = s.all+more, s.down+down
	if s.all == 0 {
		delete(m.stand, connector)
		for _, metric := range []interface {
			DeletePartialMatch(labels prometheus.Labels) int
		}{m.roundTrips, m.up, m.waiting, m.risk} {
			metric.DeletePartialMatch(prometheus.Labels{"connector": connector})
		}
		return
	}
	m.stand[connector] = s
	m.up.WithLabelValues(connector).Set(number(s.down == 0))
}

// Risk records that so many more open connections are to a store whose settings may lose data in that way, or fewer.
func (m *Metrics) Risk(connector, risk string, more int) {
	if m != nil {
		m.risk.WithLabelValues(connector, risk).Add(float64(more))
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// Waiting records that so many more keys are waited for, or fewer.
func (m *Metrics) Waiting(connector string, more int) {
	if m != nil && more != 0 {
		m.waiting.WithLabelValues(connector).Add(float64(more))
	}
}
