package leader

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

func at(revision int64, d definition.Document) definition.Document {
	d.Revision = revision
	return d
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	saving := definition.Document{Kind: definition.KindFunc, Name: "save", YAML: []byte("kistype: func\nfname: save\nfmode: Save\nsource:\n  name: rows\noption:\n  cname: store\n")}
	store := definition.Document{Kind: definition.KindConn, Name: "store", YAML: []byte("kistype: conn\ncname: store\naddrs: 127.0.0.1:6379\ntype: redis\nkey: k\nsave: [save]\n")}
	broken := definition.Document{Kind: definition.KindFunc, Name: "echo", YAML: []byte("kistype: func\nfname: echo\nfmode: Sing\n")}
	for name, c := range map[string]struct {
		docs   []definition.Document
		number int64
		needs  string // documents, in no order
		says   string // why it is wrong; empty: it is right
	}{
		"newest is the flow":      {[]definition.Document{at(9, flowDoc("F", "", "echo")), at(4, funcDoc("echo"))}, 9, "flow F, func echo", ""},
		"newest is the function":  {[]definition.Document{at(3, flowDoc("F", "", "echo")), at(4, funcDoc("echo"))}, 4, "flow F, func echo", ""},
		"newest is the connector": {[]definition.Document{at(3, flowDoc("F", "", "save")), at(4, saving), at(8, store)}, 8, "conn store, flow F, func save", ""},
		"others don't count":      {[]definition.Document{at(3, flowDoc("F", "", "echo")), at(4, funcDoc("echo")), at(7, funcDoc("other")), at(8, store)}, 4, "flow F, func echo", ""},
		"a function is missing":   {[]definition.Document{at(3, flowDoc("F", "", "echo"))}, 3, "flow F", "echo"},
		"a connector is missing":  {[]definition.Document{at(3, flowDoc("F", "", "save")), at(4, saving)}, 4, "flow F, func save", "store"},
		"a broken function":       {[]definition.Document{at(3, flowDoc("F", "", "echo")), at(6, broken)}, 6, "flow F, func echo", "Sing"},
		"a broken flow":           {[]definition.Document{at(3, definition.Document{Kind: definition.KindFlow, Name: "F", YAML: []byte("kistype: flow\nflow_nam: F\n")}), at(4, funcDoc("echo"))}, 3, "flow F", "flow_nam"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := CompileDocuments(c.docs, nil, definition.MaxSteps).Flows
			got := all["F"]
			if len(all) != 1 || got == nil || got.number != c.number {
				t.Fatalf("candidates %v", all)
			}
			var needs []string
			for _, d := range got.Documents {
				needs = append(needs, fmt.Sprintf("%s %s", d.Kind, d.Name))
			}
			slices.Sort(needs)
			if strings.Join(needs, ", ") != c.needs {
				t.Errorf("it needs %s, want %s", needs, c.needs)
			}
			if (got.Revision == nil) != (c.says != "") || !strings.Contains(strings.Join(got.Reasons, "\n"), c.says) {
				t.Errorf("revision %v, reasons %q, want them to say %q", got.Revision, got.Reasons, c.says)
			}
			if got.Revision != nil && (got.Revision.Number != c.number || len(got.Revision.Message.GetDocuments()) != len(got.Documents)) {
				t.Errorf("revision %d of %d documents", got.Revision.Number, len(got.Revision.Message.GetDocuments()))
			}
		})
	}
	two := CompileDocuments([]definition.Document{flowDoc("A", "", "echo"), flowDoc("B", "", "lost"), funcDoc("echo")}, nil, definition.MaxSteps).Flows
	if two["A"].Revision == nil || two["B"].Revision != nil {
		t.Errorf("a mistake in one flow concerns another: %v, %v", two["A"], two["B"])
	}
}

