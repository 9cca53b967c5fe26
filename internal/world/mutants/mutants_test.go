package mutants

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kisgrid/kisgrid/internal/world/oracle"
)

// The code changes under the mutants. This test tells at once when one has to follow, long before somebody looks for the mutants.
func TestMutantsApply(t *testing.T) {
	all, err := Load(os.DirFS("testdata"))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Errorf("there are %d mutants, fewer than 20", len(all))
	}
	for _, m := range all {
		if _, err := m.Apply(os.DirFS("../../..")); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		for _, name := range m.FoundBy {
			if !slices.ContainsFunc(oracle.All, func(c oracle.Check) bool { return c.Name == name }) {
				t.Errorf("%s: there is no oracle %s", m.Name, name)
			}
		}
		for _, e := range m.Edits {
			if e.Old == e.New {
				t.Errorf("%s: a change of %s changes nothing", m.Name, e.File)
			}
			if strings.HasSuffix(e.File, "_test.go") || strings.HasPrefix(e.File, "internal/world") {
				t.Errorf("%s: it changes %s, which is no production code", m.Name, e.File)
			}
		}
	}
}

const example = `name: example
breaks: nothing
found by: EffectsOnce, OrderPerKey
It does nothing.

-- pkg/a.go
<<<
	one()
===
	two()
>>>
<<<
	three()
===
>>>
`

func TestApply(t *testing.T) {
	m, err := Parse(example)
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "example" || m.Breaks != "nothing" || m.Why != "It does nothing." || len(m.Edits) != 2 || !slices.Equal(m.FoundBy, []string{"EffectsOnce", "OrderPerKey"}) {
		t.Errorf("it was read as %+v", m)
	}
	if !m.Expected([]string{"Answered", "OrderPerKey"}) || m.Expected([]string{"Answered"}) {
		t.Error("the wrong oracles count as expected")
	}
	file := func(body string) fstest.MapFS {
		return fstest.MapFS{"pkg/a.go": {Data: []byte("package a\n\nfunc f() {\n" + body + "}\n")}}
	}
	files, err := m.Apply(file("\tone()\n\tthree()\n"))
	if want := "package a\n\nfunc f() {\n\ttwo()\n}\n"; err != nil || files["pkg/a.go"] != want {
		t.Errorf("the changed file is %q, %v", files["pkg/a.go"], err)
	}
	for what, root := range map[string]fstest.MapFS{
		"lines that are missing":       file("\tone()\n"),
		"lines that stand there twice": file("\tone()\n\tone()\n\tthree()\n"),
		"a part of a line":             file("\tif x {\n\t\tone()\n\t}\n\tthree()\n"),
		"a file that is missing":       {},
		"no Go":                        file("\tone()\n\tthree()\n}\n"),
	} {
		if _, err := m.Apply(root); err == nil {
			t.Errorf("it applies to %s", what)
		}
	}
	before, _, _ := strings.Cut(example, "<<<")
	for what, text := range map[string]string{
		"no name":         strings.TrimPrefix(example, "name: example\n"),
		"a wrong pattern": strings.Replace(example, "It does", "shows in: (\nIt does", 1),
		"no reason":       strings.Replace(example, "It does nothing.\n", "", 1),
		"no change":       before,
		"no file":         strings.Replace(example, "-- pkg/a.go\n", "-- \n", 1),
		"no end":          strings.TrimSuffix(example, ">>>\n"),
		"something else":  example + "and more\n",
	} {
		if _, err := Parse(text); err == nil {
			t.Errorf("a file with %s is read", what)
		}
	}
}
