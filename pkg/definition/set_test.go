package definition

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// doc is a document as etcd holds it; its kind and name are those of path, "func/f".
func doc(path string, revision int64, yaml string) Document {
	kind, name, _ := strings.Cut(path, "/")
	return Document{Kind: Kind(kind), Name: name, YAML: []byte(yaml), Revision: revision, Path: "/kisgrid/config/" + path}
}

// students are documents that belong together, with one function and one connector that nothing needs.
func students() []Document {
	return []Document{
		doc("conn/Cache", 3, "kistype: conn\ncname: Cache\ntype: redis\naddrs: a:1\n"),
		doc("conn/Spare", 9, "kistype: conn\ncname: Spare\ntype: memory\n"),
		doc("flow/Avg", 5, "kistype: flow\nstatus: 1\nflow_name: Avg\nflows:\n- fname: Verify\n- fname: Save\n- fname: Verify\n"),
		doc("func/Save", 7, "kistype: func\nfname: Save\nfmode: Save\noption:\n  cname: Cache\n"),
		doc("func/Spare", 8, "kistype: func\nfname: Spare\nfmode: Load\noption:\n  cname: Spare\n"),
		doc("func/Verify", 2, "kistype: func\nfname: Verify\nfmode: Verify\n"),
	}
}

func paths(docs []Document) string {
	var s []string
	for _, d := range docs {
		s = append(s, string(d.Kind)+"/"+d.Name)
	}
	return strings.Join(s, " ")
}

func TestSet(t *testing.T) {
	docs := append(students(), Document{YAML: []byte("kistype: global\nprometheus_enable: true\n")})
	s, err := NewSet(docs)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := paths(s.Documents()), "flow/Avg func/Save func/Spare func/Verify conn/Cache conn/Spare global/"; got != want {
		t.Errorf("documents %s, want %s", got, want)
	}
	if s.Global == nil || !s.Global.PrometheusEnable {
		t.Errorf("global settings %+v", s.Global)
	}

	b, err := s.Bundle("Avg")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := paths(b.Documents()), "flow/Avg func/Save func/Verify conn/Cache"; got != want {
		t.Errorf("bundle of %s, want %s", got, want)
	}
	if b.Revision != 7 {
		t.Errorf("revision %d, want that of the newest document it needs, 7", b.Revision)
	}
	if got, want := fmt.Sprint(b.FunctionNames()), "[Verify Save]"; got != want {
		t.Errorf("functions %s, want %s", got, want)
	}

	again, err := NewBundle(b.Documents())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, again); diff != "" {
		t.Errorf("a bundle of a bundle's documents differs: %s", diff)
	}
}

