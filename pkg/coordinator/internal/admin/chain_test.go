package admin

import (
	"slices"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// TestChain reads the chain of a flow whose documents are all there, lack a function, or have a mistake.
func TestChain(t *testing.T) {
	document := func(kind definition.Kind, name, text string) definition.Document {
		return definition.Document{Kind: kind, Name: name, YAML: []byte(text)}
	}
	flow := document(definition.KindFlow, "F", "kistype: flow\nstatus: 1\nflow_name: F\nflows:\n  - fname: Check\n  - fname: Keep\n  - fname: Gone\n  - fname: Check\n")
	all := []definition.Document{
		flow, document(definition.KindFunc, "Check", "kistype: func\nfname: Check\nfmode: Verify\n"),
		document(definition.KindFunc, "Keep", "kistype: func\nfname: Keep\nfmode: Save\noption:\n  cname: Store\n"),
		document(definition.KindFunc, "Other", "kistype: func\nfname: Other\nfmode: Verify\n"),
	}
	want := []ChainStep{{"Check", definition.ModeVerify, ""}, {"Keep", definition.ModeSave, "Store"}, {"Gone", "", ""}, {"Check", definition.ModeVerify, ""}}
	if got := chainOf(flow, all); !slices.Equal(got, want) {
		t.Errorf("the chain is %v, want %v", got, want)
	}
	if got := chainOf(document(definition.KindFlow, "F", "kistype: flow\nflows: {"), all); got != nil {
		t.Errorf("the chain of a document that can't be read is %v", got)
	}
}
