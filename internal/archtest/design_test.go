package archtest

import (
	"fmt"
	"go/ast"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var (
	goPlace  = regexp.MustCompile("`([^`\\s]+\\.go(?::[^`\\s]+)?)`")                              // a Go file in backquotes, with or without a function
	exact    = regexp.MustCompile(`^(?:[a-z0-9_.-]+/)*[A-Za-z0-9_.-]+\.go(?::([A-Za-z0-9_]+))?$`) // the form that can be looked up
	tableRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.+) \\|$")
	required = regexp.MustCompile(`(?m)^\t(\S+) v\S+$`) // a direct dependency in go.mod; others end in a comment
)

// section is the part of a document under the heading, up to the next one of the same level.
func section(document, heading string) string {
	_, rest, _ := strings.Cut("\n"+document, "\n## "+heading+"\n")
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

// wrongPlaces looks up every file.go and file.go:function that a document names in backquotes. A name without a folder, such as
// main.go, is a reader's own file and is not looked up.
func (p project) wrongPlaces(document string) []string {
	files, functions := map[string]bool{}, map[string]bool{} // by path; by path:function
	for _, all := range p {
		for _, f := range all {
			files[f.path] = true
			for _, d := range f.syntax.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok {
					functions[f.path+":"+fn.Name.Name] = true
				}
			}
		}
	}
	var wrong []string
	for _, place := range goPlace.FindAllStringSubmatch(document, -1) {
		name := place[1]
		form := exact.FindStringSubmatch(name)
		path, _, _ := strings.Cut(name, ":")
		switch {
		case !strings.Contains(path, "/") && (form == nil || form[1] == ""):
		case form == nil:
			wrong = append(wrong, name+" can't be looked up: write folder/file.go or folder/file.go:function")
		case form[1] != "" && !functions[name], form[1] == "" && !files[name] && !strings.HasSuffix(name, "_test.go"):
			wrong = append(wrong, name+" is not there")
		}
	}
	return wrong
}

// wrongDependencies compares the table of dependencies with go.mod: each module that the code imports directly has its line.
func wrongDependencies(design, gomod string) []string {
	var wrong []string
	told := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \|[^|]+\|[^|]+\|$`).FindAllStringSubmatch(section(design, "Dependencies"), -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			told[name[1]] = true
		}
	}
	there := map[string]bool{}
	for _, module := range required.FindAllStringSubmatch(gomod, -1) {
		name := strings.TrimPrefix(module[1], "github.com/")
		there[name] = true
		if !told[name] {
			wrong = append(wrong, "go.mod requires "+name+", which has no line: say what it is for, and why it and no other")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(told)) {
		if !there[name] {
			wrong = append(wrong, name+" has a line, and go.mod does not require it directly: strike the line")
		}
	}
	return wrong
}

// wrongOrder checks that imports point down the table of packages: each package has a line, the most exact one counts, and whatever it
// imports of the project stands in the same line or further down.
func (p project) wrongOrder(design string) []string {
	var wrong, lines []string
	for _, row := range tableRow.FindAllStringSubmatch(section(design, "Packages"), -1) {
		lines = append(lines, row[1])
	}
	at := func(name string) int {
		if i := slices.Index(lines, name); i >= 0 {
			return i
		}
		return slices.IndexFunc(lines, func(line string) bool { return matches(line, name) })
	}
	for i, line := range lines {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(p)), func(name string) bool { return at(name) == i }) {
			wrong = append(wrong, line+" is in the table of packages, and no package is there")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if at(name) < 0 {
			wrong = append(wrong, "package "+name+" is not in the table of packages: add a line below all that import it")
			continue
		}
		for _, i := range p.imports(name) {
			if _, ours := p[i]; ours && at(i) >= 0 && at(i) < at(name) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s, which stands above it in the table of packages", name, i))
			}
		}
	}
	return wrong
}

// What DESIGN.md says of dependencies and imports is so. Files and functions are looked up in all documents alike.
func TestDesignIsTrue(t *testing.T) {
	root := os.DirFS("../..")
	design, err := fs.ReadFile(root, "DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	gomod, err := fs.ReadFile(root, "go.mod")
	if err != nil {
		t.Fatal(err)
	}
	p, err := read(root)
	if err != nil {
		t.Fatal(err)
	}
	text := string(design)
	for _, wrong := range slices.Concat(wrongDependencies(text, string(gomod)), p.wrongOrder(text)) {
		t.Errorf("DESIGN.md: %s", wrong)
	}
	if n := len(goPlace.FindAllString(text, -1)); n < 30 {
		t.Errorf("DESIGN.md names %d places: it should walk a batch through the code", n)
	}
}

// Each of these checks must be able to fail.
func TestDesignChecksCatchWhatTheyAreFor(t *testing.T) {
	p, err := read(fstest.MapFS{
		"pkg/batch/key_plain.go": {Data: []byte("package p\nfunc hashPlain() {}\n")},
		"pkg/client/a.go":        {Data: []byte("package p\nimport _ \"" + modulePath + "pkg/batch\"\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ got, want []string }{
		"places": {
			p.wrongPlaces("`pkg/batch/key_plain.go:hashPlain` `pkg/batch/key_plain.go:gone` `pkg/batch/gone.go` `main.go` `pkg/batch/*.go` `pkg/batch/a_test.go`"),
			[]string{"pkg/batch/key_plain.go:gone is not there", "pkg/batch/gone.go is not there", "pkg/batch/*.go can't be looked up: write folder/file.go or folder/file.go:function"},
		},
		"dependencies": {
			wrongDependencies("## Dependencies\n\n| module | for | why |\n|---|---|---|\n| `a/b`, `c/d` | x | y |\n\n## Next\n", "require (\n\tgithub.com/a/b v1\n\te.org/f v1\n\tg.org/h v1 // indirect\n)\n"),
			[]string{"go.mod requires e.org/f, which has no line: say what it is for, and why it and no other", "c/d has a line, and go.mod does not require it directly: strike the line"},
		},
		"order":   {p.wrongOrder("## Packages\n\n| `pkg/client` | x |\n| `pkg/batch` | y |\n"), nil},
		"upwards": {p.wrongOrder("## Packages\n\n| `pkg/batch` | y |\n| `pkg/…` | x |\n"), []string{"pkg/client imports pkg/batch, which stands above it in the table of packages"}},
		"missing": {
			p.wrongOrder("## Packages\n\n| `pkg/batch` | y |\n| `pkg/gone` | z |\n"),
			[]string{"pkg/gone is in the table of packages, and no package is there", "package pkg/client is not in the table of packages: add a line below all that import it"},
		},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: got %q, want %q", name, c.got, c.want)
		}
	}
}
