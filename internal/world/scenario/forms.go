package scenario

import "slices"

// Form is a form of flows: the functions that it has, and their properties.
type Form struct {
	Name string
	// Sharded flows have a shard key.
	Sharded bool
	// Saves, Loads, Expands and Jumps say that a function does it. LoadsOther says that the keys that it loads are saved by the flow
	// Flow.For; a flow that only Loads reads its own keys.
	Saves, Loads, LoadsOther, Expands, Jumps bool
	// Provides says that it saves the keys that forms with LoadsOther load. Shared says that flows of the form share functions.
	Provides, Shared bool
	// Whole says that functions see a whole run at once (Batch, FaaS).
	Whole bool
	// Stretch says that several functions use the connector, so that each key's rows go one after the other.
	Stretch bool
	// Weight is how often the generator takes the form.
	Weight int
	Text   string
}

// Forms are all forms of flows. internal/world/forms has their documents and functions.
var Forms = []Form{
	{Name: "plain", Sharded: true, Weight: 6, Text: "row functions; no connector"},
	{Name: "chain", Sharded: true, Saves: true, Weight: 10, Text: "Verify, Calculate, Save; row functions"},
	{Name: "expand", Sharded: true, Saves: true, Expands: true, Weight: 5, Text: "Expand, and a Save of each output"},
	{Name: "declared", Sharded: true, Saves: true, Weight: 4, Text: "Verify, and a declared Save"},
	{Name: "set", Sharded: true, Saves: true, Provides: true, Weight: 3, Text: "saves the keys that other flows load"},
	{Name: "load", Sharded: true, Saves: true, Loads: true, LoadsOther: true, Weight: 6, Text: "a Load that waits for another flow's key, Save"},
	{Name: "loaddead", Sharded: true, Saves: true, Loads: true, LoadsOther: true, Weight: 2, Text: "the same, with on_missing: dead"},
	{Name: "loadnull", Sharded: true, Saves: true, Loads: true, LoadsOther: true, Weight: 2, Text: "the same, with on_missing: null"},
	{Name: "declaredload", Sharded: true, Saves: true, Loads: true, LoadsOther: true, Weight: 3, Text: "a declared Load of another flow's key"},
	{Name: "whole", Saves: true, Whole: true, Weight: 5, Text: "Batch functions without a shard key, Save"},
	{Name: "faas", Saves: true, Whole: true, Weight: 4, Text: "KisFlow's shapes without a shard key"},
	{Name: "lineage", Sharded: true, Saves: true, Whole: true, Weight: 4, Text: "Batch functions in a sharded flow, which keep the lineage"},
	{Name: "lost", Sharded: true, Saves: true, Whole: true, Weight: 2, Text: "Batch functions in a sharded flow, which may lose the lineage"},
	{Name: "stretch", Sharded: true, Saves: true, Loads: true, Stretch: true, Weight: 6, Text: "Load of its own key, Calculate, Save: reads, adds, writes"},
	{Name: "jump", Sharded: true, Saves: true, Jumps: true, Weight: 3, Text: "Calculate that jumps, Save"},
	{Name: "shared", Sharded: true, Saves: true, Shared: true, Weight: 4, Text: "functions whose documents all flows of this form share"},
	{Name: "expressions", Sharded: true, Saves: true, Expands: true, Weight: 5, Text: "Verify in Go; Verify, Calculate and Expand as expressions; Save in Go"},
	{Name: "memory", Sharded: true, Saves: true, Weight: 2, Text: "Save into the memory connector, of which each worker has its own"},
}

// FormOf returns the form of a name, and false when there is none.
func FormOf(name string) (Form, bool) {
	i := slices.IndexFunc(Forms, func(f Form) bool { return f.Name == name })
	if i < 0 {
		return Form{}, false
	}
	return Forms[i], true
}
