package flowexec

import (
	"errors"
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

// longest is the longest time that anything is waited for, whatever a document says: sums of such times are no overflow.
const longest = 10 * 365 * 24 * time.Hour

// Plan is one compiled revision of a flow. It is immutable and safe for concurrent use.
type Plan struct {
	flow     string
	revision int64
	shardKey string
	// unsharded says that the flow has no shard key: a run is a whole batch, so that one row or function may decide for all of it.
	unsharded bool
	copies    int
	timeout   time.Duration
	steps     []*step
	places    map[string][]int // where a function stands in steps
	// stretches are where rows of one key go one after the other; nil: nowhere.
	stretches []stretch
	types     *decode.Types
	bundle    *definition.Bundle
	registry  *kis.Registry
}

// step is one function in its place in the flow.
type step struct {
	decode.Input // how the step reads rows

	mode definition.Mode
	form kis.Form
	code kis.Code // nil means that the function is declared in its document
	// out is the type of the rows that the function passes on; nil means that it passes rows on as they came. outKind is the kind of their vector,
	// outPointer means that the type is a pointer, and weigher weighs them; it is nil where out is.
	out        reflect.Type
	outKind    rows.Kind
	outPointer bool
	weigher    *weigher

	params     map[string]string
	retries    int
	retryAfter time.Duration
	timeout    time.Duration
	onMissing  definition.OnMissing
	wait       time.Duration
	connector  *definition.Connector // nil means that it has none
	save       *definition.DeclaredSave
	load       *definition.DeclaredLoad
	sets       decode.LoadedFields // the fields that load sets
}

// Flow is the flow's name.
func (p *Plan) Flow() string { return p.flow }

// Revision is that of the newest document that the plan was compiled from; 0 outside a cluster.
func (p *Plan) Revision() int64 { return p.revision }

// ShardKey is the field that decides where a row goes; "": batches go whole.
func (p *Plan) ShardKey() string { return p.shardKey }

// Copies is how many lanes the flow is to have: what its document says, else GOMAXPROCS.
func (p *Plan) Copies() int { return p.copies }

// Connectors are those that functions of the flow have, each once, by name.
func (p *Plan) Connectors() []*definition.Connector {
	var all []*definition.Connector
	for _, name := range slices.Sorted(maps.Keys(p.bundle.Connectors)) {
		all = append(all, p.bundle.Connectors[name])
	}
	return all
}

// Functions are the modes of the flow's functions, as KisFlow calls them, by name.
func (p *Plan) Functions() map[string]string {
	all := map[string]string{}
	for _, s := range p.steps {
		all[s.Name] = string(s.mode)
	}
	return all
}

// Place is where in the flow a function stands: the use-th time that it does, counted from 0. false: it does not.
func (p *Plan) Place(function string, use int) (place int, ok bool) {
	places := p.places[function]
	if use < 0 || use >= len(places) {
		return 0, false
	}
	return places[use], true
}

// Compile makes a plan of a flow's documents and the functions registered for it. The error has code FLOW_UNCOMPILABLE and
// reports every mistake that can be known before a row flows: definition.Mistakes is its cause.
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
	for i, entry := range b.Flow.Functions {
		s, wrong := compileStep(b, r, i)
		mistakes = append(mistakes, wrong...)
		p.steps = append(p.steps, s)
		p.places[entry.Name] = append(p.places[entry.Name], i)
	}
	if !slices.ContainsFunc(p.steps, func(s *step) bool { return s.form == 0 }) {
		mistakes = append(mistakes, checkTypes(b, p.steps)...)
	}
	if len(mistakes) > 0 {
		return nil, batch.Errorf(batch.CodeFlowUncompilable, "flow %s does not compile: %w", b.Flow.Name, mistakes)
	}
	p.findInputs()
	p.findSets()
	p.findStretches()
	return p, nil
}

// CompileAll compiles every flow of a set, by name. wrong is the error that came with the set, nil for none. The error, with
// code FLOW_UNCOMPILABLE, has every mistake of documents, registration and flows, each once: definition.Mistakes is its cause.
func CompileAll(set *definition.Set, wrong error, r *kis.Registry) (map[string]*Plan, error) {
	var all definition.Mistakes
	told := make(map[definition.Mistake]bool) // flows share functions, and their mistakes
	tell := func(err error) {
		for _, m := range mistakesOf(err) {
			if !told[*m] {
				told[*m] = true
				all = append(all, m)
			}
		}
	}
	tell(wrong)
	tell(r.Err())
	plans := make(map[string]*Plan, len(set.Flows))
	for _, name := range slices.Sorted(maps.Keys(set.Flows)) {
		b, err := set.Bundle(name)
		if err == nil {
			plans[name], err = Compile(b, r)
		}
		tell(err)
	}
	if len(all) > 0 {
		return nil, batch.Errorf(batch.CodeFlowUncompilable, "%d mistakes:\n%w", len(all), all)
	}
	return plans, nil
}

// mistakesOf are the mistakes in an error, joined ones too.
func mistakesOf(err error) definition.Mistakes {
	var all definition.Mistakes
	var one *definition.Mistake
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
	case ok:
		for _, e := range joined.Unwrap() {
			all = append(all, mistakesOf(e)...)
		}
	case errors.As(err, &all):
	case errors.As(err, &one):
		all = definition.Mistakes{one}
	default:
		all = definition.Mistakes{{Document: "documents", Code: batch.CodeOf(err), Problem: err.Error()}}
	}
	return all
}

func compileStep(b *definition.Bundle, r *kis.Registry, i int) (*step, definition.Mistakes) {
	entry := b.Flow.Functions[i]
	doc := b.Functions[entry.Name]
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
	return s, s.bind(b, doc, entry, r)
}
