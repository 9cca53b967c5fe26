package casefile

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Suite is the test files of a folder, sorted by path.
type Suite struct{ Files []*File }

// File is one test file.
type File struct {
	// Path is the path of the file, for messages too.
	Path  string
	Cases []*Case
	// Set has the documents that the cases are about.
	Set *definition.Set

	text []byte
}

// Case is one test: rows that run through a flow, and how that should end. A field that says what is wanted is nil if the case does not
// compare that.
type Case struct {
	// Name is `name`, which no other case of the file has. Line is the line where the case begins.
	Name string
	Line int
	// Flow is `flow`.
	Flow string

	rows     [][]byte // `rows`, or the rows of the file `rows_file`, each as JSON
	before   []holding
	output   *wantedOutput
	outcomes *wantedOutcomes
	after    []holding

	span span // where the case stands in its file, for Update
}

// compares reports whether the case wants anything.
func (c *Case) compares() bool { return c.output != nil || c.outcomes != nil || c.after != nil }

// wantedOutput is `output`: the rows that the flow gives, in order.
type wantedOutput struct{ rows []wantedRow }

// wantedRow is one row of wantedOutput. json is the row as JSON, line its line in the file.
type wantedRow struct {
	json []byte
	line int
}

// wantedOutcomes is `outcomes`, by row from 0. Rows that are not in it are done.
type wantedOutcomes struct{ rows map[int]wantedOutcome }

// wantedOutcome is how one row ends. An empty field is not compared.
type wantedOutcome struct {
	line     int
	outcome  batch.Outcome
	function string
	code     string
	reason   *string
	contains string // a part of the reason
}

// holding is the data of one connector: under `before` or `after`.
type holding struct {
	connector string
	line      int
	keys      []heldKey
}

// heldKey is one key of a connector, with a hash or a list. It is a list if fields is nil.
type heldKey struct {
	key    string
	line   int
	fields []heldField
	list   []heldValue
}

// heldField is one field of a hash.
type heldField struct {
	name  string
	value heldValue
}

// heldValue is a stored text. number says that the file has a number, which is compared as such; json that it has a list or an object.
type heldValue struct {
	text         string
	number, json bool
}

// Load reads the documents and the test files of a folder and the folders in it. All test files are about all documents. But if documents in
// two folders have the same name, as those of two projects may, each test file is about the documents of its own folder and the folders in it. path
// may also be one test file, with the documents of its folder. The error has every mistake in documents and test files, as a
// definition.Mistakes.
func Load(path string) (*Suite, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, batch.Errorf(batch.CodeNotFound, "read the tests: %w", err)
	}
	dir, paths := path, []string{path}
	if !info.IsDir() {
		dir = filepath.Dir(path)
	} else if paths, err = testFiles(path); err != nil {
		return nil, err
	}
	docs, err := definition.Read(dir)
	if err != nil {
		return nil, err
	}
	s := &Suite{}
	var mistakes definition.Mistakes
	var set *definition.Set
	if !clash(docs) {
		set, err = definition.NewSet(docs)
		mistakes = definition.MistakesOf(err)
	}
	own := map[string]*definition.Set{} // by folder
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			return nil, batch.Errorf(batch.CodeNotFound, "read the tests: %w", err)
		}
		of := set
		if folder := filepath.Dir(p); of == nil {
			if own[folder] == nil {
				docs, err := definition.Read(folder)
				if err != nil {
					return nil, err
				}
				own[folder], err = definition.NewSet(docs)
				mistakes = append(mistakes, definition.MistakesOf(err)...)
			}
			of = own[folder]
		}
		f, wrong := readFile(p, text, of)
		s.Files = append(s.Files, f)
		mistakes = append(mistakes, wrong...)
	}
	if len(mistakes) > 0 {
		return nil, batch.Errorf(batch.CodeBadDocument, "%w", mistakes)
	}
	return s, nil
}

// clash reports whether documents in two folders have the same kind and name.
func clash(docs []definition.Document) bool {
	folders := map[string]string{} // by kind and name
	for _, d := range docs {
		p, err := definition.Parse(d)
		if err != nil {
			continue
		}
		of := p.Document()
		key, folder := string(of.Kind)+"/"+of.Name, filepath.Dir(d.Path)
		if other, twice := folders[key]; twice && other != folder {
			return true
		}
		folders[key] = folder
	}
	return false
}

// testFiles finds the test files in a folder and the folders in it, as definition.Read finds documents.
func testFiles(dir string) ([]string, error) {
	var paths []string
	files := os.DirFS(dir)
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir() || !definition.IsTestFile(name):
			return nil
		}
		text, err := fs.ReadFile(files, name)
		if err == nil && !definition.HasKind(text) {
			paths = append(paths, filepath.Join(dir, filepath.FromSlash(name)))
		}
		return err
	})
	if err != nil {
		return nil, batch.Errorf(batch.CodeNotFound, "read the tests under %s: %w", dir, err)
	}
	return paths, nil
}

// sorted returns the keys of a holding in their order.
func (h *holding) sorted() []heldKey {
	return slices.SortedFunc(slices.Values(h.keys), func(a, b heldKey) int { return cmp.Compare(a.key, b.key) })
}
