package definition

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// write makes a folder of files.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		name string
		text string
		want string // line and text of each document
	}{
		{"one", "a: 1\n", `1 "a: 1\n"`},
		{"one without a line end", "a: 1", `1 "a: 1"`},
		{"one after a marker", "---\na: 1\n", `2 "a: 1\n"`},
		{"two", "a: 1\n---\nb: 2\n", `1 "a: 1\n", 3 "b: 2\n"`},
		{"two with Windows' line ends", "a: 1\r\n---\r\nb: 2\r\n", `1 "a: 1\r\n", 3 "b: 2\r\n"`},
		{"empty ones between", "---\n---\n# none\n---\na: 1\n---\n---\n  \n", `3 "# none\n---\na: 1\n"`},
		{"comments before a marker belong to what follows", "# who\n---\na: 1\n---\n# why\nb: 2\n---", `1 "# who\n---\na: 1\n", 5 "# why\nb: 2\n"`},
		{"directives", "%YAML 1.2\n---\na: 1\n", `1 "%YAML 1.2\n---\na: 1\n"`},
		{"a document that begins beside its marker", "a: 1\n--- # two\n--- {b: 2}\n---\tc", `1 "a: 1\n", 3 "--- {b: 2}\n", 4 "---\tc"`},
		{"no markers", "a: |\n  ---\n  b\nc: '\n ---'\n---d: 1\n", `1 "a: |\n  ---\n  b\nc: '\n ---'\n---d: 1\n"`},
		{"a byte order mark", "\ufeff# who\n---\na: 1\n", `1 "# who\n---\na: 1\n"`},
		{"none", "# nothing\n", `1 "# nothing\n"`},
		{"nothing", "", `1 ""`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, d := range Split("x.yml", []byte(tt.text)) {
				if d.Path != "x.yml" {
					t.Errorf("path %q", d.Path)
				}
				got = append(got, fmt.Sprintf("%d %q", d.Line, d.YAML))
			}
			if got := strings.Join(got, ", "); got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	dir := write(t, map[string]string{
		"all.yml":        "kistype: flow\nflow_name: F\nflows: [{fname: A}, {fname: B}]\n---\nkistype: func\nfname: A\nfmode: Verify\n",
		"deep/er/b.yaml": "kistype: func\nfname: B\nfmode: Save\noption: {cname: C}\n",
		"README.md":      "not YAML: [",
		".hidden.yml":    "hidden",

		// As Kubernetes mounts a ConfigMap: files are links into a hidden folder.
		"..2026_11_22/redis.yml": "kistype: conn\ncname: C\ntype: redis\naddrs: a:1\n",
	})
	if err := os.Symlink("../..2026_11_22/redis.yml", filepath.Join(dir, "deep", "redis.yml")); err != nil {
		t.Fatal(err)
	}

	for _, path := range []string{dir, dir + "/"} {
		s, docs, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		want := []Document{
			{Kind: KindFlow, Name: "F", Path: filepath.Join(dir, "all.yml"), Line: 1, YAML: []byte("kistype: flow\nflow_name: F\nflows: [{fname: A}, {fname: B}]\n")},
			{Kind: KindFunc, Name: "A", Path: filepath.Join(dir, "all.yml"), Line: 5, YAML: []byte("kistype: func\nfname: A\nfmode: Verify\n")},
			{Kind: KindFunc, Name: "B", Path: filepath.Join(dir, "deep/er/b.yaml"), Line: 1, YAML: []byte("kistype: func\nfname: B\nfmode: Save\noption: {cname: C}\n")},
			{Kind: KindConn, Name: "C", Path: filepath.Join(dir, "deep/redis.yml"), Line: 1, YAML: []byte("kistype: conn\ncname: C\ntype: redis\naddrs: a:1\n")},
		}
		if diff := cmp.Diff(want, docs); diff != "" {
			t.Error(diff)
		}
		if _, err := s.Bundle("F"); err != nil {
			t.Error(err)
		}
	}
	link := filepath.Join(t.TempDir(), "conf")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if _, docs, err := Load(link); err != nil || len(docs) != 4 {
		t.Errorf("through a link: %d documents, %v", len(docs), err)
	}
	if docs, err := Read(filepath.Join(dir, "all.yml")); err != nil || len(docs) != 2 {
		t.Errorf("of one file: %d documents, %v", len(docs), err)
	}
}

func TestLoadMistakes(t *testing.T) {
	dir := write(t, map[string]string{
		"a.yml": "kistype: flow\nflow_name: F\nflows: [{fname: A}]\n---\n\n---\nkistype: func\nfnam: A\nfmode: Verify\n",
		"b.yml": "",
		"c.yml": "kistype: func\nfname: B\nfmode: Verify\n---\nkistype: func\nfname: B\nfmode: Verify\n",
	})
	_, _, err := Load(dir)
	wantText(t, err, strings.ReplaceAll(`BAD_DOCUMENT: DIR/a.yml:7: fname: is missing: write the function's name
DIR/a.yml:8: fnam: is not a key here; the keys are kistype, fname, fmode, source, option, timeout; did you mean "fname"?
DIR/b.yml: is empty: write a document that starts with kistype
DIR/c.yml:5: is a second document for the function "B": the first is DIR/c.yml:1; take one away
DIR/a.yml:3: flows[0].fname: no document describes the function "A"; perhaps the document with the mistake at DIR/a.yml:7 does`, "DIR", dir))

	_, _, err = Load(filepath.Join(dir, "nowhere"))
	if batch.CodeOf(err) != batch.CodeNotFound || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
	wantText(t, err, "NOT_FOUND: reading definitions: stat "+dir+"/nowhere: no such file or directory")

	empty := write(t, map[string]string{"README.md": ""})
	_, _, err = Load(empty)
	wantText(t, err, "NOT_FOUND: no .yml or .yaml file is under "+empty)
}

// Read passes over test files in a folder, but not over documents whose file has the name of one, nor over a test file that is named itself.
func TestReadPassesOverTestFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"flow.yml": "kistype: flow\nflow_name: F\n", "flow_test.yml": "tests: []\n", "more_test.yaml": "# kistype: flow\ntests: [{name: 'kistype: flow'}]\n",
		"old_test.yml": "# documents\nkistype: conn\ncname: c\n", "test.yml": "kistype: func\nfname: f\n", "_test.yml.bak": "x",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	docs, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range docs {
		got = append(got, filepath.Base(d.Path))
	}
	if want := []string{"flow.yml", "old_test.yml", "test.yml"}; !slices.Equal(got, want) {
		t.Errorf("read %q, want %q", got, want)
	}
	if docs, err := Read(filepath.Join(dir, "flow_test.yml")); err != nil || len(docs) != 1 {
		t.Errorf("a file by its name: %d documents, %v", len(docs), err)
	}
}
