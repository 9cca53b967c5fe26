package admin

import (
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// TestLongEntries: a caller can't keep entries of the audit log out of etcd by one that is too large, and can't make entries as large as it
// likes.
func TestLongEntries(t *testing.T) {
	store := openStore(t, 0)
	a := NewAuditor(store, "c", hclog.NewNullLogger())
	a.record(t.Context(), "first", strings.Repeat("\xff\x00", 2<<20), strings.Repeat("f", 4<<20), "F")
	a.record(t.Context(), "last", "why", "F")
	waiting := a.gather(nil)
	if err := store.PutAudit(t.Context(), waiting...); err != nil {
		t.Fatal(err)
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
}