func TestSetMistakes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func([]Document) []Document
		code   batch.Code
		err    string
		bundle string // the error of Bundle("Avg"); empty: none
	}{
		{
			"an unknown function", func(docs []Document) []Document {
				docs[2].YAML = []byte("kistype: flow\nflow_name: Avg\nflows:\n- fname: Verifi\n- fname: Nobody\n")
				return docs
			}, batch.CodeUnknownFunction,
			`/kisgrid/config/flow/Avg:4: flows[0].fname: no document describes the function "Verifi"; did you mean "Verify"?
/kisgrid/config/flow/Avg:5: flows[1].fname: no document describes the function "Nobody"`, "=",
		},
		{
			"an unknown connector", func(docs []Document) []Document { return docs[1:] }, batch.CodeUnknownConnector,
			`/kisgrid/config/func/Save:5: option.cname: no document describes the connector "Cache"`, "=",
		},
		{
			"both", func(docs []Document) []Document { return docs[1:5] }, batch.CodeBadDocument,
			`/kisgrid/config/func/Save:5: option.cname: no document describes the connector "Cache"
/kisgrid/config/flow/Avg:5: flows[0].fname: no document describes the function "Verify"
/kisgrid/config/flow/Avg:7: flows[2].fname: no document describes the function "Verify"`,
			`BAD_DOCUMENT: /kisgrid/config/flow/Avg:5: flows[0].fname: no document describes the function "Verify"
/kisgrid/config/flow/Avg:7: flows[2].fname: no document describes the function "Verify"
/kisgrid/config/func/Save:5: option.cname: no document describes the connector "Cache"`,
		},
		{
			"a function that does not parse", func(docs []Document) []Document {
				docs[5].YAML = []byte("kistype: func\nfname: Verify\nfmode: V\n")
				return docs
			}, batch.CodeBadDocument,
			`/kisgrid/config/func/Verify:3: fmode: is "V"; it may be Verify, Save, Load, Calculate, Expand`, "=",
		},
		{
			"a connector that does not parse", func(docs []Document) []Document {
				docs[0].YAML = []byte("Cache\n")
				return docs
			}, batch.CodeBadDocument,
			`/kisgrid/config/conn/Cache:1: wants keys with values, not "Cache"`, "=",
		},
		{
			"a flow that does not parse", func(docs []Document) []Document {
				docs[2].YAML = []byte("kistype: flow\nflow_name: avg\nflows: []\n")
				return docs
			}, batch.CodeBadDocument,
			`/kisgrid/config/flow/Avg:2: flow_name: is "avg", but the document is stored as "Avg": the two must be the same
/kisgrid/config/flow/Avg:3: flows: has no function: name at least one`, "=",
		},
		{
			"another flow, function and connector that are wrong", func(docs []Document) []Document {
				docs[1].YAML = []byte("kistype: conn\n")
				return append(docs, doc("flow/Other", 1, "kistype: flow\nflow_name: Other\nflows: [fname: Gone]\n"))
			}, batch.CodeBadDocument,
			`/kisgrid/config/conn/Spare:1: cname: is missing: write the connector's name
/kisgrid/config/conn/Spare:1: type: is missing: write one of redis, memory, mysql, kafka, tidb, es
/kisgrid/config/conn/Spare:1: addrs: is missing: write the store's addresses, separated by commas
/kisgrid/config/flow/Other:3: flows[0].fname: no document describes the function "Gone"`, "",
		},
		{
			"names that repeat", func(docs []Document) []Document {
				for i := range docs {
					docs[i].Kind, docs[i].Name, docs[i].Path = "", "", fmt.Sprintf("%d.yml", i)
				}
				for _, i := range []int{0, 2, 5} {
					again := docs[i]
					again.Path, again.Line = "again.yml", i+1
					docs = append(docs, again)
				}
				global := Document{YAML: []byte("kistype: global"), Path: "global.yml"}
				return append(docs, global, global)
			}, batch.CodeBadDocument,
			`again.yml:1: is a second document for the connector "Cache": the first is 0.yml:1; take one away
again.yml:3: is a second document for the flow "Avg": the first is 2.yml:1; take one away
again.yml:6: is a second document for the function "Verify": the first is 5.yml:1; take one away
global.yml:1: is a second document for the global settings: the first is global.yml:1; take one away`,
			`BAD_DOCUMENT: again.yml:3: is a second document for the flow "Avg": the first is 2.yml:1; take one away
again.yml:6: is a second document for the function "Verify": the first is 5.yml:1; take one away
again.yml:1: is a second document for the connector "Cache": the first is 0.yml:1; take one away`,
		},
		{
			"documents that are too large together", func(docs []Document) []Document {
				comment := "#" + strings.Repeat("x", MaxBytes/2)
				docs[0].YAML = append(docs[0].YAML, comment...)
				docs[5].YAML = append(docs[5].YAML, comment...)
				return docs
			}, batch.CodeBadDocument,
			"/kisgrid/config/flow/Avg: the flow's documents have 1048823 bytes together, over the limit of 1048576 bytes", "=",
		},
		{
			"many", func(docs []Document) []Document {
				docs[2].YAML = []byte("kistype: flow\nflow_name: Avg\nflows:" + strings.Repeat("\n- fname: x", 102))
				return docs
			}, batch.CodeUnknownFunction, "*has 2 more mistakes", "*has 2 more mistakes",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := NewSet(tt.change(students()))
			if batch.CodeOf(err) != tt.code {
				t.Errorf("code %v, want %v", batch.CodeOf(err), tt.code)
			}
			want := tt.code.String() + ": " + tt.err
			wantText(t, err, want)
			_, err = s.Bundle("Avg")
			switch tt.bundle {
			case "=":
				tt.bundle = want
			case "":
				if err != nil {
					t.Errorf("Bundle: %v", err)
				}
				return
			}
			wantText(t, err, tt.bundle)
		})
	}
}

// wantText compares an error's text; one that has a * in it only from there on.
func wantText(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", want)
	}
	got := err.Error()
	if _, end, found := strings.Cut(want, "*"); found && strings.HasSuffix(got, end) {
		return
	}
	if got != want {
		t.Errorf("error\n%s\nwant\n%s", got, want)
	}
}

func TestBundleErrors(t *testing.T) {
	s, err := NewSet(students())
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Bundle("Avh")
	wantText(t, err, `NOT_FOUND: no document describes the flow "Avh"; did you mean "Avg"?`)
	_, err = NewBundle(students()[3:])
	wantText(t, err, `UNKNOWN_CONNECTOR: /kisgrid/config/func/Save:5: option.cname: no document describes the connector "Cache"
/kisgrid/config/func/Spare:5: option.cname: no document describes the connector "Spare"`)
	_, err = NewBundle(nil)
	wantText(t, err, "BAD_DOCUMENT: a bundle is the documents of one flow, not of 0: send each flow on its own")
}

func TestSuggest(t *testing.T) {
	names := []string{"VerifyStu", "AvgStuScore", "AvgStuScore12", "PrintStuAvgScore", "a"}
	for word, want := range map[string]string{
		"VerifyStu ":             `; did you mean "VerifyStu"?`,
		"verifystu":              `; did you mean "VerifyStu"?`,
		"VreifyStu":              `; did you mean "VerifyStu"?`,
		"AvgStuScore1":           `; did you mean "AvgStuScore"?`,
		"PrntStuAvgScor":         `; did you mean "PrintStuAvgScore"?`,
		"Somewhere":              "",
		"b":                      "",
		"xyz":                    "",
		strings.Repeat("a", 100): "",
	} {
		if got := suggest(word, names); got != want {
			t.Errorf("suggest(%q) = %q, want %q", word, got, want)
		}
	}
}
