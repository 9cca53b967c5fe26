package definition

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
)

// Change is a document that differs between two states.
type Change struct {
	Kind Kind
	Name string
	// Before and After are nil if the document is not there.
	Before, After *Document
}

// Diff compares the documents of two states. It tells documents apart by kind and name, which must be set, and compares their
// texts. The changes are sorted by kind (flow, func, conn, global) and name.
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

// maxCompared bounds the pairs of lines that are compared to find the lines that a change keeps: the time for that grows faster
// than the square of the lines.
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

// replaced returns the change as one block of lines that go and one block of lines that come. large is false if there are few
// enough lines to compare them one by one.
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

// side returns the name of the document before or after the change, for the head of a diff.
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

// lines cuts a document into lines, each with its line break.
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
