package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/flowtest"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// refuses registers the function Check, which fails on rows with a negative id.
func refuses(r *kis.Registry) {
	r.Func("Check", kis.Verify(func(_ context.Context, m mark) error {
		if m.ID < 0 {
			return fmt.Errorf("the id %d is below zero", m.ID)
		}
		return nil
	}))
}

// TestLettersFound finds letters of a cluster by their contents, and redrives some of them slowly.
func TestLettersFound(t *testing.T) {
	g := flowtest.Cluster(t, 1, flowtest.Register(refuses))
	runs(t, g, marks([]string{"Check"}), []string{"apply", "-f", "-"}, "active")
	dir := t.TempDir()
	rows, outcomes := filepath.Join(dir, "rows.ndjson"), filepath.Join(dir, "outcomes.ndjson")
	if err := os.WriteFile(rows, []byte("{\"id\":1}\n\n{\"id\":-2,\"pupil\":{\"name\":\"Ada\"}}\n{\"id\":-3,\"pupil\":{\"name\":\"Bob\"}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, g, "", []string{"submit", "Marks", "-f", rows, "--outcomes", outcomes}, "2 dead")

	ids := strings.Fields(runs(t, g, "", []string{"dead", "list", "-o", "name"}))
	if len(ids) != 2 {
		t.Fatalf("there are the letters %q", ids)
	}
	text, err := os.ReadFile(outcomes)
	if err != nil || !strings.Contains(string(text), `"letter":"`+ids[0]+`"`) || !strings.Contains(string(text), `"letter":"`+ids[1]+`"`) {
		t.Errorf("the outcomes name other letters than %q: %v\n%s", ids, err, text)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--key", "-2"}, ids[0]},
		{[]string{"--field", "pupil.name=Bob"}, ids[1]},
		{[]string{"--field", "id=-3", "--text", "Bob"}, ids[1]},
		{[]string{"--field", "id=-3", "--text", "Ada"}, ""},
		{[]string{"--text", "the id -2 is below zero"}, ids[0]},
		{[]string{"--until", "1h"}, ""},
		{[]string{"--since", "1h", "--until", "2100-01-01T00:00:00Z", "--flow", "Marks", "--limit", "1"}, ids[0]},
		{[]string{"--after", ids[0]}, ids[1]},
		{[]string{"--after", ids[1]}, ""},
	} {
		if got := runs(t, g, "", append([]string{"dead", "list", "-o", "name"}, c.args...)); strings.TrimSpace(got) != c.want {
			t.Errorf("dead list %q prints %q, want %q", c.args, got, c.want)
		}
	}
	runs(t, g, "", []string{"dead", "show", ids[1][:8]}, ids[1], rows+":4")
	fails(t, g, "", []string{"dead", "show", ids[1][:5]}, "NOT_FOUND", "the first 6 are enough")
	fails(t, g, "", []string{"dead", "drop", ids[0], strings.Repeat("0", 32)}, "NOT_FOUND", strings.Repeat("0", 32))
	fails(t, g, "", []string{"dead", "redrive", "ffffffff"}, "NOT_FOUND")
	runs(t, g, "", []string{"dead", "edit", ids[0][:8], "--row", `{"id":5}`, "--dry-run"}, "would be replaced", "-2")
	fails(t, g, "", []string{"dead", "edit", ids[0][:8], "--row", `{"id":`, "--dry-run"}, "ROW_UNDECODABLE")
	runs(t, g, "", []string{"dead", "edit", ids[0][:8], "--row", `{"id":5}`}, "is edited")
	runs(t, g, "", []string{"dead", "redrive", "--field", "id=5", "--rate", "100", "--dry-run"}, "1 letters would be redriven")
	runs(t, g, "", []string{"dead", "redrive", "--rate", "100", ids[0][:8]}, "1 letters: 1 done")
	fails(t, g, "", []string{"dead", "redrive", "--rate", "1", "--all"}, "1 letters: 0 done", "1 died again")
	runs(t, g, "", []string{"dead", "show", ids[1]}, rows+":4", "redrives  1")
	runs(t, g, "", []string{"dead", "drop", "--text", "Bob"}, "1 letters dropped")
	fails(t, g, "", []string{"dead", "show", ids[1]}, "NOT_FOUND")
}

// TestChangesOfCluster changes the documents of a cluster in every way.
func TestChangesOfCluster(t *testing.T) {
	g := flowtest.Cluster(t, 1, flowtest.Register(registers("Check", "Note")))
	docs := marks([]string{"Check"})
	other := strings.ReplaceAll(strings.ReplaceAll(docs, "Marks", "Other"), "Check", "Note")
	runs(t, g, docs+"---\n"+other, []string{"apply", "-f", "-"}, "active")
	begun := func(args ...string) string { return runs(t, g, "", args) }

	runs(t, g, docs, []string{"diff", "-f", "-"})
	fails(t, g, marks([]string{"Check"}, "copies: 2"), []string{"diff", "-f", "-"}, "+copies: 2")
	fails(t, g, docs, []string{"diff", "-f", "-", "--prune"}, "-flow_name: Other", "-fname: Note")
	fails(t, g, "kistype: flow\n", []string{"diff", "-f", "-"}, "flow_name")

	runs(t, g, begun("get", "flow", "Marks", "-o", "yaml"), []string{"apply", "-f", "-"}, "nothing to change")
	runs(t, g, strings.ReplaceAll(begun("get", "flow", "Marks", "-o", "yaml"), "Marks", "Third"), []string{"apply", "-f", "-"}, "flow/Third created")
	if out := begun("describe", "flow", "Marks"); !strings.Contains(out, "\nfunctions:\n") || !strings.Contains(out, "Check") || !strings.Contains(out, "\nworkers:\n") || !strings.Contains(out, "\nhistory:\n") {
		t.Errorf("describe flow prints\n%s", out)
	}
	if out := begun("describe", "function", "Note"); !strings.Contains(out, "\nflows:\n") || !strings.Contains(out, "Other") || strings.Contains(out, "Third") {
		t.Errorf("describe function prints\n%s", out)
	}
	worker := strings.Fields(begun("get", "workers", "-o", "name"))[0]
	if out := begun("describe", "worker", worker); !strings.Contains(out, "\nfunctions:\n") || !strings.Contains(out, "Note") || !strings.Contains(out, "Marks") {
		t.Errorf("describe worker prints\n%s", out)
	}
	runs(t, g, "", []string{"describe", "flow", "Marks", "-o", "json"}, `"functions": [`, `"history": [`)
	fails(t, g, "", []string{"describe", "worker", "nobody"}, "NOT_FOUND")

	runs(t, g, "", []string{"pause", "Marks", "--dry-run"}, "flow Marks would be paused\n")
	runs(t, g, "", []string{"resume", "Marks", "--dry-run"}, "flow Marks would be resumed: it was not paused\n")
	runs(t, g, "", []string{"drain", worker, "--dry-run", "-o", "json"}, `"state":"drained","changed":true,"dry_run":true`)
	runs(t, g, "", []string{"delete", "flow", "Third", "--dry-run"}, "flow Third would be deleted")
	fails(t, g, "", []string{"delete", "function", "Note", "--dry-run"}, "flow Other needs it")
	runs(t, g, "", []string{"rollout", "undo", "Marks", "--dry-run", "--to", strings.Fields(begun("rollout", "history", "Marks", "-o", "name"))[0]}, "nothing to change")

	runs(t, g, docs, []string{"apply", "-f", "-", "--prune", "--dry-run"}, "0 documents would be written, 3 deleted")
	fails(t, g, "kistype: flow\nflow_name: Marks\nstatus: 1\nshard_key: id\nflows:\n  - fname: Check\n", []string{"apply", "-f", "-", "--prune"}, "flow Marks stays, and needs documents that would be deleted")
	runs(t, g, docs, []string{"apply", "-f", "-", "--prune"}, "flow/Other deleted", "func/Note deleted", "3 deleted at revision")
	if got := begun("get", "flows", "-o", "name"); strings.TrimSpace(got) != "Marks" {
		t.Errorf("after --prune there are %q", got)
	}
	runs(t, g, docs, []string{"diff", "-f", "-", "--prune"})
}
