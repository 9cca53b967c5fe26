package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/flowtest"
)

// An empty cluster takes the documents that export wrote, however many they are: in several transactions, and also when an earlier
// apply was interrupted.
func TestExportIntoEmptyCluster(t *testing.T) {
	var docs strings.Builder
	const flows = 110
	for i := range flows {
		fmt.Fprintf(&docs, "---\nkistype: flow\nflow_name: F%d\nstatus: 1\nflows:\n  - fname: Keep%d\n", i, i)
		fmt.Fprintf(&docs, "---\nkistype: func\nfname: Keep%d\nfmode: Save\noption:\n  cname: Shelf%d\n  save:\n    key: '{id}'\n    set:\n      id: id\n", i, i)
		fmt.Fprintf(&docs, "---\nkistype: conn\ncname: Shelf%d\ntype: memory\nkey: k\n", i)
	}
	all := docs.String()
	from := flowtest.Cluster(t, 1)
	settles := []string{"--timeout", patience.String()}
	fails(t, from, all, []string{"apply", "-f", "-"}, "330 keys at once, etcd takes 128", "--in-parts", "--max-txn-ops")
	if out := runs(t, from, "", []string{"get", "functions"}); !strings.Contains(out, "no functions") {
		t.Errorf("something was written all the same:\n%s", out)
	}
	runs(t, from, all, append(settles, "apply", "-f", "-", "--in-parts"), "330 documents written at revision", "flow F0: active", fmt.Sprintf("flow F%d: active", flows-1))
	dir := filepath.Join(t.TempDir(), "backup")
	runs(t, from, "", []string{"export", dir}, "330 documents written")

	to := flowtest.Cluster(t, 1)
	cut := begin(t, to, "", "apply", "-f", dir, "--in-parts")
	until(t, "something is written", func() bool {
		return !strings.Contains(runs(t, to, "", []string{"get", "connectors"}), "no connectors")
	})
	cut.cancel()
	_, _ = cut.end(t) // it may have ended either way
	out := runs(t, to, "", append(settles, "apply", "-f", dir, "--in-parts"))
	if n := strings.Count(out, ": active"); n < flows {
		t.Errorf("%d flows are told to be active:\n%s", n, out)
	}
	runs(t, to, "", append(settles, "apply", "-f", dir, "--in-parts"), "nothing to change")
	again := filepath.Join(t.TempDir(), "again")
	runs(t, to, "", []string{"export", again}, "330 documents written")
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		was, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if is, err := os.ReadFile(filepath.Join(again, f.Name())); err != nil || string(is) != string(was) {
			t.Errorf("%s became %q (%v)", f.Name(), is, err)
		}
	}
}
