package definition_test

import (
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Lint says where results may depend on how rows are cut into batches, and nothing where they don't.
func TestNotes(t *testing.T) {
	const functions = "kistype: func\nfname: last\nfmode: Load\noption: {cname: C, load: {key: '{k}', set: {last: n}}}\n---\n" +
		"kistype: func\nfname: note\nfmode: Save\noption: {cname: C, save: {key: '{k}', set: {n: n}}}\n---\n" +
		"kistype: func\nfname: total\nfmode: Save\noption:\n  cname: C\n  save: {key: 'total', incr: {n: n}}\n---\n" +
		"kistype: func\nfname: code\nfmode: Save\noption: {cname: C}\n---\n" +
		"kistype: func\nfname: other\nfmode: Save\noption: {cname: D}\n---\n" +
		"kistype: conn\ncname: C\ntype: redis\naddrs: h:1\n---\nkistype: conn\ncname: D\ntype: redis\naddrs: h:1\n---\n"
	flow := func(name, lines string, functions ...string) string {
		return "kistype: flow\nflow_name: " + name + "\nstatus: 1\n" + lines + "flows: [{fname: " + strings.Join(functions, "}, {fname: ") + "}]\n---\n"
	}
	for _, test := range []struct{ name, flows, want string }{
		{"keys that follow", flow("F", "shard_key: k\n", "last", "note", "code", "other"), ""},
		{"one step", flow("F", "", "note", "other"), ""},
		{"loads alone", flow("F", "", "last", "last"), ""},
		{"no shard key", flow("F", "", "last", "other", "note"),
			"flows: last uses connector C, and note does too: without a shard_key what a row finds there depends on how rows are cut into batches"},
		{"a key without it", flow("F", "shard_key: k\n", "total", "last", "total"),
			"option.save: the key total has no {k}, the shard_key of flow F: rows of different shard keys may meet at one key, " +
				"and what they find there depends on how rows are cut into batches"},
		{"two flows", flow("F", "shard_key: k\n", "last", "note") + flow("G", "", "note"),
			"cname: flows F, G use it: what rows of flow F find there may depend on when rows of the others come"},
		{"two flows with a step each", flow("F", "shard_key: k\n", "last") + flow("G", "", "note"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := definition.NewSet(definition.Split("all.yml", []byte(functions+test.flows)))
			if err != nil {
				t.Fatal(err)
			}
			notes := set.Notes()
			for i, note := range notes {
				_, notes[i], _ = strings.Cut(note, ": ") // behind document and line
			}
			got := strings.Join(notes, "\n")
			if got != test.want {
				t.Errorf("the notes are\n%s\nnot\n%s", got, test.want)
			}
		})
	}
}
