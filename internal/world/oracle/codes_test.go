package oracle

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// TestCodesAreThoseOfTheDocs shows that the tables of codes are those of docs/outcomes.md.
func TestCodesAreThoseOfTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../../docs/outcomes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rows, _ := strings.Cut(string(text), "## Codes of rows")
	rows, calls, found := strings.Cut(rows, "## Codes of calls")
	if !found {
		t.Fatal("docs/outcomes.md has no codes of rows and calls")
	}
	code := regexp.MustCompile(`[A-Z][A-Z_]+`)
	got := map[string]batch.Outcome{}
	for line := range strings.Lines(rows) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for o := batch.Done; o <= batch.Failed; o++ {
			if strings.TrimSpace(cells[2]) == o.String() {
				for _, c := range code.FindAllString(cells[1], -1) {
					got[c] = o
				}
			}
		}
	}
	if len(got) != len(rowCodes) {
		t.Errorf("docs/outcomes.md has %d codes of rows, the table %d", len(got), len(rowCodes))
	}
	for c, o := range got {
		if rowCodes[c] != o {
			t.Errorf("docs/outcomes.md says that %s is %s, the table %s", c, o, rowCodes[c])
		}
	}
	var names []string
	for line := range strings.Lines(calls) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			names = append(names, code.FindAllString(cells[1], -1)...)
		}
	}
	slices.Sort(names)
	want := slices.Clone(callCodes)
	slices.Sort(want)
	if !slices.Equal(slices.Compact(names), want) {
		t.Errorf("docs/outcomes.md has the codes of calls %v, the table %v", names, want)
	}
}
