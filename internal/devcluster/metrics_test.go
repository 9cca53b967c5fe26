package devcluster_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/worker"
)

// TestMetricsPage compares docs/metrics.md with what a coordinator and a worker register.
func TestMetricsPage(t *testing.T) {
	store, err := cluster.Open(cluster.Config{Endpoints: []string{"127.0.0.1:1"}}) // nobody is there
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	listener, err := transport.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	c, err := coordinator.New(coordinator.Config{Store: store, Listener: listener, Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }() // who collects asks its loop
	defer func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()
	w, err := worker.New(worker.Config{Registry: kis.NewRegistry(), Name: "w"})
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	coordinators, workers, found := strings.Cut(string(page), "\n## Worker\n")
	if !found {
		t.Fatal("docs/metrics.md has no section on workers")
	}
	compareMetrics(t, coordinators, registry)
	compareMetrics(t, workers, w.Metrics())
}

// metric is what is known of one: its labels and its help text, and its type where a series exists.
type metric struct{ labels, meaning, kind string }

func compareMetrics(t *testing.T, page string, exported prometheus.Gatherer) {
	t.Helper()
	known := registered(t, exported)
	row := regexp.MustCompile("(?m)^\\| `(kisgrid_[a-z_]+)` \\| (\\w+) \\| ([^|]+) \\|([^|]*)\\| (.*) \\|$")
	documented := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(page, -1) {
		name, kind, unit, labels, meaning := m[1], m[2], m[3], strings.ReplaceAll(strings.TrimSpace(m[4]), " ", ""), m[5]
		documented[name] = true
		is, there := known[name]
		switch {
		case !there:
			t.Errorf("%s is documented, and nobody exports it", name)
			continue
		case is.labels != labels:
			t.Errorf("%s has the labels %q, documented are %q", name, is.labels, labels)
		case is.meaning != meaning:
			t.Errorf("%s says of itself %q, documented is %q", name, is.meaning, meaning)
		case is.kind != "" && is.kind != kind:
			t.Errorf("%s is a %s, documented as a %s", name, is.kind, kind)
		}
		if strings.HasSuffix(name, "_total") != (kind == "counter") {
			t.Errorf("%s is documented as a %s: counters, and they only, end in _total", name, kind)
		}
		for _, base := range []string{"seconds", "bytes"} {
			if strings.HasSuffix(name, "_"+base) && unit != base {
				t.Errorf("%s is documented in %s", name, unit)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if !documented[name] {
			t.Errorf("%s (%+v) is not documented", name, known[name])
		}
	}
}

// registered are the metrics of ours in a registry, those without a series included.
func registered(t *testing.T, from prometheus.Gatherer) map[string]metric {
	t.Helper()
	registry, ok := from.(prometheus.Collector)
	if !ok {
		t.Fatalf("%T does not tell what is registered", from)
	}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		registry.Describe(descriptions)
	}()
	shape := regexp.MustCompile(`^Desc\{fqName: "(.*)", help: "(.*)", constLabels: \{\}, variableLabels: \{(.*)\}\}$`)
	all := map[string]metric{}
	for d := range descriptions {
		if text := d.String(); strings.Contains(text, `fqName: "go_`) || strings.Contains(text, `fqName: "process_`) {
			continue
		}
		m := shape.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("can't read %s", d)
		}
		all[m[1]] = metric{labels: m[3], meaning: m[2]}
	}
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if m, ours := all[f.GetName()]; ours {
			m.kind = strings.ToLower(fmt.Sprint(f.GetType()))
			all[f.GetName()] = m
		}
	}
	return all
}
