package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// flowTypes are the row types of one function, in the flows that use it with these types. -o json prints them as they are.
type flowTypes struct {
	Flows []string `json:"flows"` // none for a function that no flow uses
	definition.StepTypes
}

// The most flows of a function, and the most functions of a flow, whose documents are asked for: each costs a call.
const (
	mostFlows     = 10
	mostFunctions = 50
)

// documentsOfFlows gets the documents of flows and of their functions from a cluster. Documents that can't be parsed, and those that the caller
// may not see, are left out.
func documentsOfFlows(ctx context.Context, a pb.AdminClient, flows []string) *definition.Set {
	set := &definition.Set{Flows: map[string]*definition.Flow{}, Functions: map[string]*definition.Function{}}
	for _, name := range flows[:min(len(flows), mostFlows)] {
		f := document(ctx, a, "flows", name).Flow
		if f == nil {
			continue
		}
		set.Flows[name] = f
		for _, step := range f.Functions {
			if set.Functions[step.Name] == nil && len(set.Functions) < mostFunctions {
				if function := document(ctx, a, "functions", step.Name).Function; function != nil {
					set.Functions[step.Name] = function
				}
			}
		}
	}
	return set
}

// document gets one document of a cluster. The result is empty if there is none that the caller may see and that parses: types are shown beside
// other things, which tell the reason.
func document(ctx context.Context, a pb.AdminClient, kind, name string) definition.Parsed {
	got, err := a.Get(ctx, &pb.GetRequest{Kind: kind, Name: name, Known: true})
	if err != nil || len(got.GetResources()) != 1 {
		return definition.Parsed{}
	}
	d := got.GetResources()[0].GetDocument()
	p, err := definition.Parse(definition.Document{Kind: definition.Kind(d.GetKind()), Name: d.GetName(), YAML: d.GetYaml()})
	if err != nil {
		return definition.Parsed{}
	}
	return p
}

// typesIn returns the row types of a flow's steps, and whether one of its functions has an expression.
func typesIn(set *definition.Set, flow string) (steps []definition.StepTypes, computes bool) {
	f := set.Flows[flow]
	if f == nil {
		return nil, false
	}
	b := &definition.Bundle{Flow: f, Functions: set.Functions}
	for _, step := range f.Functions {
		function := set.Functions[step.Name]
		computes = computes || function != nil && function.Computes()
	}
	return b.Types(), computes
}

// functionTypes returns the row types of a function: one entry for all flows in which they are the same. For a Go function they are those with
// which a worker has registered it.
func functionTypes(ctx context.Context, a pb.AdminClient, name string, flows []string) ([]flowTypes, error) {
	set := documentsOfFlows(ctx, a, flows)
	f := set.Functions[name]
	if f == nil {
		if f = document(ctx, a, "functions", name).Function; f == nil {
			return nil, nil
		}
		set.Functions[name] = f
	}
	var all []flowTypes
	add := func(flow string, t definition.StepTypes) {
		for i := range all {
			if reflect.DeepEqual(all[i].StepTypes, t) {
				if !slices.Contains(all[i].Flows, flow) {
					all[i].Flows = append(all[i].Flows, flow)
				}
				return
			}
		}
		all = append(all, flowTypes{[]string{flow}, t})
	}
	for _, flow := range flows {
		steps, _ := typesIn(set, flow)
		for _, t := range steps {
			if t.Function == name {
				add(flow, t)
			}
		}
	}
	if all == nil {
		b := &definition.Bundle{Flow: &definition.Flow{Functions: []definition.FlowFunction{{Name: name}}}, Functions: set.Functions}
		all = []flowTypes{{[]string{}, b.Types()[0]}}
	}
	if !f.Declared() {
		in, out, err := registeredTypes(ctx, a, name)
		if err != nil {
			return nil, err
		}
		for i := range all {
			all[i].Reads, all[i].Gives = in, out
		}
	}
	return all, nil
}

