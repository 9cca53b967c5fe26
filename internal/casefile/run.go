package casefile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/memory"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// longestWait and longestPause bound, in a case, the wait of a Load for its key and the pause before a retry: nobody but the case's own rows
// saves anything, so a longer wait would change nothing.
const (
	longestWait  = time.Second
	longestPause = time.Millisecond
)

// Result is how one case ended.
type Result struct {
	File *File
	Case *Case
	// Rows is how many rows the case has, Took how long it took.
	Rows int
	Took time.Duration
	// Err says why the case could not run, or that it compares nothing. nil means neither.
	Err error
	// Differences are those between what the case wants and what has happened. A case without any, and without Err, has passed.
	Differences []Difference

	actual *actual // nil if the case could not run
}

// Passed reports whether everything was as the case wants it.
func (r *Result) Passed() bool { return r.Err == nil && len(r.Differences) == 0 }

// Ran reports whether the rows ran, whatever became of them.
func (r *Result) Ran() bool { return r.actual != nil }

// actual is what has happened in a case.
type actual struct {
	output  []outputRow
	notDone map[int]batch.RowOutcome // by row; the others are done
	held    map[string]map[string]heldKey
}

// outputRow is one row of the flow's output, as JSON. origin is the input row from which it comes, from 0; -1 means that it is made of
// several.
type outputRow struct {
	json   []byte
	origin int
}

// Compile compiles each flow that cases with a matching name use. The error has every mistake in them, as a definition.Mistakes.
func (s *Suite) Compile(run *regexp.Regexp, register func(*kis.Registry)) error {
	flows := map[*definition.Set]map[string]*definition.Flow{}
	for _, f := range s.Files {
		for _, c := range f.Cases {
			if flow := f.Set.Flows[c.Flow]; flow != nil && run.MatchString(c.Name) {
				if flows[f.Set] == nil {
					flows[f.Set] = map[string]*definition.Flow{}
				}
				flows[f.Set][c.Flow] = flow
			}
		}
	}
	registry := kis.NewRegistry()
	register(registry)
	var mistakes []error
	for _, f := range s.Files {
		if used := flows[f.Set]; used != nil {
			_, err := flowexec.CompileAll(&definition.Set{Flows: used, Functions: f.Set.Functions, Connectors: f.Set.Connectors}, nil, registry)
			mistakes = append(mistakes, err)
			delete(flows, f.Set)
		}
	}
	return errors.Join(mistakes...)
}

