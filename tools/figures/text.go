package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/scanner"
	"go/token"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// text is how much of some files is commented, and how.
type text struct {
	comments int // lines with a comment alone
	code     int // lines with code, also where a comment stands behind it
	words    int // of comments
	what     int // of these the word "what", in any case
}

func (t *text) add(other text) {
	t.comments += other.comments
	t.code += other.code
	t.words += other.words
	t.what += other.what
}

func (t text) commented() float64 { return float64(t.comments) / float64(max(t.code, 1)) }
func (t text) whats() float64     { return 1000 * float64(t.what) / float64(max(t.words, 1)) }

var word = regexp.MustCompile(`[A-Za-z]+(?:['’][a-z]+)?`)

// countText counts the package's files. A file that can't be read was read a moment ago: it counts for nothing.
func countText(p *packages.Package) (t text) {
	for _, f := range p.Syntax {
		source, err := os.ReadFile(p.Fset.Position(f.Pos()).Filename)
		if err != nil {
			continue
		}
		t.add(countSource(source))
	}
	return t
}

func countSource(source []byte) (t text) {
	files := token.NewFileSet()
	f := files.AddFile("", -1, len(source))
	var s scanner.Scanner
	s.Init(f, source, nil, scanner.ScanComments)
	code, comments := map[int]bool{}, map[int]bool{}
	for {
		pos, tok, literal := s.Scan()
		if tok == token.EOF {
			break
		}
		if tok == token.SEMICOLON && literal == "\n" {
			continue // it was not written
		}
		first := f.Line(pos)
		last := first + strings.Count(literal, "\n")
		lines := code
		if tok == token.COMMENT {
			lines = comments
			for _, w := range word.FindAllString(literal, -1) {
				t.words++
				if strings.EqualFold(w, "what") {
					t.what++
				}
			}
		}
		for line := first; line <= last; line++ {
			lines[line] = true
		}
	}
	t.code = len(code)
	for line := range comments {
		if !code[line] {
			t.comments++
		}
	}
	return t
}

// drawn is a line of a picture: with boxes or arrows made of characters.
var drawn = regexp.MustCompile(`[─│┌┐└┘├┤┬┴┼▶◀▲▼]|--+>|<--+`)

// diagrams counts Mermaid's blocks in documents, and comments of which two lines at least are drawn.
func (m *module) diagrams() (n int, err error) {
	err = filepath.WalkDir(m.root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && path != m.root && (strings.HasPrefix(e.Name(), ".") || e.Name() == "bin"):
			return fs.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		source, err := os.ReadFile(path) //nolint:gosec // a checkout is read by whom it belongs to
		n += strings.Count(string(source), "```mermaid")
		return err
	})
	for _, p := range m.packages {
		for _, f := range p.Syntax {
			for _, group := range f.Comments {
				lines := 0
				for line := range strings.Lines(group.Text()) {
					if drawn.MatchString(line) {
						lines++
					}
				}
				if lines >= 2 {
					n++
				}
			}
		}
	}
	return n, err
}

// comment is one doc comment.
type comment struct{ place, name, text string }

// draw prints doc comments that the seed chooses. The same code and seed give the same ones.
func (m *module) draw(out io.Writer, n int, seed string) error {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(seed)) // never fails: see hash.Hash
	random := rand.New(rand.NewPCG(hash.Sum64(), 0))
	exported, others := m.comments()
	for _, kind := range []struct {
		title    string
		comments []comment
	}{{"Exported", exported}, {"Not exported", others}} {
		random.Shuffle(len(kind.comments), func(i, j int) { kind.comments[i], kind.comments[j] = kind.comments[j], kind.comments[i] })
		if _, err := fmt.Fprintf(out, "# %s, %d of %d, drawn by %s\n\n", kind.title, min(n, len(kind.comments)), len(kind.comments), seed); err != nil {
			return err
		}
		for _, c := range kind.comments[:min(n, len(kind.comments))] {
			if _, err := fmt.Fprintf(out, "%s %s\n%s\n", c.place, c.name, c.text); err != nil {
				return err
			}
		}
	}
	return nil
}

// comments lists the doc comments of functions, methods, types, and what is declared beside them, in a fixed order.
func (m *module) comments() (exported, others []comment) {
	for _, p := range m.packages {
		note := func(n ast.Node, name string, doc *ast.CommentGroup) {
			if doc == nil || strings.TrimSpace(doc.Text()) == "" {
				return
			}
			c := comment{fmt.Sprintf("%s/%s:%d", m.name(p), file(p, n), p.Fset.Position(n.Pos()).Line), name, doc.Text()}
			if ast.IsExported(name) {
				exported = append(exported, c)
			} else {
				others = append(others, c)
			}
		}
		for _, f := range p.Syntax {
			for _, d := range f.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					note(d, d.Name.Name, d.Doc)
				case *ast.GenDecl:
					for _, s := range d.Specs {
						switch s := s.(type) {
						case *ast.TypeSpec:
							note(s, s.Name.Name, cmp.Or(s.Doc, d.Doc))
						case *ast.ValueSpec:
							note(s, s.Names[0].Name, s.Doc)
						}
					}
				}
			}
		}
	}
	by := func(a, b comment) int { return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.name, b.name)) }
	slices.SortFunc(exported, by)
	slices.SortFunc(others, by)
	return exported, others
}
