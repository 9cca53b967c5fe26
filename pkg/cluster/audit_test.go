package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// testAudit writes changes with entries of the audit log: as many documents as one transaction takes, one less, and none. It then trims the
// log.
func testAudit(t *testing.T, s *server) {
	const most = 10
	store := s.open(t, cluster.Config{MaxOperations: most})
	early, err := store.PutDocuments(t.Context(), nil, []definition.Document{document(definition.KindFlow, "Early", "a")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	var changes []int64
	for round, n := range []int{most - 1, most} {
		var docs []definition.Document
		for i := range n {
			docs = append(docs, document(definition.KindFlow, fmt.Sprintf("F%d", i), fmt.Sprint(round)))
		}
		revision, failed, err := store.ChangeDocuments(t.Context(), nil, docs, nil, cluster.AuditEntry{At: begin.Add(time.Duration(round)), Author: fmt.Sprint("author ", round), Action: "apply", Coordinator: "c"})
		if err != nil || failed != nil {
			t.Fatal(err, failed)
		}
		changes = append(changes, revision)
	}
	unknown, err := store.PutDocuments(t.Context(), nil, []definition.Document{document(definition.KindFlow, "Late", "a")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	authors, err := store.Authors(t.Context(), early, changes[0], changes[1], unknown)
	if err != nil || authors[changes[0]] != "author 0" || authors[changes[1]] != "author 1" || authors[unknown] != cluster.UnknownAuthor || authors[early] != "" {
		t.Errorf("the authors are %v, %v", authors, err)
	}
	entries, err := store.Audit(t.Context(), 0)
	if err != nil || len(entries) != 2 || entries[0].Revision != changes[0] || entries[1].Revision != changes[1] || len(entries[1].Documents) != most {
		t.Fatalf("the log is %v, %v", entries, err)
	}
	for i := range 20 {
		if err := store.PutAudit(t.Context(), cluster.AuditEntry{At: begin.Add(time.Duration(10 + i)), Author: "x", Action: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	lead, err := store.Campaign(t.Context(), "c", 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := lead.TrimAudit(t.Context(), 5, time.Hour); err != nil {
		t.Fatal(err)
	}
	entries, err = store.Audit(t.Context(), 0)
	if err != nil || len(entries) != 5 || entries[0].Action != "15" || entries[4].Action != "19" {
		t.Errorf("after trimming the log is %v, %v", entries, err)
	}
	if err := lead.TrimAudit(t.Context(), 5, -time.Hour); err != nil {
		t.Fatal(err)
	}
	if entries, err = store.Audit(t.Context(), 0); err != nil || len(entries) != 0 {
		t.Errorf("after trimming by age the log is %v, %v", entries, err)
	}
	if err := lead.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
}
