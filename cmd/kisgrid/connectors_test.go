package main

import (
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

func keeps(r *kis.Registry) {
	r.Func("Keep", kis.Save(func(context.Context, kis.Writer, mark) error { return nil }))
}

// kept is the documents of flow Kept, which saves through the connector Shelf.
func kept(shelf string) string {
	return "kistype: flow\nflow_name: Kept\nstatus: 1\nshard_key: id\nflows:\n  - fname: Keep\n---\n" +
		"kistype: func\nfname: Keep\nfmode: Save\noption:\n  cname: Shelf\n---\n" +
		"kistype: conn\ncname: Shelf\ntype: redis\nkey: k\n" + shelf
}

// closedPort is an address at which no server listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A connector that can't be connected is degraded, for whatever reason. Its flow is active all the same. Every command and metric
// gives the same reason, until the connector is connected.
func TestDegraded(t *testing.T) {
	away, locked := closedPort(t), miniredis.RunT(t)
	locked.RequireAuth("right")
	file := filepath.Join(t.TempDir(), "password")
	for name, c := range map[string]struct {
		shelf string
		why   string
		mend  func(t *testing.T) // makes the store usable; nil means that another document does
	}{
		"unreachable":    {"addrs: " + away + "\n", "connection refused", nil},
		"wrong password": {"addrs: " + locked.Addr() + "\nparams:\n  password: wrong\n", "WRONGPASS", nil},
		"missing file":   {"addrs: ${REDIS_ADDR}\npassword_file: " + file + "\n", "no such file", func(t *testing.T) { t.Helper(); write(t, filepath.Dir(file), "password", "\n") }},
		"missing CA":     {"addrs: ${REDIS_ADDR}\nparams:\n  tls_ca: " + file + ".pem\n", "no such file", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := flowtest.Cluster(t, 1, flowtest.Register(keeps))
			w := g.Worker(0)
			out := runs(t, g, kept(c.shelf), []string{"apply", "-f", "-", "--wait", "1s"}, "flow Kept: active, taken by 1 of 1 workers", "connector Shelf: degraded on worker "+w.ID()+": ", c.why)
			if strings.Contains(out, "wrong\n") {
				t.Errorf("a secret is shown:\n%s", out)
			}
			fails(t, g, kept(c.shelf), []string{"apply", "-f", "-", "--wait", "0", "--require-connected"}, "nothing to change", "connector Shelf: degraded", c.why)
			runs(t, g, "", []string{"get", "connectors"}, "degraded")
			runs(t, g, "", []string{"get", "connector", "Shelf"}, "degraded on "+w.ID(), c.why)
			runs(t, g, "", []string{"get", "flows"}, "degraded")
			runs(t, g, "", []string{"get", "flow", "Kept"}, "degraded", "connector Shelf is degraded on worker "+w.ID(), c.why)
			runs(t, g, "", []string{"rollout", "status", "Kept"}, "flow Kept: active", "connector Shelf: degraded", c.why)
			if reasons := reasonsOf(t, g, w); len(reasons) != 1 || !strings.Contains(reasons[0], c.why) {
				t.Errorf("the metric says %q", reasons)
			}

			good := c.shelf
			if c.mend == nil {
				good = "addrs: ${REDIS_ADDR}\n"
			} else {
				c.mend(t)
			}
			out = runs(t, g, kept(good), []string{"apply", "-f", "-", "--wait", patience.String(), "--timeout", patience.String(), "--require-connected"}, "flow Kept: active")
			if strings.Contains(out, "degraded") {
				t.Errorf("once it is connected:\n%s", out)
			}
			if out := runs(t, g, "", []string{"get", "flow", "Kept"}, "active") + runs(t, g, "", []string{"get", "connectors"}); strings.Contains(out, "degraded") {
				t.Errorf("once it is connected:\n%s", out)
			}
			if reasons := reasonsOf(t, g, w); len(reasons) != 0 {
				t.Errorf("once it is connected the metric says %q", reasons)
			}
		})
	}
}

// startStore starts a Redis at an address. The end of the test closes it, if it is still open.
func startStore(t *testing.T, address string) *devcluster.Redis {
	t.Helper()
	store, err := devcluster.StartRedis(devcluster.RedisConfig{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// reasonsOf are the reasons why the connector Shelf is degraded on a worker, as the metric gives them.
func reasonsOf(t *testing.T, g *flowtest.Grid, w *flowtest.Node) (reasons []string) {
	t.Helper()
	families, err := g.Coordinator(0).Metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "kisgrid_connector_degraded" {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["connector"] == "Shelf" && labels["worker"] == w.ID() && m.GetGauge().GetValue() == 1 {
				reasons = append(reasons, labels["reason"])
			}
		}
	}
	return reasons
}

// A store that goes away later, and comes back, is noticed although no row runs. The wait for connectors ends with --timeout.
func TestDegradedLater(t *testing.T) {
	store := startStore(t, "127.0.0.1:0")
	address := store.Address()
	g := flowtest.Cluster(t, 2, flowtest.Register(keeps))
	runs(t, g, kept("addrs: "+address+"\n"), []string{"apply", "-f", "-", "--require-connected", "--wait", patience.String(), "--timeout", patience.String()}, "flow Kept: active, taken by 2 of 2 workers")
	degraded := func() bool {
		var flow struct {
			Status struct {
				State    string
				Degraded map[string]map[string]string
			}
		}
		out := runs(t, g, "", []string{"get", "flow", "Kept", "-o", "json"})
		if err := json.Unmarshal([]byte(out), &flow); err != nil {
			t.Fatal(err)
		}
		workers := len(flow.Status.Degraded["Shelf"])
		if (workers > 0) != (flow.Status.State == "degraded") {
			t.Errorf("the flow's status is %+v", flow.Status)
		}
		return workers == 2
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "both workers tell that it is away", degraded)
	runs(t, g, kept("addrs: "+address+"\n"), []string{"apply", "-f", "-", "--timeout", "3s", "--wait", "1h"}, "nothing to change", "flow Kept: active", "connector Shelf: degraded on worker "+g.Worker(0).ID(), "connector Shelf: degraded on worker "+g.Worker(1).ID())
	startStore(t, address)
	until(t, "both workers tell that it is back", func() bool {
		out := runs(t, g, "", []string{"get", "flow", "Kept"})
		return !strings.Contains(out, "degraded")
	})
}
