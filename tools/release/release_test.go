package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// Notes are the section of the version, whole, and of no other.
func TestNotes(t *testing.T) {
	const changelog = "# Changelog\n\nWhat users notice.\n\n## [Unreleased]\n\n## [1.2.10] - 2026-12-01\n\n### Added\n\n- Ten.\n\n## [1.2.1] - 2026-11-01\n\n### Fixed\n\n- One.\n  Two lines.\n"
	for version, want := range map[string]string{
		"1.2.10":     "### Added\n\n- Ten.\n",
		"1.2.1":      "### Fixed\n\n- One.\n  Two lines.\n",
		"1.2":        "",
		"Unreleased": "", // it is empty
	} {
		got, err := notes(changelog, version)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("the notes of %s are %q, %v, want %q", version, got, err, want)
		}
	}
}

// Only a tag of a release, on files that are those of a commit, is released; a snapshot may be anything that says its commit.
func TestCheck(t *testing.T) {
	when := time.Unix(1_700_000_000, 0)
	for name, c := range map[string]struct {
		r     release
		taken bool
	}{
		"a tag":                          {release{version: "v1.2.3", commit: "ab", when: when}, true},
		"a candidate":                    {release{version: "v1.2.3-rc.1", commit: "ab", when: when}, true},
		"no tag":                         {release{version: "dev", commit: "ab", when: when}, false},
		"a commit behind a tag":          {release{version: "v1.2.3-4-gabcdef0", commit: "ab", when: when}, false},
		"a commit behind a tag of two":   {release{version: "v1.2-4-gabcdef", commit: "ab", when: when}, false},
		"files that differ":              {release{version: "v1.2.3", commit: "ab-dirty", when: when}, false},
		"no commit":                      {release{version: "v1.2.3", when: when}, false},
		"no time":                        {release{version: "v1.2.3", commit: "ab", when: time.Unix(0, 0)}, false},
		"a snapshot":                     {release{version: "dev", commit: "ab-dirty", when: when, snapshot: true}, true},
		"a snapshot that has no commit":  {release{version: "dev", when: when, snapshot: true}, false},
		"a version that begins with a 0": {release{version: "v01.2.3", commit: "ab", when: when}, false},
	} {
		if err := c.r.check(); (err == nil) != c.taken {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The same files give the same archive, whenever they were written and whoever owns them.
func TestArchiveRepeats(t *testing.T) {
	when := time.Date(2026, 11, 30, 1, 2, 3, 0, time.UTC)
	var archives [2][]byte
	for i := range archives {
		dir := t.TempDir()
		var files []member
		for _, name := range []string{"kisgrid", "LICENSE"} {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte("the text of "+name), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, when, when.Add(time.Duration(i)*time.Hour)); err != nil {
				t.Fatal(err)
			}
			files = append(files, member{name: name, path: path, mode: 0o755})
		}
		path := filepath.Join(dir, "a.tar.gz")
		if err := writeArchive(path, "kisgrid-v1", files, when); err != nil {
			t.Fatal(err)
		}
		var err error
		if archives[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of the same files differ")
	}
	z, err := gzip.NewReader(bytes.NewReader(archives[0]))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil || !h.ModTime.Equal(when) || h.Mode != 0o755 || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s is of %s, mode %o, owner %d %q: %v", h.Name, h.ModTime, h.Mode, h.Uid, h.Uname, err)
		}
		got = append(got, h.Name+": "+string(text))
	}
	if want := []string{"kisgrid-v1/kisgrid: the text of kisgrid", "kisgrid-v1/LICENSE: the text of LICENSE"}; !slices.Equal(got, want) {
		t.Errorf("it holds %q, want %q", got, want)
	}
}

// The SBOM names each module that one of the programs has, once, and what stands for it where it is replaced.
func TestSBOM(t *testing.T) {
	dir := t.TempDir()
	r := &release{version: "v1.2.3", commit: "0123", when: time.Date(2026, 11, 30, 1, 2, 3, 0, time.UTC)}
	built := []*debug.BuildInfo{
		{GoVersion: "go1.26.8", Deps: []*debug.Module{{Path: "example.com/B", Version: "v1.0.0", Sum: "h1:b"}, {Path: "example.com/a", Version: "v2.0.0+incompatible"}}},
		{GoVersion: "go1.26.8", Deps: []*debug.Module{{Path: "example.com/B", Version: "v1.0.0", Sum: "h1:b"}, {Path: "example.com/c", Version: "v3.0.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v3.0.1"}}}},
	}
	var texts [2][]byte
	for i := range texts {
		path := filepath.Join(dir, "sbom.json")
		if err := writeSBOM(path, r, "linux/arm64", built); err != nil {
			t.Fatal(err)
		}
		var err error
		if texts[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(texts[0], texts[1]) {
		t.Error("two SBOMs of the same programs differ")
	}
	var got struct {
		BOMFormat string `json:"bomFormat"`
		Metadata  struct {
			Timestamp string
			Component struct{ PURL string }
		}
		Components   []struct{ PURL, Version string }
		Dependencies []struct{ DependsOn []string }
	}
	if err := json.Unmarshal(texts[0], &got); err != nil {
		t.Fatal(err)
	}
	var purls []string
	for _, c := range got.Components {
		purls = append(purls, c.PURL)
	}
	want := []string{"pkg:golang/example.com/b@v1.0.0", "pkg:golang/example.com/a@v2.0.0%2Bincompatible", "pkg:golang/example.com/fork@v3.0.1", "pkg:golang/std@1.26.8"}
	if !slices.Equal(purls, want) || len(got.Dependencies) != 1 || !slices.Equal(got.Dependencies[0].DependsOn, want) {
		t.Errorf("it names %q, want %q, in\n%s", purls, want, texts[0])
	}
	if got.BOMFormat != "CycloneDX" || got.Metadata.Timestamp != "2026-11-30T01:02:03Z" || got.Metadata.Component.PURL != "pkg:golang/github.com/kisgrid/kisgrid@v1.2.3" {
		t.Errorf("it says of itself\n%s", texts[0])
	}
}

// Sums are of what was made and of the list of images, and nothing strays into a release.
func TestSums(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.tar.gz")
	write("images.txt")
	for range 2 { // SHA256SUMS of before counts for nothing
		if err := writeSums(dir, []string{"a.tar.gz"}); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, sums))
	if lines := strings.Split(strings.TrimSpace(string(text)), "\n"); err != nil || len(lines) != 2 || !strings.HasSuffix(lines[0], "  a.tar.gz") || len(lines[0]) != 64+2+len("a.tar.gz") {
		t.Errorf("the sums are %q, %v", text, err)
	}
	write("kisgrid-v1.0.0-linux-amd64.tar.gz")
	if err := writeSums(dir, []string{"a.tar.gz"}); err == nil || !strings.Contains(err.Error(), "kisgrid-v1.0.0-linux-amd64.tar.gz") {
		t.Errorf("with an archive of an earlier release: %v", err)
	}
}
