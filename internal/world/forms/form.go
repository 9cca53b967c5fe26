package forms

import (
	"slices"

	"github.com/kisgrid/kisgrid/internal/world/scenario"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Names of connectors and the beginning of their keys.
const (
	Store     = "Store"  // the connector in the simulated Redis
	Memory    = "Memory" // the connector of type memory
	KeyPrefix = "w:"     // begins every key of both
)

// Step is one function of a form.
type Step struct {
	// Stage names the function within its flow. The function's document and its registration are called <flow>_<stage>, and in forms that
	// share their functions shared_<stage>.
	Stage string
	Mode  definition.Mode
	// Connector is Store, Memory, or empty.
	Connector string
	// Declared functions have no code, so they record no calls and carry out no actions.
	Declared bool
	// Expressions are the lines of the document by which a Verify, Calculate or Expand computes: it is Declared, and carries out
	// some actions all the same: see Computes. Empty for all other functions.
	Expressions string
	// Whole functions see all rows of a run in one call: an action of one row concerns all of them.
	Whole bool
	// FaaS functions have KisFlow's shape.
	FaaS bool
	// OnMissing is the option of a Load. Own says that it loads the key that its own flow saves, and not that of Flow.For.
	OnMissing definition.OnMissing
	Own       bool
	// Last says that a Save sets the key's last number, <flow>:<key>. Other Saves with code append to the list <flow>:rows:<key> and
	// add to the hash <flow>:sum:<key>: n to its field n, and 1 to its field count. A declared Save only adds n.
	Last bool
}

// Computes reports whether a function of expressions does as an action asks. It does nothing about other actions.
func (s *Step) Computes(a Action) bool {
	switch a.Kind {
	case "drop":
		return s.Mode == definition.ModeVerify
	case "error":
		return a.Always && s.Mode != definition.ModeExpand // an error of an expression comes again, so nobody tries again
	case "grow":
		return s.Mode == definition.ModeExpand
	}
	return false
}

// Form is a form of flows, with its functions.
type Form struct {
	scenario.Form
	Steps []Step
}

// The steps that several forms have.
var (
	verify    = Step{Stage: "verify", Mode: definition.ModeVerify}
	calculate = Step{Stage: "calculate", Mode: definition.ModeCalculate}
	expand    = Step{Stage: "expand", Mode: definition.ModeExpand}
	save      = Step{Stage: "save", Mode: definition.ModeSave, Connector: Store}
	saveLast  = Step{Stage: "save", Mode: definition.ModeSave, Connector: Store, Last: true}
	batched   = Step{Stage: "batch", Mode: definition.ModeCalculate, Whole: true}
	faas      = Step{Stage: "faas", Mode: definition.ModeCalculate, Whole: true, FaaS: true}
)

// The steps of expressions. Rows pass from Go to expressions, from one expression to another, with types and without, and to Go again.
var (
	sift = Step{
		Stage: "sift", Mode: definition.ModeVerify, Declared: true,
		Expressions: `  verify: '(do ?? "") == "sift=error" ? n / (n - n) > 0 : (do ?? "") != "sift=drop"'
  reason: '"row " + string(n) + " asks for it"'
source: {fields: {n: int, do: "string?"}}
`,
	}
	compute = Step{
		Stage: "compute", Mode: definition.ModeCalculate, Declared: true,
		Expressions: `  calculate: {n: '(do ?? "") == "compute=error" ? [n][1] : (n + 1) * 2 / 2 - 1', half: n / 2}
  keep: all
`,
	}
	split = Step{
		Stage: "expand", Mode: definition.ModeExpand, Declared: true,
		Expressions: `  expand:
    each: 'let grow = "expand=grow:"; starts_with(do ?? "", grow) ? range(0, int(trim_prefix(do, grow))) : [0]'
    set: {key: key, alt: alt, n: half * 2, tags: tags, do: do, pad: pad, part: item}
`,
	}
)

// load makes the step of a Load with this option.
func load(missing definition.OnMissing, own bool) Step {
	return Step{Stage: "load", Mode: definition.ModeLoad, Connector: Store, OnMissing: missing, Own: own}
}

// steps has the functions of each form, by its name.
var steps = map[string][]Step{
	"plain":        {verify, calculate},
	"chain":        {verify, calculate, save},
	"expand":       {verify, expand, save},
	"declared":     {verify, {Stage: "save", Mode: definition.ModeSave, Connector: Store, Declared: true}},
	"set":          {verify, saveLast},
	"load":         {load(definition.OnMissingWait, false), save},
	"loaddead":     {load(definition.OnMissingDead, false), save},
	"loadnull":     {load(definition.OnMissingNull, false), save},
	"declaredload": {verify, {Stage: "load", Mode: definition.ModeLoad, Connector: Store, OnMissing: definition.OnMissingWait, Declared: true}, save},
	"whole":        {batched, save},
	"faas":         {faas, save},
	"lineage":      {verify, batched, save},
	"lost":         {batched, save},
	"stretch":      {verify, load(definition.OnMissingNull, true), saveLast},
	"jump":         {verify, calculate, save},
	"shared":       {verify, calculate, save},
	"expressions":  {verify, sift, compute, split, save},
	"memory":       {verify, {Stage: "save", Mode: definition.ModeSave, Connector: Memory}},
}

// Of returns the form with a name. It panics for a name that scenario.Forms does not have.
func Of(name string) *Form {
	form, ok := scenario.FormOf(name)
	if !ok || steps[name] == nil {
		panic("there is no form of flows with the name " + name)
	}
	return &Form{Form: form, Steps: steps[name]}
}

// Step returns the step of a stage, or nil.
func (f *Form) Step(stage string) *Step {
	i := slices.IndexFunc(f.Steps, func(s Step) bool { return s.Stage == stage })
	if i < 0 {
		return nil
	}
	return &f.Steps[i]
}

// Function returns the name of a flow's function, by its stage.
func (f *Form) Function(flow, stage string) string {
	if f.Shared {
		flow = "shared"
	}
	return flow + "_" + stage
}

// ShardKey returns the field by which flows of the form are sharded at first; empty means that they are not.
func (f *Form) ShardKey() string {
	if f.Sharded {
		return "key"
	}
	return ""
}

// ListKey is the list of the entries that the Saves of a flow write for a key, in the connector's store. Like SumKey and LastKey it comes
// without KeyPrefix.
func ListKey(flow, key string) string { return flow + ":rows:" + key }

// SumKey is the hash with the sum of the numbers of a key's rows, and their count.
func SumKey(flow, key string) string { return flow + ":sum:" + key }

// LastKey is the hash with the number of the last row of a key.
func LastKey(flow, key string) string { return flow + ":" + key }
