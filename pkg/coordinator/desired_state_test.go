package coordinator

import (
	"slices"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// TestCompiledOnce changes one document after the other: what the change does not concern is the same object as before, parsed
// and compiled no second time, and what it concerns says the same as documents that are compiled for the first time.
func TestCompiledOnce(t *testing.T) {
	t.Parallel()
	saving := definition.Document{Kind: definition.KindFunc, Name: "save", YAML: []byte("kistype: func\nfname: save\nfmode: Save\nsource:\n  name: rows\noption:\n  cname: store\n")}
	store := definition.Document{Kind: definition.KindConn, Name: "store", YAML: []byte("kistype: conn\ncname: store\naddrs: 127.0.0.1:6379\ntype: redis\nkey: k\nsave: [save]\n")}
	docs := []definition.Document{
		at(1, flowDocument("A", "", "echo")), at(2, flowDocument("B", "", "echo")), at(3, flowDocument("C", "", "save")), at(4, flowDocument("D", "", "late")),
		at(5, funcDocument("echo")), at(6, saving), at(7, store),
	}
	with := func(d definition.Document) []definition.Document {
		all := slices.DeleteFunc(slices.Clone(docs), func(o definition.Document) bool { return o.Kind == d.Kind && o.Name == d.Name })
		return append(all, d)
	}
	before := compileDocuments(docs, nil, definition.MaxSteps)
	text := func(d definition.Document, more string) definition.Document {
		d.YAML = append(slices.Clone(d.YAML), more...)
		return d
	}
	for name, c := range map[string]struct {
		docs    []definition.Document
		changes string // flows
	}{
		"nothing":                      {slices.Clone(docs), ""},
		"one flow":                     {with(at(9, flowDocument("A", "id", "echo"))), "A"},
		"a function":                   {with(at(9, text(funcDocument("echo"), "timeout: 1s\n"))), "A B"},
		"a function, under its number": {with(at(5, text(funcDocument("echo"), "timeout: 1s\n"))), "A B"},
		"a connector":                  {with(at(9, text(store, "# other\n"))), "C"},
		"a function that was missing":  {with(at(9, funcDocument("late"))), "D"},
		"a function goes":              {slices.DeleteFunc(slices.Clone(docs), func(d definition.Document) bool { return d.Name == "echo" }), "A B"},
		"a connector is broken":        {with(at(9, text(store, "bogus: 1\n"))), "C"},
		"one that nobody needs":        {with(at(9, funcDocument("other"))), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now, anew := compileDocuments(c.docs, before, definition.MaxSteps), compileDocuments(c.docs, nil, definition.MaxSteps)
			for flow, got := range now.wanted {
				if kept := got == before.wanted[flow]; kept == strings.Contains(c.changes, flow) {
					t.Errorf("flow %s was compiled again: %v", flow, !kept)
				}
				if want := anew.wanted[flow]; got.id() != want.id() || !slices.Equal(got.reasons, want.reasons) || (got.revision == nil) != (want.revision == nil) {
					t.Errorf("flow %s: %v %q, compiled anew %v %q", flow, got.id(), got.reasons, want.id(), want.reasons)
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

// TestTooManySteps has flows with more steps than they may: one that is new is refused by apply and by the leader; one that was
// accepted when it might have as many goes on, also with a function that changes, until its own document does.
func TestTooManySteps(t *testing.T) {
	t.Parallel()
	steps := func(name string, more int) definition.Document {
		return flowDocument(name, "id", "echo"+strings.Repeat("\n  - fname: echo", more))
	}
	first := newRig(t, func(c *Config) { c.MaxSteps = 3 })
	wantCode(t, first.apply(false, steps("F", 3), funcDocument("echo")).ends(), batch.CodeBadDocument, "has 4 steps, over the limit of 3")
	own, err := cluster.Open(cluster.Config{Endpoints: []string{first.etcd}, Prefix: first.prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = own.Close() })
	w := first.newWorker("w", "echo")
	w.store = own // the worker outlives the first coordinator
	w.register().session().welcome(false, 0)
	accepted := first.activate(steps("F", 2), funcDocument("echo"))
	first.put(steps("New", 3))
	first.awaitCatalog("the new one is refused", func(c *fleetSnapshot) bool {
		e := c.flows["New"]
		return e != nil && e.status.State == cluster.StateRejected && strings.Contains(strings.Join(e.status.Reasons, "\n"), "--max-steps")
	})
	second := &rig{t: t, prefix: first.prefix, etcd: first.etcd}
	second.start(func(c *Config) { c.MaxSteps = 2 })
	second.awaitReady()
	w.session().welcome(false, 0)
	second.awaitActive("F", accepted)
	first.end()
	until(t, "the second one leads", second.c.leading.Load)
	mended := funcDocument("echo")
	mended.YAML = append(mended.YAML, "timeout: 1s\n"...)
	if next := second.activate(steps("F", 2), mended); next <= accepted {
		t.Errorf("revision %d follows %d", next, accepted)
	}
	active := second.awaitCatalog("it runs", func(c *fleetSnapshot) bool { return c.flows["F"].on() }).flows["F"].active.number
	second.put(flowDocument("F", "id", "echo"+strings.Repeat("\n  - fname: echo", 2), "copies: 2"))
	e := second.awaitCatalog("its own change is refused", func(c *fleetSnapshot) bool { return c.flows["F"].status.State == cluster.StateRejected }).flows["F"]
	if e.active.number != active || !strings.Contains(strings.Join(e.status.Reasons, "\n"), "has 3 steps, over the limit of 2") {
		t.Errorf("status is %+v", e.status)
	}
}
