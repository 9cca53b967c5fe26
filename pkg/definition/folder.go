package definition

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Load reads the documents of a folder or file as Read does, parses them, and checks that they fit together. It returns the set,
// and the documents sorted by kind and name. The error has all mistakes of all files; the other results are nil then.
func Load(dir string) (*Set, []Document, error) {
	docs, err := Read(dir)
	if err != nil {
		return nil, nil, err
	}
	s, err := NewSet(docs)
	if err != nil {
		return nil, nil, err
	}
	return s, s.Documents(), nil
}

// Read reads the documents of a file, or of the .yml and .yaml files of a folder and the folders in it, in the order of their
// paths. It does not parse them. It passes over files and folders whose names begin with a dot, since Kubernetes keeps copies of
// a mounted folder in those, and over test files in a folder (see IsTestFile and HasKind) and kustomization.yaml. It follows a symbolic link to a file, and
// does not follow one to a folder.
func Read(path string) ([]Document, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, batch.Errorf(batch.CodeNotFound, "reading definitions: %w", err)
	}
	if !info.IsDir() {
		return readFile(path)
	}
	var docs []Document
	err = fs.WalkDir(os.DirFS(path), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir() || !isYAML(name) || IsKustomization(name):
			return nil
		}
		text, err := os.ReadFile(filepath.Join(path, filepath.FromSlash(name)))
		if err != nil || IsTestFile(name) && !HasKind(text) {
			return err
		}
		docs = append(docs, Split(filepath.Join(path, filepath.FromSlash(name)), text)...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading definitions under %s: %w", path, err)
	}
	if len(docs) == 0 {
		return nil, batch.Errorf(batch.CodeNotFound, "no .yml or .yaml file is under %s", path)
	}
	return docs, nil
}

// IsTestFile reports whether the name of a file is that of a test file: it ends in _test.yml or _test.yaml. Such a file with HasKind has
// documents all the same.
func IsTestFile(name string) bool {
	return isYAML(name) && strings.HasSuffix(strings.TrimSuffix(name, filepath.Ext(name)), "_test")
}

// IsKustomization reports whether a file is one that kubectl apply -k reads, and no documents.
func IsKustomization(name string) bool {
	base := filepath.Base(name)
	return base == "kustomization.yaml" || base == "kustomization.yml"
}

// HasKind reports whether a line of a file begins with kistype:, as a line of every document does and of a test file does not.
func HasKind(text []byte) bool {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("kistype:")) {
			return true
		}
	}
	return false
}

// isYAML reports whether the name of a file ends in .yml or .yaml.
func isYAML(name string) bool {
	ext := filepath.Ext(name)
	return ext == ".yml" || ext == ".yaml"
}

// readFile reads the documents of one file. It does not parse them.
func readFile(path string) ([]Document, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading definitions: %w", err)
	}
	return Split(path, text), nil
}

// Split cuts the text of a file into documents, at the lines that are --- or begin with --- and a space. path is the file, for
// messages. If the text has no document, it is returned as one, which Parse refuses. The documents share the memory of text.
func Split(path string, text []byte) []Document {
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // some editors begin a file with this mark
	var docs []Document
	start, first := 0, 1 // of the document being read: its first byte and its line
	content := false     // whether it has something other than blanks, comments and directives
	at, line := 0, 0
	for l := range bytes.Lines(text) {
		line++
		said := trimComment(l)
		if isMarker(l) {
			if content {
				docs = append(docs, Document{Path: path, Line: first, YAML: text[start:at:at]})
				start, first, content = at, line, false
			}
			if said = trimComment(l[len("---"):]); len(said) == 0 && start == at {
				start, first = at+len(l), line+1 // the document does without a bare marker
			}
		} else if len(said) > 0 && said[0] == '%' {
			said = nil
		}
		content = content || len(said) > 0
		at += len(l)
	}
	if content || docs == nil {
		docs = append(docs, Document{Path: path, Line: first, YAML: text[start:]})
	}
	return docs
}

// isMarker reports whether a line begins a new document: it is ---, alone or with a space or tab behind it. YAML has no line of
// that kind inside a document, not even in a block of text.
func isMarker(line []byte) bool {
	rest, found := bytes.CutPrefix(line, []byte("---"))
	return found && (len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0)
}

// trimComment returns a line without the space around it. For a line that is a comment, it returns nil.
func trimComment(line []byte) []byte {
	line = bytes.TrimSpace(line)
	if bytes.HasPrefix(line, []byte("#")) {
		return nil
	}
	return line
}
