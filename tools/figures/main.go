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
	"strings"
	"text/tabwriter"

	"golang.org/x/tools/go/packages"
)

// main runs the command. An error ends it with exit code 1.
func main() {
	root := flag.String("root", ".", "`folder` of the module")
	draw := flag.Int("draw", 0, "print so many doc comments of exported names, and as many of others, instead of the table")
	up := flag.String("arrows", "", "list the arrows of this `package` that run back up, instead of the table")
	seed := flag.String("seed", "", "`text` from which -draw draws (default: the commit's hash)")
	flag.Parse()
	if err := run(os.Stdout, *root, *draw, *seed, *up); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

// run loads the module in a folder and prints doc comments where draw is above 0, the arrows of the package up where it is not empty, and
// the table otherwise.
func run(out io.Writer, root string, draw int, seed, up string) error {
	m, err := load(root)
	if err != nil {
		return err
	}
	if draw > 0 {
		if seed == "" {
			if seed, err = command(root, "git", "rev-parse", "HEAD"); err != nil {
				return fmt.Errorf("find the commit's hash to draw from; give -seed where there is no commit: %w", err)
			}
		}
		return m.draw(out, draw, seed)
	}
	if up != "" {
		for _, p := range m.packages {
			if m.name(p) == up {
				arrowsOf(p).printUp(out, up)
				return nil
			}
		}
		return fmt.Errorf("-arrows %s: the module has no such package: write its path within the module, such as pkg/client", up)
	}
	return m.print(out)
}

// module is the code that is counted: all packages of a module, without tests and without generated files.
type module struct {
	root, path string
	packages   []*packages.Package // in the order of their paths
}

// load reads and type-checks every package of the module in a folder. It leaves generated files out of the counts.
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
			return nil, fmt.Errorf("package %s does not compile, so nothing can be counted: %w", p.PkgPath, p.Errors[0])
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
		return nil, fmt.Errorf("%s has no Go package: give the folder of a module with -root", root)
	}
	slices.SortFunc(m.packages, func(a, b *packages.Package) int { return strings.Compare(a.PkgPath, b.PkgPath) })
	return m, nil
}

// name is the path of a package within the module; the package at the top is called ".".
func (m *module) name(p *packages.Package) string {
	if p.PkgPath == m.path {
		return "."
	}
	return strings.TrimPrefix(p.PkgPath, m.path+"/")
}

// file is the name of the file in which a node stands, without its folder.
func file(p *packages.Package, n ast.Node) string {
	return filepath.Base(p.Fset.Position(n.Pos()).Filename)
}

// print prints the table, and the figures of the whole module below it.
func (m *module) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 1, 1, ' ', tabwriter.Debug)
	fmt.Fprintln(w, "| package\t largest type\t its methods and functions\t in files\t arrows between files\t of these, back up\t comment lines per code line\t \"what\" per 1,000 words\t without doc comment: exported\t others")
	fmt.Fprintln(w, "|---\t---\t---\t---\t---\t---\t---\t---\t---\t---")
	var all text
	var bareExported, bareOthers int // names without a doc comment
	limits := ""
	for _, p := range m.packages {
		c := countText(p)
		all.add(c)
		t, a := largest(p), arrowsOf(p)
		exported, others := missing(p)
		bareExported, bareOthers = bareExported+exported, bareOthers+others
		fmt.Fprintf(w, "| %s\t %s\t %d\t %d\t %d\t %s\t %.2f\t %.1f\t %d\t %d\n", m.name(p), orDash(t.name), t.methods, t.files, len(a.all), a.share(), c.commented(), c.whats(), exported, others)
		if m.name(p) == limitedPackage {
			limits = fmt.Sprintf("%s: of %d arrows between files, these run back up: %s; allowed is at most 1 in %d: %s.\nThe largest type, %s, has %d methods; allowed are %d: %s.\n",
				limitedPackage, len(a.all), a.share(), maxUp, verdict(a.within(maxUp)), t.name, t.methods, maxMethods, verdict(t.methods <= maxMethods))
		}
	}
	fmt.Fprintf(w, "| together\t \t \t \t \t \t %.2f\t %.1f\t %d\t %d\n", all.commented(), all.whats(), bareExported, bareOthers)
	if err := w.Flush(); err != nil {
		return err
	}
	diagrams, err := m.diagrams()
	if err != nil {
		return err
	}
	fmt.Fprint(out, "\nAn arrow between files: a file calls a function that another file of the package declares. It runs back up when the other file\n"+
		"stands earlier in the list of files in doc.go. -arrows PACKAGE lists those. \"No list\": doc.go lists fewer than half of the files.\n")
	fmt.Fprint(out, limits)
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

// pkg/flowexec alone has limits: at most one in maxUp arrows runs back up, and no type has more than maxMethods methods.
const (
	limitedPackage = "pkg/flowexec"
	maxUp          = 8
	maxMethods     = 45
)

// verdict says whether a limit is kept.
func verdict(kept bool) string {
	if kept {
		return "kept"
	}
	return "NOT KEPT"
}

// orDash is s, or a dash where s is empty.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// heavy are packages that a client does not need.
var heavy = []string{"promhttp", "net/http/pprof", "google.golang.org/grpc/reflection", "github.com/spf13/pflag"}

// links tells how many packages a program links that imports the named package, and which heavy ones are among them.
func (m *module) links(name string) (string, error) {
	if _, err := os.Stat(filepath.Join(m.root, name)); err != nil {
		return fmt.Sprintf("Packages linked by %s: there is no such package", name), nil //nolint:nilerr // a module without it can be counted, too
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

// command runs a program in a folder and returns its standard output, without spaces and newlines at both ends.
func command(dir, name string, args ...string) (string, error) {
	c := exec.Command(name, args...) //nolint:gosec,noctx // the program is one of two that this one names; it ends with this one
	c.Dir = dir
	text, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s in %s: %w", name, strings.Join(args, " "), dir, err)
	}
	return strings.TrimSpace(string(text)), nil
}