// registeredTypes returns the row types with which a worker has registered a Go function; they are empty if no worker has.
func registeredTypes(ctx context.Context, a pb.AdminClient, name string) (in, out string, err error) {
	got, err := a.Get(ctx, &pb.GetRequest{Kind: "workers", Known: true})
	if err != nil {
		return "", "", err
	}
	for _, r := range got.GetResources() {
		var w cluster.Worker
		if err := json.Unmarshal(r.GetStatus(), &w); err != nil {
			return "", "", fmt.Errorf("read the status of worker %s: %w", r.GetName(), err)
		}
		for _, f := range w.Functions {
			if f.Name == name {
				return f.In, f.Out, nil
			}
		}
	}
	return "", "", nil
}

// typesOf returns the row types to show beside the answer of get, which are those of one function. They are nil for everything else.
func typesOf(ctx context.Context, a pb.AdminClient, in *pb.GetRequest, got *pb.GetResponse) ([]flowTypes, error) {
	if in.GetKind() != "functions" || in.GetName() == "" || len(got.GetResources()) != 1 {
		return nil, nil
	}
	r := got.GetResources()[0]
	var v coordinator.DocumentView
	if err := json.Unmarshal(r.GetStatus(), &v); err != nil {
		return nil, fmt.Errorf("read the status of function %s: %w", r.GetName(), err)
	}
	return functionTypes(ctx, a, r.GetName(), v.Flows)
}

// typeRows writes the row types of a function as rows of a table.
func typeRows(w io.Writer, all []flowTypes) {
	for _, t := range all {
		in := ""
		if len(all) > 1 {
			in = " in " + strings.Join(t.Flows, ", ")
		}
		if t.Reads != "" {
			fmt.Fprintf(w, "reads%s\t%s\n", in, t.Reads)
		}
		if gives := t.GivesText(); gives != "" {
			fmt.Fprintf(w, "gives%s\t%s\n", in, gives)
		}
	}
}

// typedExpressions prints the expressions of a function with their types, once for each way in which flows type it.
func typedExpressions(out io.Writer, all []flowTypes) error {
	for _, t := range all {
		if len(all) > 1 && len(t.Expressions) > 0 {
			fmt.Fprintf(out, "in %s:\n", strings.Join(t.Flows, ", "))
		}
		if err := t.WriteExpressions(out, "  "); err != nil {
			return err
		}
	}
	return nil
}

// printChangedTypes prints the row types of those flows among documents that have expressions and are new or changed themselves or by their
// functions, and of such functions that no flow among the documents uses.
func printChangedTypes(out io.Writer, docs []definition.Document, changes []*pb.Change) error {
	set, _ := definition.NewSet(docs) // its mistakes do not matter: other documents may be in the cluster
	changed := map[string]bool{}
	for _, c := range changes {
		changed[c.GetKind()+"/"+c.GetName()] = c.GetAction() != "unchanged"
	}
	told := map[string]bool{}
	for _, c := range changes { // in the order in which they were told
		name := c.GetName()
		f := set.Flows[name]
		if c.GetKind() != string(definition.KindFlow) || f == nil {
			continue
		}
		news := changed["flow/"+name]
		for _, step := range f.Functions {
			news = news || changed["func/"+step.Name]
		}
		steps, computes := typesIn(set, name)
		if !news || !computes {
			continue
		}
		for _, step := range f.Functions {
			told[step.Name] = true
		}
		fmt.Fprintf(out, "flow %s\n", name)
		if err := definition.WriteTypes(out, steps); err != nil {
			return err
		}
	}
	for _, c := range changes {
		f := set.Functions[c.GetName()]
		if c.GetKind() != string(definition.KindFunc) || f == nil || told[f.Name] || !changed["func/"+f.Name] || !f.Computes() {
			continue
		}
		b := &definition.Bundle{Flow: &definition.Flow{Functions: []definition.FlowFunction{{Name: f.Name}}}, Functions: set.Functions}
		if err := definition.WriteTypes(out, b.Types()); err != nil {
			return err
		}
	}
	return nil
}