// Run runs the cases with a matching name, one after the other, and calls each with every result. It stops early only when ctx ends. register
// registers the Go functions of the flows; it is called for each case, so that cases share nothing but the program's own variables.
func (s *Suite) Run(ctx context.Context, run *regexp.Regexp, register func(*kis.Registry), each func(*Result)) error {
	for _, f := range s.Files {
		for _, c := range f.Cases {
			if !run.MatchString(c.Name) {
				continue
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			began := time.Now()
			r := &Result{File: f, Case: c, Rows: len(c.rows)}
			if r.actual, r.Err = f.run(ctx, c, register); r.Err == nil {
				r.Differences = c.compare(r.actual)
				if !c.compares() {
					r.Err = batch.Errorf(batch.CodeBadDocument, "the case compares nothing: write output, outcomes or after, or let --update write them")
				}
			}
			r.Took = time.Since(began)
			each(r)
		}
	}
	return nil
}

// run runs one case of the file.
func (f *File) run(ctx context.Context, c *Case, register func(*kis.Registry)) (*actual, error) {
	store := memory.New()
	for i := range c.before {
		if err := fill(ctx, store, &c.before[i]); err != nil {
			return nil, fmt.Errorf("put the data under before into connector %s: %w", c.before[i].connector, err)
		}
	}
	local, err := flowexec.NewLocalSet(f.forCase(c), register, flowexec.WithMemory(store))
	if err != nil {
		return nil, err
	}
	a, err := submit(ctx, local, c)
	if closed := local.Close(); err == nil && closed != nil {
		err = fmt.Errorf("close the connectors: %w", closed)
	}
	if err != nil {
		return nil, err
	}
	a.held = map[string]map[string]heldKey{}
	for _, name := range connectorsOf(f.Set, c.Flow) {
		a.held[name] = contents(store, name)
	}
	return a, nil
}

// forCase returns a set with the case's flow alone. The flow is on and has one lane, so that rows run in their order; its keys have no
// prefixes; and nothing waits for long.
func (f *File) forCase(c *Case) *definition.Set {
	flow := *f.Set.Flows[c.Flow]
	flow.Enabled, flow.Copies = true, 1
	set := &definition.Set{Flows: map[string]*definition.Flow{c.Flow: &flow}, Functions: map[string]*definition.Function{}, Connectors: map[string]*definition.Connector{}}
	for _, name := range functionsOf(&flow) {
		own := *f.Set.Functions[name]
		own.Wait, own.RetryInterval = min(own.Wait, longestWait), min(own.RetryInterval, longestPause)
		set.Functions[name] = &own
	}
	for _, name := range connectorsOf(f.Set, c.Flow) {
		own := *f.Set.Connectors[name]
		own.Key = ""
		set.Connectors[name] = &own
	}
	return set
}

// fill puts data into a connector.
func fill(ctx context.Context, store *memory.Store, h *holding) error {
	var effects []connector.Effect
	for _, k := range h.keys {
		for _, f := range k.fields {
			effects = append(effects, connector.Effect{Op: connector.Set, Key: k.key, Field: f.name, Value: f.value.text})
		}
		for _, v := range k.list {
			effects = append(effects, connector.Effect{Op: connector.Append, Key: k.key, Value: v.text})
		}
	}
	if len(effects) == 0 {
		return nil
	}
	conn, err := store.Open(ctx, &definition.Connector{Name: h.connector, Type: "memory"})
	if err != nil {
		return err
	}
	defer conn.Close()
	verdicts, err := conn.Save(ctx, connector.Cause{}, effects)
	if err != nil {
		return err
	}
	for _, err := range verdicts {
		if err != nil {
			return err
		}
	}
	return nil
}

// contents returns the data of a connector, by key.
func contents(store *memory.Store, name string) map[string]heldKey {
	lists, hashes := store.Data(name)
	all := map[string]heldKey{}
	for key, list := range lists {
		k := heldKey{key: key}
		for _, text := range list {
			k.list = append(k.list, heldValue{text: text})
		}
		all[key] = k
	}
	for key, hash := range hashes {
		k := heldKey{key: key, fields: []heldField{}}
		for _, name := range slices.Sorted(maps.Keys(hash)) {
			k.fields = append(k.fields, heldField{name, heldValue{text: hash[name]}})
		}
		all[key] = k
	}
	return all
}

// caseID is the id of the batch of every case: the rows' ids are the same each time, also where a function puts them into its output.
var caseID = batch.ID{Sequence: 1}

// submit runs the rows of a case as one batch.
func submit(ctx context.Context, local *flowexec.Local, c *Case) (*actual, error) {
	var columns batch.Columns
	for _, row := range c.rows {
		columns.Append(row)
	}
	b := batch.Pack(columns)
	b.Use(time.Now(), func() batch.ID { return caseID })
	result, err := local.Submit(ctx, c.Flow, b)
	if err != nil {
		if e, ok := err.(interface{ Unwrap() []error }); ok && len(e.Unwrap()) > 0 {
			err = e.Unwrap()[0] // without the advice to submit the batch again
		}
		return nil, fmt.Errorf("run the rows: %w", err)
	}
	a := &actual{notDone: map[int]batch.RowOutcome{}}
	for i := range result.Output.Rows.Len() {
		row := outputRow{json: result.Output.Rows.Row(i), origin: -1}
		if origin := result.Output.Origins[i]; origin != batch.WholeBatch {
			row.origin = int(origin)
		}
		a.output = append(a.output, row)
	}
	for _, o := range result.NotDone {
		a.notDone[int(o.Row)] = o
	}
	return a, nil
}
