package connector

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics measure the connections of a process, by connector name. A nil *Metrics measures nothing. Metrics are safe for
// concurrent use.
type Metrics struct {
	roundTrips *prometheus.HistogramVec
	up         *prometheus.GaugeVec
	waiting    *prometheus.GaugeVec
	risk       *prometheus.GaugeVec

	mu     sync.Mutex
	counts map[string]connCounts // by connector name; guarded by mu
}

// connCounts counts the connections of a connector that are open or being opened, and those of them whose store can't be used.
type connCounts struct{ all, down int }

// NewMetrics makes the metrics and registers them with r. Call it once for each r: a second call panics. For a nil r it returns
// nil.
func NewMetrics(r prometheus.Registerer) *Metrics {
	if r == nil {
		return nil
	}
	m := &Metrics{
		counts: make(map[string]connCounts),
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

// RoundTrip records how long one round trip of a connector to its store took. op names the kind of the trip, such as "save".
func (m *Metrics) RoundTrip(connector, op string, took time.Duration) {
	if m != nil {
		m.roundTrips.WithLabelValues(connector, op).Observe(took.Seconds())
	}
}

// Up adds more to the number of a connector's connections that are open or being opened, and down to the number of those whose
// store can't be used. Both may be negative. The connector is up while the second number is 0. When its last connection goes,
// its metrics are removed: nobody needs the connector then, or its document was deleted.
func (m *Metrics) Up(connector string, more, down int) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.counts[connector]
	s.all, s.down = s.all+more, s.down+down
	if s.all == 0 {
		delete(m.counts, connector)
		for _, metric := range []interface {
			DeletePartialMatch(labels prometheus.Labels) int
		}{m.roundTrips, m.up, m.waiting, m.risk} {
			metric.DeletePartialMatch(prometheus.Labels{"connector": connector})
		}
		return
	}
	m.counts[connector] = s
	m.up.WithLabelValues(connector).Set(number(s.down == 0))
}

// Risk adds more, which may be negative, to the number of a connector's open connections whose store may lose data. risk names
// the reason, as the label of the metric kisgrid_connector_risk does.
func (m *Metrics) Risk(connector, risk string, more int) {
	if m != nil {
		m.risk.WithLabelValues(connector, risk).Add(float64(more))
	}
}

// number returns 1 for true and 0 for false.
func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// Waiting adds more, which may be negative, to the number of a connector's keys for which somebody in this process waits.
func (m *Metrics) Waiting(connector string, more int) {
	if m != nil && more != 0 {
		m.waiting.WithLabelValues(connector).Add(float64(more))
	}
}
