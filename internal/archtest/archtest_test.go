// Package archtest holds the project's architecture as a table, and fails where the code departs from it.
package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const modulePath = "github.com/kisgrid/kisgrid/"

// file is one Go file that is not a test.
type file struct {
	path    string
	syntax  *ast.File
	lines   int
	imports []string // package paths; those of the project without modulePath
}

// project maps a package's path within the module to its files.
type project map[string][]file

// read parses every Go file of the module that is not a test. It ignores build constraints: a file that is not built on this machine is
// built on another one.
func read(root fs.FS) (project, error) {
	p := project{}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			_, nested := fs.Stat(root, path.Join(name, "go.mod"))
			if name != "." && (nested == nil || entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".") || strings.HasPrefix(entry.Name(), "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		f := file{path: name, syntax: syntax, lines: bytes.Count(source, []byte("\n"))}
		for _, i := range syntax.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, strings.TrimPrefix(imported, modulePath))
		}
		p[path.Dir(name)] = append(p[path.Dir(name)], f)
		return nil
	})
	return p, err
}

// imports lists the packages that a package imports, sorted.
func (p project) imports(name string) []string {
	set := map[string]bool{}
	for _, f := range p[name] {
		for _, i := range f.imports {
			set[i] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// matches reports whether a package's path is the pattern. A pattern that ends in "…" also matches all paths below it.
func matches(pattern, name string) bool {
	prefix, open := strings.CutSuffix(pattern, "…")
	if !open {
		return pattern == name
	}
	return strings.HasPrefix(name, prefix) && (strings.HasSuffix(prefix, "/") || name == prefix || name[len(prefix)] == '/')
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, name) })
}

// arrowsOf lists the packages that a package may import. It takes the row of the package's own path, or else the first row with "…" that
// matches.
func arrowsOf(name string) (to []string, ok bool) {
	for _, row := range arrows {
		if row.from == name {
			return row.to, true
		}
	}
	for _, row := range arrows {
		if matches(row.from, name) {
			return row.to, true
		}
	}
	return nil, false
}

// wrongArrows finds direct imports that the table arrows does not allow.
func (p project) wrongArrows() []string {
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		allowed, ok := arrowsOf(name)
		if !ok {
			wrong = append(wrong, fmt.Sprintf("package %s has no row in arrows: say there what it may import", name))
			continue
		}
		for _, i := range p.imports(name) {
			if _, ours := p[i]; ours && !matchesAny(allowed, i) && !slices.Contains(everybody, i) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: not among its arrows", name, i))
			}
		}
	}
	return wrong
}

// wrongReach follows imports through the project, and finds packages that the table never forbids. A "!" after a package's path means its
// direct imports only.
func (p project) wrongReach() []string {
	var wrong []string
	for _, rule := range never {
		from, direct := strings.CutSuffix(rule.from, "!")
		seen := map[string]bool{from: true}
		ways := [][]string{{from}}
		for len(ways) > 0 {
			way := ways[0]
			ways = ways[1:]
			for _, i := range p.imports(way[len(way)-1]) {
				if seen[i] {
					continue
				}
				seen[i] = true
				next := append(slices.Clone(way), i)
				if matchesAny(rule.to, i) {
					wrong = append(wrong, fmt.Sprintf("%s must never reach %s: %s", from, i, strings.Join(next, " → ")))
				}
				if !direct {
					ways = append(ways, next)
				}
			}
		}
	}
	return wrong
}

// wrongKits finds packages that import a test kit, and are neither tests nor kits themselves.
func (p project) wrongKits() []string {
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if matchesAny(kits, name) || matches("e2e…", name) {
			continue
		}
		for _, i := range p.imports(name) {
			if matchesAny(kits, i) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s, which is for tests", name, i))
			}
		}
	}
	return wrong
}

// impurities finds packages of the list pure that start goroutines or look at clocks.
func (p project) impurities() []string {
	var wrong []string
	for _, name := range pure {
		for _, f := range p[name] {
			clock := clockName(f.syntax)
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					wrong = append(wrong, fmt.Sprintf("%s starts a goroutine", f.path))
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == clock && slices.Contains(clocks, n.Sel.Name) {
						wrong = append(wrong, fmt.Sprintf("%s uses time.%s", f.path, n.Sel.Name))
					}
				}
				return true
			})
			if clock == "." {
				wrong = append(wrong, fmt.Sprintf("%s imports package time without a name, which hides its clocks", f.path))
			}
		}
	}
	return wrong
}

// clockName returns the name under which a file imports package time, or "" if it does not.
func clockName(f *ast.File) string {
	for _, i := range f.Imports {
		if i.Path.Value == `"time"` {
			if i.Name != nil {
				return i.Name.Name
			}
			return "time"
		}
	}
	return ""
}

// longFiles finds files with more than maxLines lines, except for generated ones.
func (p project) longFiles() []string {
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		for _, f := range p[name] {
			if f.lines > maxLines && !ast.IsGenerated(f.syntax) {
				wrong = append(wrong, fmt.Sprintf("%s has %d lines, over %d", f.path, f.lines, maxLines))
			}
		}
	}
	return wrong
}

