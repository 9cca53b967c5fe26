package kisflow

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that docs/kisflow.md links is where it says, and K1 to K23 are all there.
func TestDocumentationLinksTests(t *testing.T) {
	const docs = "../../docs"
	text, err := os.ReadFile(filepath.Join(docs, "kisflow.md"))
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`\[(Test\w+)\]\(([^)]+)\)`)
	for _, link := range links.FindAllStringSubmatch(string(text), -1) {
		source, err := os.ReadFile(filepath.Join(docs, link[2]))
		if err != nil || !strings.Contains(string(source), "func "+link[1]+"(") {
			t.Errorf("%s has no %s (%v)", link[2], link[1], err)
		}
	}
	items := regexp.MustCompile(`(?m)^\| (K\d+|\d+) .*\]\(.*_test\.go\) \|$`).FindAllString(string(text), -1)
	if len(items) != 23+16 {
		t.Errorf("%d rows of the tables link a test, want 39", len(items))
	}
}
