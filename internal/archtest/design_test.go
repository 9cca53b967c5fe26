package archtest

import (
	"go/ast"
	"os"
	"regexp"
	"testing"
)

// TestDesignIsTrue looks up every file.go:function that DESIGN.md names.
func TestDesignIsTrue(t *testing.T) {
	text, err := os.ReadFile("../../DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	p, err := read(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	functions := map[string]bool{} // as path:name
	for _, files := range p {
		for _, f := range files {
			for _, d := range f.syntax.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok {
					functions[f.path+":"+fn.Name.Name] = true
				}
			}
		}
	}
	places := regexp.MustCompile("`((?:pkg|internal|cmd)/[a-z/]+\\.go:[A-Za-z]+)`").FindAllStringSubmatch(string(text), -1)
	if len(places) < 30 {
		t.Errorf("DESIGN.md names %d functions: it should walk a batch through the code", len(places))
	}
	for _, place := range places {
		if !functions[place[1]] {
			t.Errorf("DESIGN.md names %s, which is not there", place[1])
		}
	}
}
