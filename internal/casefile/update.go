package casefile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kisgrid/kisgrid/internal/yamltext"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// span is where a case stands in its file, in lines from 1. Update replaces lines of it.
type span struct {
	column int             // where its keys begin, from 0
	head   string          // of the first line, before the first key: the dash of the list
	end    int             // its last line
	keys   map[string]rows // of each key, with its value
	inline bool            // the case is written as { }, or has two keys on a line: it can't be updated
}

// rows is a range of lines, both ends included.
type rows struct{ first, last int }

// findSpans sets the spans of the file's cases. top is the mapping of the whole file.
func (f *File) findSpans(top *yaml.Node) {
	at := slices.IndexFunc(top.Content, func(n *yaml.Node) bool { return n.Value == "tests" })
	if at < 0 || at+1 >= len(top.Content) || top.Content[at+1].Kind != yaml.SequenceNode {
		return
	}
	lines := strings.Split(string(f.text), "\n")
	list := top.Content[at+1]
	for i, n := range list.Content {
		if i >= len(f.Cases) || n.Kind != yaml.MappingNode || len(n.Content) == 0 {
			continue
		}
		end := len(lines)
		if i+1 < len(list.Content) {
			end = list.Content[i+1].Line - 1
		}
		s := span{column: n.Content[0].Column - 1, keys: map[string]rows{}, inline: (list.Style|n.Style)&yaml.FlowStyle != 0}
		s.end = lastLine(lines, n.Line, end)
		s.head = lines[n.Line-1][:min(s.column, len(lines[n.Line-1]))]
		for k := 0; k+1 < len(n.Content); k += 2 {
			last := s.end
			if k+2 < len(n.Content) {
				next := n.Content[k+2].Line
				s.inline = s.inline || next == n.Content[k].Line
				last = lastLine(lines, n.Content[k].Line, next-1)
			}
			s.keys[n.Content[k].Value] = rows{n.Content[k].Line, last}
		}
		f.Cases[i].span = s
	}
}

// lastLine returns the last line from first to last that is neither empty nor a comment.
func lastLine(lines []string, first, last int) int {
	for ; last > first; last-- {
		if text := strings.TrimSpace(lines[last-1]); text != "" && !strings.HasPrefix(text, "#") {
			break
		}
	}
	return last
}

// Update writes the test files again, so that cases which did not pass want what has happened. All other lines stay as they are. A case that
// compared nothing gets its output, outcomes and connectors. It returns the paths of the files that it has changed, sorted. Cases that could
// not run are left alone.
func Update(results []*Result) ([]string, error) {
	byFile := map[*File][]*Result{}
	for _, r := range results {
		if r.actual != nil && !r.Passed() {
			byFile[r.File] = append(byFile[r.File], r)
		}
	}
	var changed []string
	for _, f := range slices.SortedFunc(maps.Keys(byFile), func(a, b *File) int { return strings.Compare(a.Path, b.Path) }) {
		text, err := f.updated(byFile[f])
		if err != nil {
			return changed, err
		}
		if err := os.WriteFile(f.Path, text, 0o644); err != nil {
			return changed, fmt.Errorf("update the tests: %w", err)
		}
		changed = append(changed, f.Path)
	}
	return changed, nil
}

// edit replaces lines of a file with others. A range whose last line is before its first one stands for the place before the first one.
type edit struct {
	lines rows
	text  []string
}

// updated returns the text of the file with the edits for some results.
func (f *File) updated(results []*Result) ([]byte, error) {
	var edits []edit
	for _, r := range results {
		if r.Case.span.inline {
			return nil, batch.Errorf(batch.CodeBadDocument, "%s:%d: the case %q is written within { }, or has several keys on one line: write one key on a line, so that --update can change it",
				f.Path, r.Case.Line, r.Case.Name)
		}
		edits = append(edits, r.edits()...)
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return b.lines.first - a.lines.first }) // from the end, so that lines stay where they are
	lines := strings.Split(string(f.text), "\n")
	crlf := strings.Contains(string(f.text), "\r\n")
	for _, e := range edits {
		if crlf { // lines of the file end so
			for i := range e.text {
				e.text[i] += "\r"
			}
		}
		lines = slices.Replace(lines, e.lines.first-1, max(e.lines.last, e.lines.first-1), e.text...)
	}
	text := strings.Join(lines, "\n")
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if _, err := yamltext.Nodes([]byte(text), 1); err != nil {
		return nil, batch.Errorf(batch.CodeInternal, "%s: --update would not write YAML (%w), so it has changed nothing: change the file by hand", f.Path, err)
	}
	return []byte(text), nil
}

// edits returns the edits that make a case want what has happened.
func (r *Result) edits() []edit {
	c := r.Case
	differs := map[string]bool{}
	for _, d := range r.Differences {
		differs[d.Section] = true
	}
	var edits []edit
	var added []string
	set := func(key string, text []string) {
		if at, ok := c.span.keys[key]; ok {
			if at.first == c.Line {
				text[0] = c.span.head + strings.TrimLeft(text[0], " ")
			}
			edits = append(edits, edit{at, text})
		} else {
			added = append(added, text...)
		}
	}
	if nothing := !c.compares(); nothing || differs["output"] {
		set("output", c.span.indented(r.outputText()))
	}
	if differs["outcomes"] {
		set("outcomes", c.span.indented(r.outcomesText()))
	}
	if after := r.afterText(); differs["after"] || !c.compares() && after != nil {
		set("after", c.span.indented(after))
	}
	if added != nil {
		edits = append(edits, edit{rows{c.span.end + 1, c.span.end}, added})
	}
	return edits
}

