package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// declared is a function, method, type, constant or variable, and its doc comment. An empty comment means that it has none. A method is
// exported when its receiver's type is, too.
type declared struct {
	place, name, comment string
	exported             bool
}

// missing counts the exported and the unexported names of a package that have no doc comment. A method that implements an interface
// and a constant within a group count as others do.
func missing(p *packages.Package) (exported, others int) {
	for _, d := range declarations(p, "") {
		switch {
		case d.comment != "":
		case d.exported:
			exported++
		default:
			others++
		}
	}
	return exported, others
}

// draw prints doc comments that the seed chooses. The same code and seed give the same comments.
func (m *module) draw(out io.Writer, n int, seed string) error {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(seed)) // never fails: see hash.Hash
	random := rand.New(rand.NewPCG(hash.Sum64(), 0))
	exported, others := m.commented()
	for _, kind := range []struct {
		title    string
		comments []declared
	}{{"Exported", exported}, {"Not exported", others}} {
		random.Shuffle(len(kind.comments), func(i, j int) { kind.comments[i], kind.comments[j] = kind.comments[j], kind.comments[i] })
		if _, err := fmt.Fprintf(out, "# %s, %d of %d, drawn by %s\n\n", kind.title, min(n, len(kind.comments)), len(kind.comments), seed); err != nil {
			return err
		}
		for _, c := range kind.comments[:min(n, len(kind.comments))] {
			if _, err := fmt.Fprintf(out, "%s %s\n%s\n", c.place, c.name, c.comment); err != nil {
				return err
			}
		}
	}
	return nil
}

// commented lists the exported and the unexported names of the module that have a doc comment, in the order of their places.
func (m *module) commented() (exported, others []declared) {
	for _, p := range m.packages {
		for _, d := range declarations(p, m.name(p)+"/") {
			switch {
			case d.comment == "":
			case d.exported:
				exported = append(exported, d)
			default:
				others = append(others, d)
			}
		}
	}
	by := func(a, b declared) int { return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.name, b.name)) }
	slices.SortFunc(exported, by)
	slices.SortFunc(others, by)
	return exported, others
}

// declarations lists what the files of a package declare. Folder stands before the file's name in each place. The comment of a group
// counts for a type in it, and not for a constant or variable. The names main, init and _ are left out, where they have no comment.
func declarations(p *packages.Package, folder string) (all []declared) {
	add := func(n ast.Node, name string, exported bool, doc *ast.CommentGroup) {
		d := declared{place: fmt.Sprintf("%s%s:%d", folder, file(p, n), p.Fset.Position(n.Pos()).Line), name: name, exported: exported}
		if doc != nil && strings.TrimSpace(doc.Text()) != "" {
			d.comment = doc.Text()
		} else if name == "main" || name == "init" || name == "_" {
			return
		}
		all = append(all, d)
	}
	for _, f := range p.Syntax {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				add(d, d.Name.Name, d.Name.IsExported() && (d.Recv == nil || exportedReceiver(d.Recv)), d.Doc)
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						add(s, s.Name.Name, s.Name.IsExported(), cmp.Or(s.Doc, d.Doc))
					case *ast.ValueSpec:
						doc := s.Doc
						if doc == nil && !d.Lparen.IsValid() {
							doc = d.Doc // it stands before the word const or var
						}
						add(s, s.Names[0].Name, s.Names[0].IsExported(), cmp.Or(doc, s.Comment))
					}
				}
			}
		}
	}
	return all
}

// exportedReceiver reports whether the type of a method's receiver is exported.
func exportedReceiver(receiver *ast.FieldList) bool {
	t := receiver.List[0].Type
	for {
		switch u := t.(type) {
		case *ast.StarExpr:
			t = u.X
		case *ast.IndexExpr: // of a generic type
			t = u.X
		case *ast.IndexListExpr:
			t = u.X
		case *ast.Ident:
			return u.IsExported()
		default:
			return false
		}
	}
}
