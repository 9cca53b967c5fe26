package archtest

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Each decision record has a number of its own, a date, all its parts, and a line in the table of docs/decisions/README.md.
func TestDecisionRecords(t *testing.T) {
	const dir = "../../docs/decisions/"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile(dir + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^([0-9]{4})-[a-z0-9-]+\.md$`)
	records := 0
	for _, e := range entries {
		if e.Name() == "README.md" {
			continue
		}
		number := name.FindStringSubmatch(e.Name())
		records++
		if number == nil || number[1] != fmt.Sprintf("%04d", records) {
			t.Errorf("%s is record %d: name it %04d-what-it-says.md", e.Name(), records, records)
		}
		text, err := os.ReadFile(dir + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		title, ok := strings.CutPrefix(lines[0], fmt.Sprintf("# %d. ", records))
		if !ok || len(lines) < 3 {
			t.Errorf("%s begins with %q: begin with # %d. and its title, then a line for its date", e.Name(), lines[0], records)
			continue
		}
		if _, err := time.Parse(time.DateOnly, lines[2]); err != nil {
			t.Errorf("%s has no date in its third line: %v", e.Name(), err)
		}
		var parts []string
		for _, line := range lines {
			if part, ok := strings.CutPrefix(line, "## "); ok {
				parts = append(parts, part)
			}
		}
		if want := []string{"Context", "Decision", "Alternatives", "Consequences"}; !slices.Equal(parts, want) {
			t.Errorf("%s has the parts %q, want %q", e.Name(), parts, want)
		}
		if line := fmt.Sprintf("| %d | [%s](%s) | %s |", records, title, e.Name(), lines[2]); !strings.Contains(string(table), line+"\n") {
			t.Errorf("docs/decisions/README.md lacks the line %s", line)
		}
	}
	if records < 10 {
		t.Errorf("there are %d records", records)
	}
}