func TestArchitecture(t *testing.T) {
	p, err := read(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(p["pkg/batch"]) == 0 {
		t.Fatal("the module's packages were not found")
	}
	for name, check := range map[string]func() []string{
		"arrows": p.wrongArrows, "never": p.wrongReach, "kits": p.wrongKits, "pure": p.impurities, "length": p.longFiles,
	} {
		t.Run(name, func(t *testing.T) {
			for _, wrong := range check() {
				t.Error(wrong)
			}
		})
	}
}

// Each rule must be able to fail.
func TestRulesCatchWhatTheyAreFor(t *testing.T) {
	source := func(imports ...string) *fstest.MapFile {
		code := "package p\n"
		for _, i := range imports {
			code += "import " + i + "\n"
		}
		return &fstest.MapFile{Data: []byte(code)}
	}
	ours := func(name string) string { return strconv.Quote(modulePath + name) }
	clock := source(`clock "time"`)
	clock.Data = append(clock.Data, "func f() { go f(); _ = clock.Now(); _ = clock.Second }\n"...)
	long, generated := source(), source()
	long.Data = append(long.Data, strings.Repeat("\n", maxLines)...)
	generated.Data = append([]byte("// Code generated by a test. DO NOT EDIT.\n\n"), long.Data...)

	for _, c := range []struct {
		name  string
		files fstest.MapFS
		check func(project) []string
		want  []string
	}{
		{
			"allowed", fstest.MapFS{"pkg/cluster/a.go": source(ours("pkg/batch"), `"go.etcd.io/etcd/client/v3"`), "pkg/batch/a.go": source()},
			project.wrongArrows, nil,
		},
		{
			"for everybody", fstest.MapFS{"pkg/scheduler/a.go": source(ours("internal/point")), "internal/point/a.go": source(ours("pkg/batch"), `"sync/atomic"`), "pkg/batch/a.go": source()},
			project.wrongArrows, []string{"internal/point imports pkg/batch: not among its arrows"},
		},
		{
			"wrong arrow", fstest.MapFS{"pkg/batch/a.go": source(ours("pkg/cluster")), "pkg/cluster/a.go": source()},
			project.wrongArrows, []string{"pkg/batch imports pkg/cluster: not among its arrows"},
		},
		{
			"below is not beside", fstest.MapFS{"pkg/kis/log/a.go": source(ours("pkg/kissing")), "pkg/kissing/a.go": source(), "pkg/kis/a.go": source(ours("pkg/flowexec")), "pkg/flowexec/a.go": source()},
			project.wrongArrows,
			[]string{"pkg/kis imports pkg/flowexec: not among its arrows", "pkg/kis/log imports pkg/kissing: not among its arrows", "package pkg/kissing has no row in arrows: say there what it may import"},
		},
		{
			"tests, testdata and other modules don't count",
			fstest.MapFS{
				"pkg/batch/a.go": source(), "pkg/batch/a_test.go": source(ours("pkg/cluster")), "pkg/cluster/a.go": source(),
				"pkg/batch/testdata/a.go": source(ours("pkg/cluster")), "tools/go.mod": source(), "tools/a.go": source(ours("pkg/cluster")),
			},
			project.wrongArrows, nil,
		},
		{
			"on the way", fstest.MapFS{"pkg/client/a.go": source(ours("internal/wire")), "internal/wire/a.go": source(ours("pkg/definition")), "pkg/definition/a.go": source()},
			project.wrongReach, []string{"pkg/client must never reach pkg/definition: pkg/client → internal/wire → pkg/definition"},
		},
		{
			"a library", fstest.MapFS{"pkg/flowexec/a.go": source(ours("pkg/connector")), "pkg/connector/a.go": source(`"github.com/redis/go-redis/v9"`)},
			project.wrongReach, []string{"pkg/flowexec must never reach github.com/redis/go-redis/v9: pkg/flowexec → pkg/connector → github.com/redis/go-redis/v9"},
		},
		{
			"direct only", fstest.MapFS{"pkg/scheduler/a.go": source(ours("pkg/batch"), `"math/rand/v2"`), "pkg/batch/a.go": source(`"crypto/rand"`)},
			project.wrongReach, []string{"pkg/scheduler must never reach math/rand/v2: pkg/scheduler → math/rand/v2"},
		},
		{
			"kit", fstest.MapFS{"pkg/worker/a.go": source(`"testing"`), "pkg/connector/conformance/a.go": source(`"testing"`)},
			project.wrongKits, []string{"pkg/worker imports testing, which is for tests"},
		},
		{
			"clock", fstest.MapFS{"pkg/scheduler/a.go": clock},
			project.impurities, []string{"pkg/scheduler/a.go starts a goroutine", "pkg/scheduler/a.go uses time.Now"},
		},
		{
			"nameless clock", fstest.MapFS{"pkg/scheduler/a.go": source(`. "time"`)},
			project.impurities, []string{"pkg/scheduler/a.go imports package time without a name, which hides its clocks"},
		},
		{
			"length", fstest.MapFS{"a.go": long, "b.go": generated, "c_test.go": long},
			project.longFiles, []string{"a.go has 601 lines, over 600"},
		},
	} {
		p, err := read(c.files)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got, want := c.check(p), slices.Clone(c.want)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", c.name, got, want)
		}
	}
}
