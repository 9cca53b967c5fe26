package archtest

import (
	"fmt"
	"go/ast"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// pronoun is a sentence that begins with What, Who, Whoever or Whatever, up to its end.
var pronoun = regexp.MustCompile(`(?:^|[.!?] )((?:What|Who|Whoever|Whatever) [^.!?]*[.!?]?)`)

// wrongSentences finds sentences of comments whose subject is a pronoun, such as "What waits is kept.": the reader has to guess the noun. A
// question may begin so. Generated files, headings and text that is set off by an indent are not looked at.
func (p project) wrongSentences() []string {
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		for _, f := range p[name] {
			if ast.IsGenerated(f.syntax) {
				continue
			}
			for _, comment := range f.syntax.Comments {
				for _, paragraph := range paragraphs(comment.Text()) {
					for _, found := range pronoun.FindAllStringSubmatch(paragraph, -1) {
						if !strings.HasSuffix(found[1], "?") {
							wrong = append(wrong, fmt.Sprintf("%s: %q: begin with the noun", f.path, found[1]))
						}
					}
				}
			}
		}
	}
	return wrong
}

// paragraphs joins the lines of each paragraph and of each list item of a comment.
func paragraphs(comment string) []string {
	var out []string
	open := false // the next line goes on with the last paragraph
	for line := range strings.Lines(comment) {
		text := strings.TrimSpace(line)
		item, isItem := strings.CutPrefix(text, "- ")
		switch indented := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"); {
		case text == "" || strings.HasPrefix(text, "#"):
			open = false
		case isItem:
			out, open = append(out, item), true
		case open:
			out[len(out)-1] += " " + text
		case !indented:
			out, open = append(out, text), true
		}
	}
	return out
}

func TestSentencesHaveANoun(t *testing.T) {
	p, err := read(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range p.wrongSentences() {
		t.Error(wrong)
	}
}

// The check of sentences must be able to fail, and to pass.
func TestSentencesCatchWhatTheyAreFor(t *testing.T) {
	p, err := read(fstest.MapFS{"a/a.go": {Data: []byte(`// Package a does it. What waits
// is kept.
//
// # What is promised
//
//	What is code.
//
//   - Whoever calls it
//     waits.
//   - It says what it does, and who asked.
package a

// What is it for? It tells whoever asks.
var x int // Who has it
`)}})
	if err != nil {
		t.Fatal(err)
	}
	got := p.wrongSentences()
	want := []string{
		`a/a.go: "What waits is kept.": begin with the noun`,
		`a/a.go: "Whoever calls it waits.": begin with the noun`,
		`a/a.go: "Who has it": begin with the noun`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
