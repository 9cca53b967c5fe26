package connector_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/pkg/connector"
)

// ups are what the metrics show of connectors, each up or not.
func ups(t *testing.T, r *prometheus.Registry) (all []float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "kisgrid_connector_up" {
			for _, m := range f.GetMetric() {
				all = append(all, m.GetGauge().GetValue())
			}
		}
	}
	return all
}

// A connector is up while all its connections are, and shows no longer than it has any.
func TestMetricsOfConnections(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := connector.NewMetrics(registry)
	for i, step := range []struct {
		more, down int
		want       []float64
	}{{1, 0, []float64{1}}, {1, 1, []float64{0}}, {0, 1, []float64{0}}, {0, -1, []float64{0}}, {-1, -1, []float64{1}}, {-1, 0, nil}, {1, 1, []float64{0}}, {-1, -1, nil}} {
		m.Up("c", step.more, step.down)
		if up := ups(t, registry); !slices.Equal(up, step.want) {
			t.Errorf("after step %d: %v, want %v", i, up, step.want)
		}
	}
}

// All that is told of a connector goes with its last connection.
func TestMetricsGoWithTheirConnections(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := connector.NewMetrics(registry)
	for _, name := range []string{"gone", "there"} {
		m.Up(name, 2, 0)
		m.RoundTrip(name, "save", time.Second)
		m.Risk(name, "evicts", 1)
		m.Waiting(name, 2)
		m.Waiting(name, -2)
		m.Risk(name, "evicts", -1)
		m.Up(name, -1, 0)
	}
	m.Up("gone", -1, 0)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 4 {
		t.Errorf("told are %v, want four metrics of the connector that is there", families)
	}
	if strings.Contains(fmt.Sprint(families), "gone") {
		t.Errorf("told are %v, although no connection is left", families)
	}
}
