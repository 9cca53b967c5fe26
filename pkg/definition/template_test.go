package definition

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

const loading = "kistype: func\nfname: f\nfmode: Load\noption:\n  cname: c\n  load:\n    key: \"%key\"\n    set: {a: b, c: d}\n%types"

func loadOf(key, types string) Document {
	return Document{Path: "f.yml", YAML: []byte(strings.NewReplacer("%key", key, "%types", types).Replace(loading))}
}

// A field of a key goes by its value where the key says so. Other forms are names with colons, for documents that run, and refused when
// a document is taken in.
func TestTemplateForms(t *testing.T) {
	for key, want := range map[string]struct {
		parts   []TemplatePart
		refused bool
	}{
		"{id}":                {[]TemplatePart{{Field: "id"}}, false},
		"{id:value}":          {[]TemplatePart{{Field: "id", ByValue: true}}, false},
		"a/{id:value}/{n}{{":  {[]TemplatePart{{Literal: "a/"}, {Field: "id", ByValue: true}, {Literal: "/"}, {Field: "n"}, {Literal: "{"}}, false},
		"{a:b:value}":         {[]TemplatePart{{Field: "a:b", ByValue: true}}, false},
		"{id:Value}":          {[]TemplatePart{{Field: "id:Value"}}, true},
		"{id: value}":         {[]TemplatePart{{Field: "id: value"}}, true},
		"{id:value }":         {[]TemplatePart{{Field: "id:value "}}, true},
		"{id:number}":         {[]TemplatePart{{Field: "id:number"}}, true},
		"{id:}":               {[]TemplatePart{{Field: "id:"}}, true},
		"{:value}":            {[]TemplatePart{{Field: ":value"}}, true},
		"{id:value}/{n:vlue}": {[]TemplatePart{{Field: "id", ByValue: true}, {Literal: "/"}, {Field: "n:vlue"}}, true},
	} {
		p, err := Parse(loadOf(key, ""))
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		if got := p.Function.Load.Key.Parts; !reflect.DeepEqual(got, want.parts) {
			t.Errorf("%s has the parts %+v, want %+v", key, got, want.parts)
		}
		err = p.Intake(MaxSteps)
		if want.refused != (err != nil) || err != nil && !strings.HasPrefix(err.Error(), "BAD_DOCUMENT: f.yml:7: option.load.key: has {") {
			t.Errorf("%s: taken in with %v", key, err)
		}
	}
}

func TestLoadTypes(t *testing.T) {
	p, err := Parse(loadOf("{id}", "    types: {a: int, c: json}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Function.Load.Types; !reflect.DeepEqual(got, map[string]LoadType{"a": LoadInt, "c": LoadJSON}) {
		t.Errorf("the types are %v", got)
	}
	for types, want := range map[string]string{
		"{a: number}":       `f.yml:9: option.load.types: has a: "number"; write one of string, int, float, bool, json`,
		"{a: strng}":        `did you mean "string"?`,
		"{a: Int}":          `did you mean "int"?`,
		"{x: int}":          `f.yml:9: option.load.types: has "x", which set does not name`,
		"{b: int}":          `has "b", which set does not name`,
		"{a: ''}":           "both must be names of fields",
		"{}":                "names no field",
		"int":               "option.load.types",
		"[a]":               "option.load.types",
		"{a: int, a: json}": "option.load.types.a",
	} {
		if _, err := Parse(loadOf("{id}", "    types: "+types+"\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %s", types, err, want)
		}
	}
}

// Lint warns of a key that goes by the spelling of the field by whose value its flow is sharded.
func TestSpelledShardKey(t *testing.T) {
	for key, warns := range map[string]bool{"{id}": true, "x{n}/{ID}": true, "{id:value}": false, "{n}": false, "id": false} {
		set, err := NewSet([]Document{
			loadOf(key, ""), {YAML: []byte("kistype: conn\ncname: c\ntype: memory\n")},
			{YAML: []byte("kistype: flow\nstatus: 1\nflow_name: F\nshard_key: id\nflows: [{fname: f}, {fname: f}]\n")},
			{YAML: []byte("kistype: flow\nstatus: 1\nflow_name: Whole\nflows: [{fname: f}]\n")},
		})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		if warns {
			want = []string{"f.yml:7: option.load.key: goes by the spelling of id, and the flow F is sharded by its value: 7 and 7.0 are one shard key and two keys here; write {id:value}"}
		}
		if got := set.FlowWarnings(); !slices.Equal(got, want) {
			t.Errorf("%s: warnings %q, want %q", key, got, want)
		}
		if err := set.Intake(MaxSteps); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}
