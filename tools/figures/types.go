package main

import (
	"go/ast"
	"go/types"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// size is how much hangs on one type.
type size struct {
	name    string
	methods int // its own, those that embedded types of the project promote to it, and functions whose first parameter it is
	files   int // in which these stand
}

// largest is the type of the package on which most hangs; of two alike the first by name.
func largest(p *packages.Package) size {
	functions := map[*types.TypeName][]*types.Func{}
	scope := p.Types.Scope()
	for _, name := range scope.Names() {
		f, ok := scope.Lookup(name).(*types.Func)
		if !ok || f.Signature().Params().Len() == 0 {
			continue
		}
		if t := named(f.Signature().Params().At(0).Type()); t != nil && t.Pkg() == p.Types {
			functions[t] = append(functions[t], f)
		}
	}
	var out size
	for _, name := range scope.Names() {
		t, ok := scope.Lookup(name).(*types.TypeName)
		if !ok || t.IsAlias() || types.IsInterface(t.Type()) {
			continue
		}
		all := functions[t]
		set := types.NewMethodSet(types.NewPointer(t.Type()))
		for i := range set.Len() {
			// Methods of another module's types, such as a mutex, say nothing of this one.
			if f, ok := set.At(i).Obj().(*types.Func); ok && f.Pkg() != nil && sameModule(f.Pkg().Path(), p) {
				all = append(all, f)
			}
		}
		if len(all) <= out.methods {
			continue
		}
		files := map[string]bool{}
		for _, f := range all {
			files[p.Fset.Position(f.Pos()).Filename] = true
		}
		out = size{name: t.Name(), methods: len(all), files: len(files)}
	}
	return out
}

func sameModule(path string, p *packages.Package) bool {
	return path == p.PkgPath || p.Module != nil && (path == p.Module.Path || strings.HasPrefix(path, p.Module.Path+"/"))
}

// named is the type's name, also behind pointers; nil where it has none.
func named(t types.Type) *types.TypeName {
	for {
		switch u := types.Unalias(t).(type) {
		case *types.Pointer:
			t = u.Elem()
		case *types.Named:
			return u.Origin().Obj()
		default:
			return nil
		}
	}
}

// arrows are those between the files of a package: one for each pair of files of which the first uses a function or method that
// the second declares. Types, variables and constants count for nothing: a reader looks them up, and does not go there.
type arrows struct {
	all    int
	listed bool // the package's comment lists its files in the order in which to read them
	up     int  // those that lead to a file which stands earlier in the list
}

func arrowsOf(p *packages.Package) arrows {
	order := listed(p)
	from := map[[2]string]bool{}
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
			if other := position.Filename[strings.LastIndexAny(position.Filename, `/\`)+1:]; other != own {
				from[[2]string{own, other}] = true
			}
			return true
		})
	}
	a := arrows{all: len(from), listed: len(order) > 0}
	for pair := range from {
		at, to := slices.Index(order, pair[0]), slices.Index(order, pair[1])
		if at >= 0 && to >= 0 && to < at {
			a.up++
		}
	}
	return a
}

// listLine is a line of a package's comment that lists a file: its name first, then what it is about.
var listLine = regexp.MustCompile("^[ \t]*(?:[-*·] *|[0-9]+\\. *)?`?([A-Za-z0-9_]+\\.go)\\b")

// listed lists the files in the order of the package's comment; none where fewer than half of them stand there, since a comment may
// begin a line with a file's name in passing.
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
