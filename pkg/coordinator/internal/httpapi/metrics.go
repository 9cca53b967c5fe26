package httpapi

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Values of the label call: what a request asks for. Paths are no labels, because clients choose them.
const (
	callRows  = "rows"  // submits rows
	callAdmin = "admin" // a call of the command line
	callOther = "other" // anything else, and requests that are refused because there are too many connections
)

// metrics counts the requests of the API.
type metrics struct {
	requests *prometheus.CounterVec
	inFlight *prometheus.GaugeVec
}

// newMetrics makes the metrics, with a series for the good requests of each call.
func newMetrics() metrics {
	m := metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kisgrid_http_requests_total",
			Help: "Requests of the HTTP API that have ended, by the status of their answer.",
		}, []string{"call", "status"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kisgrid_http_requests_in_flight",
			Help: "Requests of the HTTP API under way.",
		}, []string{"call"}),
	}
	for _, call := range []string{callRows, callAdmin, callOther} {
		m.requests.WithLabelValues(call, "200")
		m.inFlight.WithLabelValues(call)
	}
	return m
}

// Collectors returns the API's metrics, for a registry.
func (a *API) Collectors() []prometheus.Collector {
	return []prometheus.Collector{a.metrics.requests, a.metrics.inFlight}
}

// begin counts a request as under way. The handler must write its answer to the result, and call end once at the end.
func (m *metrics) begin(w http.ResponseWriter, r *http.Request) (noted http.ResponseWriter, end func()) {
	call := callOther
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, "/v1/flows/") && strings.HasSuffix(path, "/rows"):
		call = callRows
	case strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/kisgrid.v1."):
		call = callAdmin
	}
	under := m.inFlight.WithLabelValues(call)
	under.Inc()
	writer := &statusWriter{ResponseWriter: w}
	return writer, func() {
		under.Dec()
		m.requests.WithLabelValues(call, strconv.FormatInt(cmp.Or(writer.status.Load(), http.StatusOK), 10)).Inc()
	}
}

// statusWriter is a ResponseWriter that notes the status of the answer.
type statusWriter struct {
	http.ResponseWriter
	status atomic.Int64 // 0 until something was written
}

// WriteHeader writes the status.
func (s *statusWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		s.status.CompareAndSwap(0, int64(status))
	}
	s.ResponseWriter.WriteHeader(status)
}

// Write writes a piece of the answer.
func (s *statusWriter) Write(b []byte) (int, error) {
	s.status.CompareAndSwap(0, http.StatusOK)
	return s.ResponseWriter.Write(b)
}

// Unwrap returns the ResponseWriter below, for http.ResponseController.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
