// Command figures prints counts of what makes the project's code hard to enter, as tables in Markdown: how large the largest types
// are, how many arrows between files of a package run against the order in which its comment lists them, how much is commented,
// and what a program links that imports the client. The counts are to be looked at beside each other; none of them is a limit.
//
//	go run ./figures -root ..
//	go run ./figures -root .. -draw 20
//
// With -draw it prints doc comments instead, drawn by the commit's hash: so many of exported names and as many of others. Somebody
// who has not seen the code explains them, which shows what no count does.
package main

import (
	"flag"
	"fmt"
	"go/ast"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"golang.org/x/tools/go/packages"
)

func main() {
	root := flag.String("root", ".", "`folder` of the module")
	draw := flag.Int("draw", 0, "print so many doc comments of exported names and of others, instead of the tables")
	seed := flag.String("seed", "", "`text` that -draw draws by (default: the commit's hash)")
	flag.Parse()
	if err := run(os.Stdout, *root, *draw, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, root string, draw int, seed string) error {
	m, err := load(root)
	if err != nil {
		return err
	}
	if draw > 0 {
		if seed == "" {
			if seed, err = command(root, "git", "rev-parse", "HEAD"); err != nil {
				return fmt.Errorf("find the commit to draw by; give -seed where there is none: %w", err)
			}
		}
		return m.draw(out, draw, seed)
	}
	return m.print(out)
}

// module is the code that is counted: what somebody wrote and is no test.
type module struct {
	root, path string
	packages   []*packages.Package // in the order of their paths
}

// load type-checks every package of the module. Files that a generator wrote are left out of the counts.
func load(root string) (*module, error) {
	all, err := packages.Load(&packages.Config{
		Dir:  root,
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedImports | packages.NeedModule,
	}, "./...")
	if err != nil {
		return nil, err
	}
	m := &module{root: root}
	for _, p := range all {
		if len(p.Errors) > 0 {
			return nil, fmt.Errorf("package %s does not compile, so that nothing can be counted: %w", p.PkgPath, p.Errors[0])
		}
		p.Syntax = slices.DeleteFunc(p.Syntax, ast.IsGenerated)
		if p.Module != nil {
			m.path = p.Module.Path
		}
		if len(p.Syntax) > 0 {
			m.packages = append(m.packages, p)
		}
	}
	if len(m.packages) == 0 {
		return nil, fmt.Errorf("%s holds no package: name the folder of a module", root)
	}
	slices.SortFunc(m.packages, func(a, b *packages.Package) int { return strings.Compare(a.PkgPath, b.PkgPath) })
	return m, nil
}

// name is a package's path within the module.
func (m *module) name(p *packages.Package) string {
	if p.PkgPath == m.path {
		return "."
	}
	return strings.TrimPrefix(p.PkgPath, m.path+"/")
}

// file is the name of the file that a node is in.
func file(p *packages.Package, n ast.Node) string {
	return filepath.Base(p.Fset.Position(n.Pos()).Filename)
}

func (m *module) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 1, 1, ' ', tabwriter.Debug)
	fmt.Fprintln(w, "| package\t largest type\t its methods and functions\t in files\t arrows between files\t that run back up\t comment lines per code line\t \"what\" per 1,000 words")
	fmt.Fprintln(w, "|---\t---\t---\t---\t---\t---\t---\t---")
	var all text
	for _, p := range m.packages {
		c := countText(p)
		all.add(c)
		t, a := largest(p), arrowsOf(p)
		up := "no list"
		if a.listed {
			up = strconv.Itoa(a.up)
		}
		fmt.Fprintf(w, "| %s\t %s\t %d\t %d\t %d\t %s\t %.2f\t %.1f\n", m.name(p), orDash(t.name), t.methods, t.files, a.all, up, c.commented(), c.whats())
	}
	fmt.Fprintf(w, "| together\t \t \t \t \t \t %.2f\t %.1f\n", all.commented(), all.whats())
	if err := w.Flush(); err != nil {
		return err
	}
	diagrams, err := m.diagrams()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nDiagrams in documents and comments: %d\n", diagrams)
	for _, name := range []string{"./pkg/client", "./pkg/kis"} {
		line, err := m.links(name)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, line)
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// heavy are packages that a client has no use for.
var heavy = []string{"promhttp", "net/http/pprof", "google.golang.org/grpc/reflection", "github.com/spf13/pflag"}

// links says how many packages a program links that imports one, and which of the heavy ones.
func (m *module) links(name string) (string, error) {
	if _, err := os.Stat(filepath.Join(m.root, name)); err != nil {
		return fmt.Sprintf("Packages linked by %s: it is not there", name), nil //nolint:nilerr // a module without it is counted, too
	}
	list, err := command(m.root, "go", "list", "-deps", name)
	if err != nil {
		return "", err
	}
	linked := strings.Fields(list)
	var found []string
	for _, h := range heavy {
		if slices.ContainsFunc(linked, func(l string) bool { return l == h || strings.HasSuffix(l, "/"+h) }) {
			found = append(found, h)
		}
	}
	if found == nil {
		found = []string{"none"}
	}
	return fmt.Sprintf("Packages linked by %s: %d; of promhttp, pprof, reflection and pflag: %s", name, len(linked), strings.Join(found, ", ")), nil
}

// command runs a program in a folder and returns what it prints, without the last newline.
func command(dir, name string, args ...string) (string, error) {
	c := exec.Command(name, args...) //nolint:gosec,noctx // the program is one of two that this one names; it ends with this one
	c.Dir = dir
	text, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s in %s: %w", name, strings.Join(args, " "), dir, err)
	}
	return strings.TrimSpace(string(text)), nil
}
