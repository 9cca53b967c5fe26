package main

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/tools/go/packages"
)

// text counts the lines of some files, and the words of their comments.
type text struct {
	comments int // lines that have a comment and no code
	code     int // lines that have code, with or without a comment behind it
	words    int // words in comments
	what     int // how many of these words are "what", in upper or lower case
}

// add adds the counts of other.
func (t *text) add(other text) {
	t.comments += other.comments
	t.code += other.code
	t.words += other.words
	t.what += other.what
}

// commented is the number of comment lines for each line of code.
func (t text) commented() float64 { return float64(t.comments) / float64(max(t.code, 1)) }

// whats is how often the word "what" stands in 1,000 words of comments.
func (t text) whats() float64 { return 1000 * float64(t.what) / float64(max(t.words, 1)) }

// word is a word of a comment.
var word = regexp.MustCompile(`[A-Za-z]+(?:['’][a-z]+)?`)

// countText counts the files of a package. A file that can't be read any more is left out.
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

// countSource counts one file.
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
			continue // the scanner added it, nobody wrote it
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

// drawn is a line of a picture: it has boxes or arrows made of characters.
var drawn = regexp.MustCompile(`[─│┌┐└┘├┤┬┴┼▶◀▲▼]|--+>|<--+`)

// diagrams counts the Mermaid blocks in documents, and the comments that have at least two drawn lines.
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
