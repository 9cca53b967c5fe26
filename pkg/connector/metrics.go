package connector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics measure a process's connections, by connector name. A nil *Metrics measures nothing. Safe for concurrent use.
type Metrics struct {
	roundTrips *prometheus.HistogramVec
	up         *prometheus.GaugeVec
	waiting    *prometheus.GaugeVec
}

// NewMetrics makes the metrics and registers them, once per registerer; nil gives nil.
func NewMetrics(r prometheus.Registerer) *Metrics {
	if r == nil {
		return nil
	}
	m := &Metrics{
		roundTrips: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kisgrid_connector_round_trip_seconds",
			Help:    "Time of one round trip to a connector's store, whatever it carried and however it ended.",
			Buckets: prometheus.ExponentialBuckets(100e-6, 4, 9), // 100 µs to 6.5 s
		}, []string{"connector", "op"}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kisgrid_connector_up",
			Help: "1 while a connector's store answers, 0 while it does not.",
		}, []string{"connector"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kisgrid_connector_waiting_keys",
			Help: "Keys that somebody in this process waits for.",
		}, []string{"connector"}),
	}
	r.MustRegister(m.roundTrips, m.up, m.waiting)
	return m
}

// RoundTrip records one round trip.
func (m *Metrics) RoundTrip(connector, op string, took time.Duration) {
	if m != nil {
		m.roundTrips.WithLabelValues(connector, op).Observe(took.Seconds())
	}
}

// Up records whether the store answers.
func (m *Metrics) Up(connector string, up bool) {
	if m == nil {
		return
	}
	value := 0.0
	if up {
		value = 1
	}
	m.up.WithLabelValues(connector).Set(value)
}

// Waiting records that so many more keys are waited for, or fewer.
func (m *Metrics) Waiting(connector string, more int) {
	if m != nil && more != 0 {
		m.waiting.WithLabelValues(connector).Add(float64(more))
	}
}
