package admin

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/pkg/cluster"
)

// TestLongEntries: a caller can't keep entries of the audit log out of etcd by one that is too large, and can't make entries as large as it
// likes.
func TestLongEntries(t *testing.T) {
	store := openStore(t, 0)
	a := NewAuditor(store, "c", hclog.NewNullLogger())
	a.record(t.Context(), "first", strings.Repeat("\xff\x00", 2<<20), strings.Repeat("f", 4<<20), "F")
	a.entries <- cluster.AuditEntry{At: time.Now(), Action: "huge", Detail: strings.Repeat("x", 4<<20)}
	a.record(t.Context(), "last", "why", "F")
	waiting := a.gather(nil)
	if len(waiting) != 3 {
		t.Fatalf("%d entries wait", len(waiting))
	}
	if left, err := a.put(t.Context(), waiting); err != nil || len(left) > 0 {
		t.Fatalf("%d entries are left: %v", len(left), err)
	}
	entries, err := store.Audit(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 || entries[0].Action != "first" || entries[1].Action != "last" {
		t.Fatalf("%d entries came to etcd", len(entries))
	}
	if e := entries[0]; len(e.Detail) > 2*auditText || len(e.Flows) > 0 {
		t.Errorf("the first entry has %d bytes of detail and %d flows", len(e.Detail), len(e.Flows))
	}
	if e := entries[1]; e.Detail != "why" || len(e.Flows) != 1 {
		t.Errorf("the last entry is %v", e)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(a.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if n := families[0].GetMetric()[0].GetCounter().GetValue(); n != 1 {
		t.Errorf("%v entries count as missed", n)
	}
}
