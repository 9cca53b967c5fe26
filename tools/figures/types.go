package main

import (
	"go/types"
	"strings"

	"golang.org/x/tools/go/packages"
)

// size is how large one type is.
type size struct {
	name    string
	methods int // its own methods, those that embedded types of the project promote to it, and functions whose first parameter it is
	files   int // how many files these stand in
}

// largest is the type of the package with the most methods; ties go to the first by name.
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
			// Methods of another module's types, such as those of an embedded mutex, are not counted.
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

// sameModule reports whether a package path belongs to the module of p.
func sameModule(path string, p *packages.Package) bool {
	return path == p.PkgPath || p.Module != nil && (path == p.Module.Path || strings.HasPrefix(path, p.Module.Path+"/"))
}

// named is the name of a type, or of the type that a pointer leads to. Nil means that the type has no name.
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