// A document that breaks a rule of intake is refused when it is new, and goes on where its revision is active already.
func TestIntake(t *testing.T) {
	t.Parallel()
	docs := []definition.Document{
		at(3, flowDoc("F", "", "save")),
		at(4, definition.Document{Kind: definition.KindFunc, Name: "save", YAML: []byte("kistype: func\nfname: save\nfmode: Save\nsource:\n  name: rows\noption:\n  cname: store\n")}),
		at(8, definition.Document{Kind: definition.KindConn, Name: "store", YAML: []byte("kistype: conn\ncname: store\naddrs: 127.0.0.1:6379\ntype: redis\nkey: \"kisgrid:app:\"\n")}),
	}
	c := CompileDocuments(docs, nil, definition.MaxSteps).Flows["F"]
	if c.Revision == nil || len(c.Reasons) > 0 {
		t.Fatalf("it does not compile as before: %+v", c)
	}
	if got := c.takenIn(took(c.ID(), docs)); got.Revision == nil {
		t.Errorf("what runs is refused: %q", got.Reasons)
	}
	// Whatever changes beside it, a connector that runs goes on.
	if got := c.takenIn(took(c.ID(), append(slices.Clone(docs[1:]), at(2, flowDoc("F", "k", "save"))))); got.Revision == nil {
		t.Errorf("with another flow: %q", got.Reasons)
	}
	other := docs[2]
	other.YAML = append(slices.Clone(other.YAML), '\n')
	for name, runs := range map[string]runningFlow{"nothing": {}, "another document": runningOf(c.ID(), append(slices.Clone(docs[:2]), other))} {
		got := c.takenIn(runs.tookIn)
		if s := decide("F", got, RolloutProgress{}, runs.revision); s.State != cluster.StateRejected || s.Wanted != 8 || !strings.Contains(strings.Join(s.Reasons, ""), "choose another beginning") {
			t.Errorf("beside %s: %+v", name, s)
		}
	}
}

// Documents of each kind may have a spelling that is doubtful: one that runs goes on, another is refused.
func TestIntakeOfDoubts(t *testing.T) {
	t.Parallel()
	docs := []definition.Document{
		at(3, definition.Document{Kind: definition.KindFlow, Name: "F", YAML: []byte("kistype: flow\nflow_name: F\nstatus: 1\ncopies: 010\nflows:\n- fname: save\n")}),
		at(4, definition.Document{Kind: definition.KindFunc, Name: "save", YAML: []byte("kistype: func\nfname: save\nfmode: Save\noption:\n  cname: store\n  retry_times: 1_0\n")}),
		at(8, definition.Document{Kind: definition.KindConn, Name: "store", YAML: []byte("kistype: conn\ncname: store\ntype: memory\nreplicas: 0\ntls: 'off'\n")}),
	}
	c := CompileDocuments(docs, nil, definition.MaxSteps).Flows["F"]
	if c.Revision == nil || !c.breaksIntake {
		t.Fatalf("it does not compile as before: %+v", c)
	}
	if got := c.takenIn(took(c.ID(), docs)); got.Revision == nil {
		t.Errorf("what runs is refused: %q", got.Reasons)
	}
	for i, want := range []string{"/F:4: copies: is 010", "/save:6: option.retry_times: is 1_0", "/store:5: tls: is \"off\""} {
		others := append(slices.Clone(docs[:i]), docs[i+1:]...)
		got := c.takenIn(took(c.ID(), others))
		if got.Revision != nil || len(got.Reasons) != 1 || !strings.Contains(got.Reasons[0], want) {
			t.Errorf("beside the others, a new %s: %q, want %q", docs[i], got.Reasons, want)
		}
	}
}

// took tells of the documents that a flow runs with.
func took(name batch.Revision, docs []definition.Document) func(definition.Document) bool {
	runs := runningOf(name, docs)
	return runs.tookIn
}

