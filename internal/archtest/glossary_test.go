package archtest

import (
	"go/ast"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// worded are the packages whose types have to be in the glossary if they have the name of a word.
var worded = []string{"pkg/client", "pkg/coordinator", "pkg/scheduler", "pkg/worker", "pkg/flowexec"}

// leastWords must be in the glossary: rows are counted and passed on under these names.
var leastWords = []string{"row", "batch", "part", "run", "result", "outcome", "ledger", "flow", "revision", "slot", "lane", "stream", "session", "peer", "window", "credit", "lineage", "effect"}

var typeName = regexp.MustCompile("`((?:pkg|internal)/[a-z0-9/]+)\\.([A-Za-z0-9]+)`")

// types maps each package to the names of its types. An alias counts for nothing: it is another name of a type that has its own line.
func (p project) types() map[string]map[string]bool {
	types := map[string]map[string]bool{}
	for name, files := range p {
		types[name] = map[string]bool{}
		for _, f := range files {
			for _, d := range f.syntax.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok {
					continue
				}
				for _, s := range g.Specs {
					if s, ok := s.(*ast.TypeSpec); ok && !s.Assign.IsValid() {
						types[name][s.Name.Name] = true
					}
				}
			}
		}
	}
	return types
}

// wrongTypes looks up every type that a document names in backquotes, as pkg/batch.Batch. Write a function as
// folder/file.go:function, so that it is looked up there.
func (p project) wrongTypes(document string) []string {
	types := p.types()
	var wrong []string
	for _, found := range typeName.FindAllStringSubmatch(document, -1) {
		if types[found[1]] != nil && !types[found[1]][found[2]] {
			wrong = append(wrong, found[1]+"."+found[2]+" is not there")
		}
	}
	return wrong
}

// wrongWords compares a glossary with the project's types.
func (p project) wrongWords(glossary string) []string {
	types := p.types()
	var wrong []string
	words := map[string]map[string]bool{} // by word: the types that it is, as package.Type
	for line := range strings.Lines(glossary) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || strings.TrimSpace(cells[1]) == "word" || strings.HasPrefix(cells[1], "---") {
			continue
		}
		word, why := strings.TrimSpace(cells[1]), strings.TrimSpace(cells[4])
		if words[word] != nil {
			wrong = append(wrong, word+" is explained twice: leave one line")
		}
		words[word] = map[string]bool{}
		inner := 0
		for _, found := range typeName.FindAllStringSubmatch(cells[3], -1) {
			if !types[found[1]][found[2]] {
				wrong = append(wrong, word+" is said to be "+found[1]+"."+found[2]+", which is not there: write the name that it has now")
			}
			words[word][found[1]+"."+found[2]] = true
			if strings.ToLower(found[2]) == found[2] && slices.Contains(worded, found[1]) && found[2] == word {
				inner++
			}
		}
		if inner > 1 && why == "" {
			wrong = append(wrong, word+" is several types that are not exported: say in the last column why, or give them names that tell them apart")
		}
	}
	for _, word := range leastWords {
		if words[word] == nil {
			wrong = append(wrong, word+" is not explained")
		}
	}
	for _, name := range worded {
		for _, t := range slices.Sorted(maps.Keys(types[name])) {
			if known := words[strings.ToLower(t)]; known != nil && !known[name+"."+t] {
				wrong = append(wrong, name+"."+t+" has the name of a word and is not in its line: add it, or choose another name")
			}
		}
	}
	return wrong
}

func TestGlossary(t *testing.T) {
	text, err := os.ReadFile("../../docs/glossary.md")
	if err != nil {
		t.Fatal(err)
	}
	p, err := read(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range p.wrongWords(string(text)) {
		t.Errorf("docs/glossary.md: %s", wrong)
	}
}

// The glossary's rules must be able to fail.
func TestGlossaryCatchesWhatItIsFor(t *testing.T) {
	p, err := read(fstest.MapFS{
		"pkg/worker/a.go":      {Data: []byte("package p\ntype window struct{}\ntype Part struct{}\n")},
		"pkg/scheduler/a.go":   {Data: []byte("package p\ntype (\n\twindow struct{}\n\tthing struct{}\n)\n")},
		"pkg/coordinator/a.go": {Data: []byte("package p\ntype session struct{}\n")},
		"pkg/kis/a.go":         {Data: []byte("package p\ntype window struct{}\n")}, // not one of the five
	})
	if err != nil {
		t.Fatal(err)
	}
	var rest strings.Builder
	for _, word := range leastWords {
		if word != "window" && word != "session" && word != "credit" {
			rest.WriteString("| " + word + " | x | y | |\n")
		}
	}
	const head = "| word | meaning | in Go | why several |\n|---|---|---|---|\n"
	if got, want := p.wrongTypes("`pkg/worker.Part` `pkg/worker.gone` `pkg/other.gone`"), []string{"pkg/worker.gone is not there"}; !slices.Equal(got, want) {
		t.Errorf("types: got %q, want %q", got, want)
	}
	got := p.wrongWords(head + rest.String() +
		"| window | x | `pkg/worker.window`, `pkg/scheduler.window` | |\n| session | x | `pkg/coordinator.gone` | |\n| session | x | y | |\n")
	want := []string{
		"window is several types that are not exported: say in the last column why, or give them names that tell them apart",
		"session is said to be pkg/coordinator.gone, which is not there: write the name that it has now",
		"session is explained twice: leave one line",
		"credit is not explained",
		"pkg/coordinator.session has the name of a word and is not in its line: add it, or choose another name",
		"pkg/worker.Part has the name of a word and is not in its line: add it, or choose another name",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
