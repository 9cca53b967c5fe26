package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
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
	lead, err := store.Campaign(t.Context(), "c", 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := lead.BeginAudit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
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
	var more []cluster.AuditEntry // too many, and too large, for two transactions
	for i := range 2 * most {
		more = append(more, cluster.AuditEntry{At: begin.Add(time.Duration(10 + i)), Author: "x", Action: fmt.Sprint(i), Detail: strings.Repeat("x", 200<<10)})
	}
	for _, some := range [][]cluster.AuditEntry{nil, more} {
		if err := store.PutAudit(t.Context(), some...); err != nil {
			t.Fatal(err)
		}
	}
	if err := lead.TrimAudit(t.Context(), 5, time.Hour, map[int64]bool{changes[0]: true, changes[1]: true}); err != nil {
		t.Fatal(err)
	}
	entries, err = store.Audit(t.Context(), 0)
	if err != nil || len(entries) != 7 || entries[0].Revision != changes[0] || entries[1].Revision != changes[1] || entries[2].Action != "15" || entries[6].Action != "19" {
		t.Errorf("after trimming the log is %v, %v", entries, err)
	}
	if err := lead.TrimAudit(t.Context(), 5, -time.Hour, nil); err != nil {
		t.Fatal(err)
	}
	if entries, err = store.Audit(t.Context(), 0); err != nil || len(entries) != 0 {
		t.Errorf("after trimming by age the log is %v, %v", entries, err)
	}
	if err := lead.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// testAnnounced makes changes of as many documents as one transaction takes, so that their entries are announced. Some end after the
// announcement, or after the change, as those of a coordinator that crashes: the change has an author at each moment. A change that is refused
// leaves no entry, and the leader moves old announcements to the log.
func testAnnounced(t *testing.T, s *server) {
	const most = 10
	store := s.open(t, cluster.Config{MaxOperations: most})
	lead, err := store.Campaign(t.Context(), "c", 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := lead.BeginAudit(t.Context()); err != nil {
		t.Fatal(err)
	}
	full := func(text string) (docs []definition.Document) {
		for i := range most {
			docs = append(docs, document(definition.KindFlow, fmt.Sprintf("A%d", i), text))
		}
		return docs
	}
	begin := time.Now().Add(-2 * time.Hour)
	entry := func(author string, after time.Duration) cluster.AuditEntry {
		return cluster.AuditEntry{At: begin.Add(after), Author: author, Action: "apply", Coordinator: "c"}
	}
	// look compares the log with entries in the form "author revision announced".
	look := func(when string, want ...string) {
		t.Helper()
		entries, err := store.Audit(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, fmt.Sprint(e.Author, " ", e.Revision, " ", e.Announced != nil))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s, the log has %q, want %q", when, got, want)
		}
	}
	author := func(revision int64, want string) {
		t.Helper()
		if got, err := store.Authors(t.Context(), revision); err != nil || got[revision] != want {
			t.Errorf("the author of revision %d is %v, %v, want %s", revision, got, err, want)
		}
	}

	first, failed, err := store.ChangeDocuments(t.Context(), nil, full("first"), nil, entry("ann", 0))
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	ann := fmt.Sprint("ann ", first, " false")
	look("after a change", ann)
	if _, _, err := store.ChangeDocuments(t.Context(), map[cluster.Key]int64{{Kind: definition.KindFlow, Name: "A0"}: 0}, full("refused"), nil, entry("bob", 1)); batch.CodeOf(err) != batch.CodeConflict {
		t.Fatal(err)
	}
	look("after a conflict", ann)

	// The texts of a direct change are not those that are announced.
	if err := store.Announce(t.Context(), entry("cat", 2), full("second"), nil); err != nil {
		t.Fatal(err)
	}
	look("before an announced change", ann, "cat 0 true")
	direct, err := store.PutDocuments(t.Context(), nil, full("direct")[:1], nil)
	if err != nil {
		t.Fatal(err)
	}
	author(direct, cluster.UnknownAuthor)
	second, err := store.PutDocuments(t.Context(), nil, full("second"), nil)
	if err != nil {
		t.Fatal(err)
	}
	author(second, "cat")
	look("after an announced change", ann, fmt.Sprint("cat ", second, " true"))

	var names []cluster.Key
	for _, d := range full("") {
		names = append(names, cluster.Key{Kind: d.Kind, Name: d.Name})
	}
	if err := store.Announce(t.Context(), entry("dan", 3), nil, names); err != nil {
		t.Fatal(err)
	}
	if err := store.Announce(t.Context(), entry("eve", 2*time.Hour), full("third"), nil); err != nil {
		t.Fatal(err)
	}
	look("before a deletion", ann, fmt.Sprint("cat ", second, " true"), "dan 0 true", "eve 0 true")
	entries, err := store.Audit(t.Context(), second)
	if err != nil || len(entries) != 3 || !entries[1].Deletes(names[most-1]) || entries[1].Deletes(cluster.Key{Kind: definition.KindFlow, Name: "B"}) || entries[2].Deletes(names[0]) {
		t.Errorf("the log has %v, %v", entries, err)
	}
	if err := lead.TrimAudit(t.Context(), 100, 24*time.Hour, nil); err != nil {
		t.Fatal(err)
	}
	entries, err = store.Audit(t.Context(), 0)
	if err != nil || len(entries) != 4 || entries[1].Announced != nil || entries[1].Revision != second || entries[2].Announced != nil || !strings.Contains(entries[2].Detail, "not known") || entries[3].Announced == nil {
		t.Errorf("after an hour the log has %v, %v", entries, err)
	}
	if err := lead.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
}
