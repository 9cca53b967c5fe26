package archtest

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var (
	testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w*)\(`)
	linkedTest   = regexp.MustCompile(`\[((?:Test|Fuzz|Benchmark|Example)\w*)\]\(([^)]+)/[^/)]+\)`)
	namedTest    = regexp.MustCompile("`((?:Test|Fuzz|Benchmark|Example)[A-Z]\\w*)(?:/[^`]*)?`(?: \\(((?:pkg|internal|e2e|examples|bench|tools|cmd)[a-z0-9/_-]*))?")
)

// testsOf maps the name of each test, benchmark, fuzz test and example to the folders that have one of that name.
func testsOf(root fs.FS) (map[string][]string, error) {
	tests := map[string][]string{}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		source, err := fs.ReadFile(root, name)
		for _, found := range testFunction.FindAllSubmatch(source, -1) {
			tests[string(found[1])] = append(tests[string(found[1])], path.Dir(name))
		}
		return err
	})
	return tests, err
}

// wrongTests looks up the tests that the page of that name mentions, in backquotes or as a link's text. A folder in parentheses behind the
// name has to be the test's, and so has the folder of the file to which the link leads.
func wrongTests(page, document string, tests map[string][]string) []string {
	var wrong []string
	mentioned := namedTest.FindAllStringSubmatch(document, -1)
	for _, link := range linkedTest.FindAllStringSubmatch(document, -1) {
		mentioned = append(mentioned, []string{"", link[1], path.Join(path.Dir(page), link[2])})
	}
	for _, found := range mentioned {
		name, folder := found[1], strings.TrimSuffix(found[2], "/")
		switch folders := tests[name]; {
		case len(folders) == 0:
			wrong = append(wrong, fmt.Sprintf("no test is named %s", name))
		case folder != "" && !slices.Contains(folders, folder):
			wrong = append(wrong, fmt.Sprintf("%s is not in %s but in %s", name, folder, strings.Join(folders, ", ")))
		}
	}
	return wrong
}

// pagesOf reads each page of the project's documents. The changelog is left out: it tells of files and tests as they were.
func pagesOf(root string) (map[string]string, error) {
	pages := map[string]string{}
	for _, pattern := range []string{"*.md", "bench/*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		for _, name := range found {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			if name, err = filepath.Rel(root, name); err != nil {
				return nil, err
			}
			if name != "CHANGELOG.md" {
				pages[filepath.ToSlash(name)] = string(text)
			}
		}
	}
	return pages, nil
}

// Every test, Go file, function and type that a document names is there.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	root := os.DirFS("../..")
	tests, err := testsOf(root)
	if err != nil {
		t.Fatal(err)
	}
	p, err := read(root)
	if err != nil {
		t.Fatal(err)
	}
	pages, err := pagesOf("../..")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		named += len(namedTest.FindAllString(pages[name], -1))
		for _, wrong := range slices.Concat(wrongTests(name, pages[name], tests), p.wrongPlaces(pages[name]), p.wrongTypes(pages[name])) {
			t.Errorf("%s: %s", name, wrong)
		}
	}
	if named < 30 {
		t.Errorf("the documents name %d tests: where are the others?", named)
	}
}

// The check of tests' names must be able to fail.
func TestNamesCatchWhatTheyAreFor(t *testing.T) {
	tests, err := testsOf(fstest.MapFS{
		"e2e/once/a_test.go": {Data: []byte("package p\n\nfunc TestOnce(t *testing.T) {}\nfunc TestingAid() {}\n")},
		"pkg/kis/a.go":       {Data: []byte("package p\n\nfunc TestGone(t *testing.T) {}\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := wrongTests("docs/a.md", "`TestOnce` (e2e/once), `TestOnce/killed` (e2e), `TestGone` (pkg/kis), [TestOnce](../e2e/once/a_test.go), [TestOnce](../e2e/a_test.go)", tests)
	want := []string{"TestOnce is not in e2e but in e2e/once", "no test is named TestGone", "TestOnce is not in e2e but in e2e/once"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