// TestCompiledOnce changes one document after the other: what the change does not concern is the same object as before, parsed
// and compiled no second time, and what it concerns says the same as documents that are compiled for the first time.
func TestCompiledOnce(t *testing.T) {
	t.Parallel()
	saving := definition.Document{Kind: definition.KindFunc, Name: "save", YAML: []byte("kistype: func\nfname: save\nfmode: Save\nsource:\n  name: rows\noption:\n  cname: store\n")}
	store := definition.Document{Kind: definition.KindConn, Name: "store", YAML: []byte("kistype: conn\ncname: store\naddrs: 127.0.0.1:6379\ntype: redis\nkey: k\nsave: [save]\n")}
	docs := []definition.Document{
		at(1, flowDoc("A", "", "echo")), at(2, flowDoc("B", "", "echo")), at(3, flowDoc("C", "", "save")), at(4, flowDoc("D", "", "late")),
		at(5, funcDoc("echo")), at(6, saving), at(7, store),
	}
	with := func(d definition.Document) []definition.Document {
		all := slices.DeleteFunc(slices.Clone(docs), func(o definition.Document) bool { return o.Kind == d.Kind && o.Name == d.Name })
		return append(all, d)
	}
	before := CompileDocuments(docs, nil, definition.MaxSteps)
	text := func(d definition.Document, more string) definition.Document {
		d.YAML = append(slices.Clone(d.YAML), more...)
		return d
	}
	for name, c := range map[string]struct {
		docs    []definition.Document
		changes string // flows
	}{
		"nothing":                      {slices.Clone(docs), ""},
		"one flow":                     {with(at(9, flowDoc("A", "id", "echo"))), "A"},
		"a function":                   {with(at(9, text(funcDoc("echo"), "timeout: 1s\n"))), "A B"},
		"a function, under its number": {with(at(5, text(funcDoc("echo"), "timeout: 1s\n"))), "A B"},
		"a connector":                  {with(at(9, text(store, "# other\n"))), "C"},
		"a function that was missing":  {with(at(9, funcDoc("late"))), "D"},
		"a function goes":              {slices.DeleteFunc(slices.Clone(docs), func(d definition.Document) bool { return d.Name == "echo" }), "A B"},
		"a connector is broken":        {with(at(9, text(store, "bogus: 1\n"))), "C"},
		"one that nobody needs":        {with(at(9, funcDoc("other"))), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now, anew := CompileDocuments(c.docs, before, definition.MaxSteps), CompileDocuments(c.docs, nil, definition.MaxSteps)
			for flow, got := range now.Flows {
				if kept := got == before.Flows[flow]; kept == strings.Contains(c.changes, flow) {
					t.Errorf("flow %s was compiled again: %v", flow, !kept)
				}
				if want := anew.Flows[flow]; got.ID() != want.ID() || !slices.Equal(got.Reasons, want.Reasons) || (got.Revision == nil) != (want.Revision == nil) {
					t.Errorf("flow %s: %v %q, compiled anew %v %q", flow, got.ID(), got.Reasons, want.ID(), want.Reasons)
				}
			}
			for key, read := range now.documents {
				if was := before.documents[key]; was != nil && was.is(read.document) && was != read {
					t.Errorf("%s was parsed again", key)
				}
			}
		})
	}
}

// flowDoc is a flow of one function.
func flowDoc(name, shardKey, function string, more ...string) definition.Document {
	text := fmt.Sprintf("kistype: flow\nflow_name: %s\n", name)
	if !slices.Contains(more, "status: 0") {
		text += "status: 1\n"
	}
	if shardKey != "" {
		text += "shard_key: " + shardKey + "\n"
	}
	for _, line := range more {
		text += line + "\n"
	}
	return definition.Document{Kind: definition.KindFlow, Name: name, YAML: []byte(text + "flows:\n  - fname: " + function + "\n")}
}

func funcDoc(name string) definition.Document {
	return definition.Document{Kind: definition.KindFunc, Name: name, YAML: fmt.Appendf(nil, "kistype: func\nfname: %s\nfmode: Calculate\nsource:\n  name: rows\n", name)}
}
