package expr

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// page is the reference of the language.
const page = "../../docs/expressions.md"

// exampleBlock is a block of the page: a row, an expression, and its result.
var exampleBlock = regexp.MustCompile("(?s)```expr\n(.*?)\n```")

// Each example of docs/expressions.md gives what the page says.
func TestExamplesOfTheReference(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks := exampleBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 20 {
		t.Errorf("the page has %d examples", len(blocks))
	}
	for _, block := range blocks {
		lines := strings.Split(block[1], "\n")
		if len(lines) < 3 {
			t.Errorf("%q is no row, expression and result", block[1])
			continue
		}
		expression := strings.Join(lines[1:len(lines)-1], "\n")
		if got, err := run(t, expression, "", lines[0]); err != nil || got != lines[len(lines)-1] {
			t.Errorf("%s\n%s\ngives %s, %v; the page says %s", lines[0], expression, got, err, lines[len(lines)-1])
		}
	}
}

// The page lists every function and every directive of layouts, with the texts that stand beside the code.
func TestReferenceListsAllFunctions(t *testing.T) {
	var list strings.Builder
	for _, g := range groups {
		fmt.Fprintf(&list, "### %s\n\n", g.title)
		for _, f := range g.functions {
			fmt.Fprintf(&list, "- `%s`<br>%s<br>%s => `%s`\n", f.signature, strings.ReplaceAll(f.about, "|", "\\|"), inline(f.example), f.result)
		}
		list.WriteString("\n")
	}
	var layouts strings.Builder
	layouts.WriteString("| directive | stands for |\n|---|---|\n")
	for _, c := range sortedNames(directives) {
		fmt.Fprintf(&layouts, "| `%%%c` | %s |\n", c, directives[c])
	}
	for _, c := range sortedNames(layoutShorts) {
		fmt.Fprintf(&layouts, "| `%%%c` | short for `%s` |\n", c, layoutShorts[c])
	}
	before, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	after := between(t, string(before), "functions", "\n"+list.String())
	after = between(t, after, "layouts", "\n"+layouts.String()+"\n")
	if after == string(before) {
		return
	}
	if !*update {
		t.Fatalf("%s does not list the functions as they are: run go test ./pkg/expr -update", page)
	}
	if err := os.WriteFile(page, []byte(after), 0o600); err != nil {
		t.Fatal(err)
	}
}

// inline returns an expression as code within a line of Markdown.
func inline(text string) string {
	if strings.Contains(text, "`") {
		return "`` " + text + " ``"
	}
	return "`" + text + "`"
}

// between replaces the part of a page between two comments.
func between(t *testing.T, text, name, part string) string {
	t.Helper()
	begin, end := "<!-- "+name+": written by go test ./pkg/expr -update -->\n", "<!-- end of "+name+" -->"
	i, j := strings.Index(text, begin), strings.Index(text, end)
	if i < 0 || j < i {
		t.Fatalf("the page has no place for %s", name)
	}
	return text[:i+len(begin)] + part + text[j:]
}
