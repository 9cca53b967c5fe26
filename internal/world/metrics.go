package world

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"github.com/kisgrid/kisgrid/internal/world/history"
)

// gather reads the metrics of KisGrid from a process. Histograms give their count and their sum. When only is not empty, only metrics
// whose names begin with one of its texts are taken.
func gather(from prometheus.Gatherer, only ...string) ([]history.Sample, error) {
	if registry, is := from.(*prometheus.Registry); is {
		// These read the real process, which differs from one life of a scenario to the next, down to the memory that the reading takes.
		registry.Unregister(collectors.NewGoCollector())
		registry.Unregister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	families, err := from.Gather()
	var samples []history.Sample
	for _, f := range families {
		if !wanted(f.GetName(), only) {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := make(map[string]string, len(m.GetLabel()))
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				samples = append(samples, history.Sample{Name: f.GetName(), Labels: labels, Value: m.GetCounter().GetValue()})
			case dto.MetricType_GAUGE:
				samples = append(samples, history.Sample{Name: f.GetName(), Labels: labels, Value: m.GetGauge().GetValue()})
			case dto.MetricType_HISTOGRAM:
				samples = append(samples,
					history.Sample{Name: f.GetName() + "_count", Labels: labels, Value: float64(m.GetHistogram().GetSampleCount())},
					history.Sample{Name: f.GetName() + "_sum", Labels: labels, Value: m.GetHistogram().GetSampleSum()})
			}
		}
	}
	return samples, err
}

// wanted reports whether a metric is of KisGrid, and its name begins with one of the texts, where there are any.
func wanted(name string, only []string) bool {
	if !strings.HasPrefix(name, "kisgrid_") {
		return false
	}
	for _, prefix := range only {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return len(only) == 0
}
