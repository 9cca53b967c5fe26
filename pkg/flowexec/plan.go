package flowexec

import (
	"maps"
	"reflect"
	"runtime"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// longest is the longest timeout, interval or wait of a function: a longer time in a document counts as this one. So the sum of a few such
// times does not overflow. A flow's timeout may be four times as long.
const longest = 10 * 365 * 24 * time.Hour

// Plan is one compiled revision of a flow: its steps, with the code behind each. It is immutable and safe for concurrent use.
type Plan struct {
	flow     string
	revision int64
	shardKey string
	// unsharded says that the flow has no shard key. Then a run is a whole batch, and one row or one function may decide for all of it.
	unsharded bool
	copies    int
	// timeout is how long one row may take in all, waits included. Documents are refused unless it is over 0.
	timeout time.Duration
	steps   []*step
	// places has, for each function, its places in steps.
	places map[string][]int
	// stretches are the stretches of the flow, in their order; nil means none.
	stretches []stretch
	// types are the row types of the flow, and how each is read and written.
	types *decode.Types
	// bundle has the documents of the flow, its functions and its connectors. Mistakes and warnings name their lines.
	bundle   *definition.Bundle
	registry *kis.Registry
}

// step is one function at one place of the flow.
type step struct {
	decode.Input // how the step reads rows

	mode definition.Mode
	form kis.Form
	// code is the registered Go function; nil means that the function is declared in its document.
	code kis.Code
	// out is the type of the rows that the function makes; nil means that rows go on as they came. outKind is the kind of their vector,
	// outPointer says that the type is a pointer, and weigher estimates their size. These three mean nothing if out is nil.
	out        reflect.Type
	outKind    rows.Kind
	outPointer bool
	weigher    *weigher

	// params are the function's parameters: those of its document, and those of the flow's document over them.
	params map[string]string
	// retries is how often the function is called again for a row after an error, and retryAfter how long the row waits before each retry.
	retries    int
	retryAfter time.Duration
	// timeout is how long one call may take for one row. Documents are refused unless it is over 0.
	timeout time.Duration
	// onMissing says how a Load treats a row whose key is missing. If the row waits for the key, wait is for how long.
	onMissing definition.OnMissing
	wait      time.Duration
	// connector is the function's connector; nil means none.
	connector *definition.Connector
	// save and load are the function's declared Save or Load; nil means that it has none. sets are the fields that load sets.
	save *definition.DeclaredSave
	load *definition.DeclaredLoad
	sets decode.LoadedFields
	// effects are the expressions of save or load; nil means that there are none.
	effects *effectExpressions
	// exprs is code, if it is made of expressions; else nil.
	exprs *exprCode
}

// ShardKey returns the name of the field whose value decides which slot, and so which lane, a row goes to. It is empty for a flow without a
// shard key, whose batches go to one lane as a whole.
func (p *Plan) ShardKey() string { return p.shardKey }

// Copies returns how many lanes the flow is to have: the number in its document, or else GOMAXPROCS.
func (p *Plan) Copies() int { return p.copies }

// Connectors returns the connectors that functions of the flow use, each once, in the order of their names.
func (p *Plan) Connectors() []*definition.Connector {
	var all []*definition.Connector
	for _, name := range slices.Sorted(maps.Keys(p.bundle.Connectors)) {
		all = append(all, p.bundle.Connectors[name])
	}
	return all
}

// Functions returns the names of the flow's functions, with the mode of each as its document has it.
func (p *Plan) Functions() map[string]string {
	all := map[string]string{}
	for _, s := range p.steps {
		all[s.Name] = string(s.mode)
	}
	return all
}

// Place returns the place in the flow, from 0, at which a function stands. A flow may use a function several times: use says which time is
// meant, from 0. ok is false if the flow does not use the function so often.
func (p *Plan) Place(function string, use int) (place int, ok bool) {
	places := p.places[function]
	if use < 0 || use >= len(places) {
		return 0, false
	}
	return places[use], true
}

// Compile makes a plan of a flow's documents and the Go functions that are registered in r. The error has code FLOW_UNCOMPILABLE; its
// cause, a definition.Mistakes, has every mistake that can be known before a row comes.
func Compile(b *definition.Bundle, r *kis.Registry) (*Plan, error) {
	p := &Plan{
		flow: b.Flow.Name, revision: b.Revision, shardKey: b.Flow.ShardKey, unsharded: b.Flow.ShardKey == "", timeout: min(b.Flow.Timeout, 4*longest),
		copies: b.Flow.Copies, places: make(map[string][]int), types: new(decode.Types),
		bundle: b, registry: r,
	}
	if p.copies <= 0 {
		p.copies = runtime.GOMAXPROCS(0)
	}
	var mistakes definition.Mistakes
	if p.steps, mistakes = compileSteps(b, r); len(mistakes) > 0 {
		return nil, batch.Errorf(batch.CodeFlowUncompilable, "flow %s does not compile: %w", b.Flow.Name, mistakes)
	}
	for i, s := range p.steps {
		p.places[s.Name] = append(p.places[s.Name], i)
	}
	p.findInputs()
	p.findSets()
	p.findStretches()
	return p, nil
}

// compileSteps makes the steps of a flow, and returns all mistakes in them. Types are checked between steps that are known on both sides.
func compileSteps(b *definition.Bundle, r *kis.Registry) ([]*step, definition.Mistakes) {
	var mistakes definition.Mistakes
	var carried rowType
	var steps []*step
	checked := 0 // the steps before this one are checked against one another
	for i := range b.Flow.Functions {
		s, wrong := compileStep(b, r, i, carried)
		mistakes = append(mistakes, wrong...)
		carried = s.passes(carried)
		if steps = append(steps, s); s.form == 0 {
			mistakes = append(mistakes, checkTypes(b, steps[checked:i])...)
			checked = i + 1
		}
	}
	return steps, append(mistakes, checkTypes(b, steps[checked:])...)
}

// compileStep makes the step at place i of a flow. carried is the type of the rows that come to it. It also returns the mistakes in the step's function; the step is never nil.
func compileStep(b *definition.Bundle, r *kis.Registry, i int, carried rowType) (*step, definition.Mistakes) {
	entry := b.Flow.Functions[i]
	doc := b.Functions[entry.Name]
	if doc == nil {
		return stepWithoutDocument(entry.Name, i, r), nil
	}
	s := &step{
		Input: decode.Input{Index: i, Name: entry.Name, Must: doc.Source.Must}, mode: doc.Mode,
		params:  maps.Clone(doc.DefaultParams),
		retries: doc.RetryTimes, retryAfter: min(doc.RetryInterval, longest), timeout: min(doc.Timeout, longest),
		onMissing: doc.OnMissing, wait: min(doc.Wait, longest), save: doc.Save, load: doc.Load,
	}
	if s.params == nil {
		s.params = make(map[string]string)
	}
	maps.Copy(s.params, entry.Params)
	if doc.Connector != "" {
		s.connector = b.Connectors[doc.Connector]
	}
	return s, s.bind(b, doc, entry, r, carried)
}