// indented returns lines as they stand in the case.
func (s span) indented(lines []string) []string {
	for i := range lines {
		lines[i] = strings.Repeat(" ", s.column) + lines[i]
	}
	return lines
}

// outputText returns the key output with the rows that the flow gave.
func (r *Result) outputText() []string {
	if len(r.actual.output) == 0 {
		return []string{"output: []"}
	}
	lines := []string{"output:"}
	for _, row := range r.actual.output {
		lines = append(lines, "  - "+flowStyle(row.json))
	}
	return lines
}

// outcomesText returns the key outcomes with the rows that are not done. An entry has the keys that the case has for this row, or else
// function, code, and the reason of a row that was filtered.
func (r *Result) outcomesText() []string {
	if len(r.actual.notDone) == 0 {
		return []string{"outcomes: []"}
	}
	lines := []string{"outcomes:"}
	for _, row := range slices.Sorted(maps.Keys(r.actual.notDone)) {
		got := r.actual.notDone[row]
		want := wantedOutcome{function: got.Function, code: got.Code.String()}
		if got.Outcome == batch.Filtered && !strings.Contains(got.Reason, "\n") {
			want.reason = &got.Reason
		}
		if r.Case.outcomes != nil {
			if listed, ok := r.Case.outcomes.rows[row]; ok && listed.outcome == got.Outcome {
				want = listed
			}
		}
		text := fmt.Sprintf("  - {row: %d, outcome: %s", row+1, got.Outcome)
		if want.function != "" && got.Function != "" {
			text += ", function: " + yamlText(got.Function)
		}
		if want.code != "" {
			text += ", code: " + got.Code.String()
		}
		switch {
		case want.contains != "" && strings.Contains(got.Reason, want.contains):
			text += ", reason_contains: " + yamlText(want.contains)
		case want.reason != nil || want.contains != "":
			text += ", reason: " + yamlText(got.Reason)
		}
		lines = append(lines, text+"}")
	}
	return lines
}

// afterText returns the key after with the data of the connectors that the case names, or of all that hold something if it names none. It
// returns nil if there are none.
func (r *Result) afterText() []string {
	var names []string
	for _, h := range r.Case.after {
		names = append(names, h.connector)
	}
	if names == nil {
		for _, name := range slices.Sorted(maps.Keys(r.actual.held)) {
			if len(r.actual.held[name]) > 0 {
				names = append(names, name)
			}
		}
	}
	if names == nil {
		return nil
	}
	lines := []string{"after:"}
	for _, name := range names {
		held := r.actual.held[name]
		if len(held) == 0 {
			lines = append(lines, "  "+yamlText(name)+": {}")
			continue
		}
		lines = append(lines, "  "+yamlText(name)+":")
		for _, key := range slices.Sorted(maps.Keys(held)) {
			lines = append(lines, "    "+yamlText(key)+": "+held[key].yaml())
		}
	}
	return lines
}

// yaml returns the value of a key in YAML, within { } or [ ].
func (k heldKey) yaml() string {
	value := func(v heldValue) string {
		if jsonNumber.MatchString(v.text) {
			return v.text
		}
		return yamlText(v.text)
	}
	var parts []string
	if k.fields != nil {
		for _, f := range k.fields {
			parts = append(parts, yamlText(f.name)+": "+value(f.value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	for _, v := range k.list {
		parts = append(parts, value(v))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

var (
	// plainName matches a name that needs no quotes in a message.
	plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	// plainText matches a text that YAML takes as it is, also within { }, unless it is one of the words for true, false and null.
	plainText = regexp.MustCompile(`^[A-Za-z_]([A-Za-z0-9_ .%/()-]*[A-Za-z0-9_%/()])?$`)
	// noPlainText matches those words, in all spellings of all versions of YAML.
	noPlainText = regexp.MustCompile(`^(?i:yes|no|on|off|true|false|null)$`)
)

// yamlText returns a text as YAML, in quotes if it needs them.
func yamlText(text string) string {
	if plainText.MatchString(text) && !noPlainText.MatchString(text) {
		return text
	}
	var b strings.Builder
	for _, c := range string(appendText(nil, text)) {
		// YAML does not take these as they are, and takes escapes in their place, as JSON does.
		if 0x7f <= c && c < 0xa0 || c == 0xfeff || c >= 0xfffe && c <= 0xffff {
			fmt.Fprintf(&b, `\u%04x`, c)
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

// flowStyle returns a JSON value as YAML on one line. Text that is no JSON is returned as a YAML text.
func flowStyle(text []byte) string {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var b strings.Builder
	if err := writeFlowStyle(&b, d); err != nil {
		return yamlText(string(text))
	}
	return b.String()
}

// writeFlowStyle writes the next value of d.
func writeFlowStyle(b *strings.Builder, d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Delim:
		b.WriteString(t.String())
		for i := 0; d.More(); i++ {
			if i > 0 {
				b.WriteString(", ")
			}
			if t == '{' {
				name, err := d.Token()
				if err != nil {
					return err
				}
				b.WriteString(yamlText(name.(string)) + ": ")
			}
			if err := writeFlowStyle(b, d); err != nil {
				return err
			}
		}
		end, err := d.Token()
		if err != nil {
			return err
		}
		b.WriteString(end.(json.Delim).String())
	case string:
		b.WriteString(yamlText(t))
	case nil:
		b.WriteString("null")
	default:
		fmt.Fprint(b, t)
	}
	return nil
}
