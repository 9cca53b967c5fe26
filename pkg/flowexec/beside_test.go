package flowexec_test

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// A document that does not parse hides no mistake in other functions of its flow, and none is reported for types that it might have given.
func TestMistakesBesideBrokenDocuments(t *testing.T) {
	type row struct {
		ID   int    `json:"id"`
		Name string `json:"name"`
	}
	type other struct {
		Name int `json:"name"`
	}
	register := func(r *kis.Registry) {
		r.Func("G", kis.Calculate(func(_ context.Context, in row) (row, error) { return in, nil }))
		r.Func("H", kis.Verify(func(context.Context, other) error { return nil }))
	}
	flow := func(names ...string) string {
		return "kistype: flow\nflow_name: F\nstatus: 1\nflows: [{fname: " + strings.Join(names, "}, {fname: ") + "}]\n"
	}
	const (
		broken   = "---\nkistype: func\nfname: B\nfmode: Verify\noption:\n  verify: n +\n"
		types    = "---\nkistype: func\nfname: T\nfmode: Calculate\nsource: {fields: {id: int, name: string}}\noption:\n  calculate: {x: nmae}\n"
		brokenG  = "---\nkistype: func\nfname: G\nfmode: Calculate\nmodee: 1\n"
		readsInt = "---\nkistype: func\nfname: I\nfmode: Calculate\nsource: {fields: {name: int}}\noption:\n  calculate: {x: name}\n"
		goH      = "---\nkistype: func\nfname: H\nfmode: Verify\n"
		goG      = "---\nkistype: func\nfname: G\nfmode: Calculate\n"
		brokenC  = "---\nkistype: conn\ncname: C\ntype: redis\naddr: x\n"
		saves    = "---\nkistype: func\nfname: S\nfmode: Save\noption:\n  cname: C\n  save: {key: \"{id}\", set: {n: '= id + \"x\"'}}\nsource: {fields: {id: int}}\n"
	)
	for name, c := range map[string]struct {
		text string
		want []string // parts of the mistakes, in no order
		many int      // mistakes in all
	}{
		"an expression":                      {flow("B", "T") + broken + types, []string{"option.verify: ", "nmae is not a field of the row: write name"}, 2},
		"a document that is not there":       {flow("T", "Gone") + types, []string{"Gone", "nmae is not a field of the row: write name"}, 2},
		"types behind Go code":               {flow("G", "I") + brokenG + readsInt, []string{"modee", "reads the field name as int, but it is string in flowexec_test.row, that G passes on"}, 2},
		"types of two Go functions":          {flow("G", "H") + brokenG + goH, []string{"modee", "H reads (as flowexec_test.other) the field name as int, but it is string"}, 2},
		"nothing is known behind the broken": {flow("G", "B", "H") + goG + broken + goH, []string{"option.verify: "}, 1},
		"a connector":                        {flow("S") + brokenC + saves, []string{"addr: is not a key", "addrs: is missing", "option.save.set.n: + can't have"}, 3},
	} {
		_, err := flowexec.NewLocalFS(fstest.MapFS{"all.yml": {Data: []byte(c.text)}}, register)
		if err == nil {
			t.Errorf("%s: no mistake is told", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: without %q:\n%v", name, want, err)
			}
		}
		if n := strings.Count(err.Error(), "all.yml:"); n != c.many {
			t.Errorf("%s: %d mistakes are told, want %d:\n%v", name, n, c.many, err)
		}
	}
}
