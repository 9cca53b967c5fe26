package archtest

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/stability.md says of each package that others can import whether it is stable: a new one is a promise that somebody has to
// make, and make api compares only those that the page calls stable.
func TestEveryPackageSaysWhetherItIsStable(t *testing.T) {
	text, err := os.ReadFile("../../docs/stability.md")
	if err != nil {
		t.Fatal(err)
	}
	p, err := read(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, line := range regexp.MustCompile("(?m)^\\| `(pkg/[a-z/]+)` \\| ([a-z]+) \\|").FindAllStringSubmatch(string(text), -1) {
		if told[line[1]] != "" || line[2] != "stable" && line[2] != "unstable" {
			t.Errorf("docs/stability.md says that %s is %s, and %q before: give each package one line, stable or unstable", line[1], line[2], told[line[1]])
		}
		told[line[1]] = line[2]
	}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if strings.HasPrefix(name, "pkg/") && !strings.Contains(name, "/internal") && told[name] == "" {
			t.Errorf("docs/stability.md says nothing of %s: add a line for it", name)
		}
	}
	for name, is := range told {
		if len(p[name]) == 0 {
			t.Errorf("docs/stability.md names %s, which is not there", name)
		}
		// A reader of go doc sees it, too.
		says := slices.ContainsFunc(p[name], func(f file) bool {
			return f.syntax.Doc != nil && strings.Contains(f.syntax.Doc.Text(), "docs/stability.md")
		})
		if says != (is == "unstable") {
			t.Errorf("%s is %s: the comment of an unstable package, and of no other, names docs/stability.md", name, is)
		}
	}
	if told["pkg/client"] != "stable" || told["pkg/coordinator"] != "unstable" {
		t.Errorf("the table was not read: %v", told)
	}
}
