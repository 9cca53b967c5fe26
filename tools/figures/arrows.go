package main

import (
	"fmt"
	"go/ast"
	"go/types"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// arrow leads from one file of a package to another: a function of the first calls a function or method that the second declares.
// Types, variables and constants make no arrows: a reader looks them up, and does not continue there.
type arrow struct{ from, to string }

// arrows are all arrows between the files of a package.
type arrows struct {
	all    map[arrow][]string // the called functions, in alphabetical order
	single bool               // the package has one file
	listed bool               // the package comment lists the files in reading order
	up     []arrow            // those to a file that stands earlier in the list, in the order of their file names
}

// arrowsOf finds the arrows of a package. A file that the list does not have makes no arrow that runs back up.
func arrowsOf(p *packages.Package) arrows {
	order := listed(p)
	called := map[arrow]map[string]bool{}
	for _, f := range p.Syntax {
		own := file(p, f)
		ast.Inspect(f, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			used := p.TypesInfo.Uses[id]
			if f, ok := used.(*types.Func); !ok || f.Pkg() != p.Types {
				return true
			}
			position := p.Fset.Position(used.Pos())
			other := position.Filename[strings.LastIndexAny(position.Filename, `/\`)+1:]
			if other == own {
				return true
			}
			one := arrow{own, other}
			if called[one] == nil {
				called[one] = map[string]bool{}
			}
			called[one][used.Name()] = true
			return true
		})
	}
	a := arrows{all: map[arrow][]string{}, single: len(p.Syntax) == 1, listed: len(order) > 0}
	for one, functions := range called {
		a.all[one] = slices.Sorted(maps.Keys(functions))
		if at, to := slices.Index(order, one.from), slices.Index(order, one.to); to >= 0 && to < at {
			a.up = append(a.up, one)
		}
	}
	slices.SortFunc(a.up, func(x, y arrow) int { return strings.Compare(x.from+" "+x.to, y.from+" "+y.to) })
	return a
}

// share puts the arrows that run back up into words, such as "12 (1 in 11)".
func (a arrows) share() string {
	switch {
	case a.single:
		return "-"
	case !a.listed:
		return "no list"
	case len(a.up) == 0:
		return "0"
	}
	return fmt.Sprintf("%d (1 in %.1f)", len(a.up), float64(len(a.all))/float64(len(a.up)))
}

// within reports whether at most one in n arrows runs back up.
func (a arrows) within(n int) bool { return a.listed && n*len(a.up) <= len(a.all) }

// printUp lists the arrows of a package that run back up, with the functions that make them.
func (a arrows) printUp(out io.Writer, name string) {
	if !a.listed {
		fmt.Fprintf(out, "The comment of %s does not list its files: write the list into doc.go\n", name)
		return
	}
	fmt.Fprintf(out, "In %s, %d of %d arrows between files run back up the list in doc.go:\n", name, len(a.up), len(a.all))
	for _, one := range a.up {
		fmt.Fprintf(out, "  %s → %s: %s\n", one.from, one.to, strings.Join(a.all[one], ", "))
	}
}

// listLine is a line of a package comment that lists a file: a bullet or a number, the file's name, and some text.
var listLine = regexp.MustCompile("^[ \t]*(?:[-*·] *|[0-9]+\\. *)?`?([A-Za-z0-9_]+\\.go)\\b")

// listed are the files of a package in the order in which the package comment lists them. It is empty where the comment lists fewer than
// half of the files, since a comment may begin a line with a file's name in passing.
func listed(p *packages.Package) []string {
	var out []string
	for _, f := range p.Syntax {
		if f.Doc == nil {
			continue
		}
		for line := range strings.Lines(f.Doc.Text()) {
			if found := listLine.FindStringSubmatch(line); found != nil && !slices.Contains(out, found[1]) {
				out = append(out, found[1])
			}
		}
	}
	if 2*len(out) < len(p.Syntax) || len(p.Syntax) < 2 {
		return nil
	}
	return out
}
