package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var markdownLink = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)

// fenced is a block between fences: code, in which a[b](c) is no link.
var fenced = regexp.MustCompile("(?ms)^```.*?^```$")

// Each document is on the map, docs/README.md, and no link in a document leads nowhere.
func TestDocumentsAreOnTheMap(t *testing.T) {
	const root = "../.."
	var pages []string
	for _, pattern := range []string{"*.md", "bench/*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	linked := map[string]bool{} // from the map
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range markdownLink.FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			target := filepath.Join(filepath.Dir(page), link[1])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", page, link[1])
			}
			if page == filepath.Join(root, "docs/README.md") {
				linked[target] = true
			}
		}
	}
	for _, page := range pages {
		if page == filepath.Join(root, "docs/README.md") || strings.HasPrefix(page, filepath.Join(root, "docs/decisions")+string(filepath.Separator)+"0") {
			continue // the map itself, and records, which have a table of their own
		}
		if !linked[page] {
			t.Errorf("docs/README.md has no link to %s: say there who needs it", page)
		}
	}
	if len(linked) < 10 {
		t.Errorf("the map has %d links", len(linked))
	}
}
