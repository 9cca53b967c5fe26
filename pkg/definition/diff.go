package definition

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
)

// Change is a document that differs between two states of a set of documents.
type Change struct {
	Kind Kind
	Name string
	// Before is the document in the first state, After in the second; nil means that the state does not have the document.
	Before, After *Document
}

// Diff returns the documents that differ between the states before and after: those whose YAML differs, and those that only one
// state has. Documents with the same kind and name are compared, so both must be set. The changes are sorted by kind (flow,
// func, conn, global) and name.
func Diff(before, after []Document) []Change {
	changes := make(map[reference]Change)
	for i := range before {
		d := &before[i]
		changes[reference{d.Kind, d.Name}] = Change{Kind: d.Kind, Name: d.Name, Before: d}
	}
	for i := range after {
		d := &after[i]
		ref := reference{d.Kind, d.Name}
		c, ok := changes[ref]
		if ok && bytes.Equal(c.Before.YAML, d.YAML) {
			delete(changes, ref)
			continue
		}
		changes[ref] = Change{Kind: d.Kind, Name: d.Name, Before: c.Before, After: d}
	}
	sorted := make([]Change, 0, len(changes))
	for _, c := range changes {
		sorted = append(sorted, c)
	}
	slices.SortFunc(sorted, func(a, b Change) int {
		return cmp.Or(slices.Index(kinds, string(a.Kind))-slices.Index(kinds, string(b.Kind)), cmp.Compare(a.Name, b.Name))
	})
	return sorted
}

// maxCompared is the largest number of pairs of lines, the lines before times the lines after, that String compares line by
// line: the time for that grows faster than the square of the number of lines.
const maxCompared = 1 << 20

// String returns the change as a unified diff. If very many lines differ, all lines between the first and the last one that
// differs are shown as changed.
func (c Change) String() string {
	if text, large := c.replaced(); large {
		return text
	}
	text, _ := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: lines(c.Before), FromFile: c.side(c.Before),
		B: lines(c.After), ToFile: c.side(c.After),
		Context: 3,
	}) // writing to memory does not fail
	return text
}

// replaced returns the change as a unified diff with one block: all lines removed, then all lines added, from the first line
// that differs to the last. large is false, and text empty, if there are few enough lines to compare them one by one.
func (c Change) replaced() (text string, large bool) {
	const context = 3
	before, after := lines(c.Before), lines(c.After)
	first, most := 0, min(len(before), len(after))
	for first < most && before[first] == after[first] {
		first++
	}
	last := 0
	for last < most-first && before[len(before)-1-last] == after[len(after)-1-last] {
		last++
	}
	if (len(before)-first-last)*(len(after)-first-last) <= maxCompared {
		return "", false
	}
	from, tail := max(0, first-context), min(last, context)
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n@@ -%d,%d +%d,%d @@\n", c.side(c.Before), c.side(c.After),
		from+1, len(before)-last+tail-from, from+1, len(after)-last+tail-from)
	write := func(mark byte, some []string) {
		for _, line := range some {
			out.WriteByte(mark)
			out.WriteString(line)
		}
	}
	write(' ', before[from:first])
	write('-', before[first:len(before)-last])
	write('+', after[first:len(after)-last])
	write(' ', after[len(after)-last:len(after)-last+tail])
	return out.String(), true
}

// side returns the name of d, the document before or after the change, for the first lines of a diff. A nil document is called
// /dev/null.
func (c Change) side(d *Document) string {
	switch {
	case d == nil:
		return "/dev/null"
	case d.Revision != 0:
		return fmt.Sprintf("%s/%s (revision %d)", c.Kind, c.Name, d.Revision)
	case d.Path != "":
		return fmt.Sprintf("%s/%s (%s)", c.Kind, c.Name, d.Path)
	}
	return string(c.Kind) + "/" + c.Name
}

// lines splits a document's YAML into lines, each with its line break. If the last line has none, a note as in diffs is added
// to it. A nil document has no lines.
func lines(d *Document) []string {
	if d == nil || len(d.YAML) == 0 {
		return nil
	}
	lines := strings.SplitAfter(string(d.YAML), "\n")
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	} else {
		lines[last] += "\n\\ No newline at end of file\n"
	}
	return lines
}
