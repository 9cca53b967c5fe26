package flowcmd

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// NoFunctions registers nothing: it is the register function of a program without Go functions.
func NoFunctions(*kis.Registry) {}

// GoFunctions returns the names of those functions of a flow that are Go functions: their documents do not say how they work. A function
// without a document counts as none.
func GoFunctions(set *definition.Set, flow string) []string {
	var names []string
	f := set.Flows[flow]
	if f == nil {
		return nil
	}
	for _, step := range f.Functions {
		if function := set.Functions[step.Name]; function != nil && !function.Declared() && !slices.Contains(names, step.Name) {
			names = append(names, step.Name)
		}
	}
	return names
}

// needsGo is the error of a flow that needs Go functions, in a program that has none. verb is the command, args are its arguments.
func needsGo(flow string, names []string, verb, args string) error {
	return batch.Errorf(batch.CodeUnknownFunction, "the flow %s needs the Go function%s %s, which kisgrid does not have: use the program of your worker, such as go run . %s %s",
		flow, plural(len(names)), strings.Join(names, ", "), verb, args)
}

// plural returns the ending of a noun that stands for n things.
func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// localWithoutGo makes a Local of the documents in a folder, for a flow that needs no Go functions. Other flows of the folder may need some.
func localWithoutGo(conf, flow string, options []flowexec.LocalOption) (*flowexec.Local, error) {
	docs, err := definition.Read(conf)
	if err != nil {
		return nil, err
	}
	set, err := definition.NewSet(docs)
	if err != nil {
		return nil, err
	}
	if names := GoFunctions(set, flow); len(names) > 0 {
		return nil, needsGo(flow, names, "run", fmt.Sprintf("%s %s", conf, flow))
	}
	f := set.Flows[flow]
	if f == nil {
		return nil, batch.Errorf(batch.CodeUnknownFlow, "no document in %s describes the flow %q%s", conf, flow, definition.Suggest(flow, slices.Sorted(maps.Keys(set.Flows))))
	}
	own := &definition.Set{Flows: map[string]*definition.Flow{flow: f}, Functions: set.Functions, Connectors: set.Connectors}
	return flowexec.NewLocalSet(own, NoFunctions, options...)
}

// CompileDeclared compiles all expressions of a set, in flows and in functions that no flow uses. It returns the plans of those flows that need
// no Go functions, by name, and the mistakes, except for those that making the set has found already. Missing Go functions are no mistakes.
func CompileDeclared(set *definition.Set) (map[string]*flowexec.Plan, definition.Mistakes) {
	var all definition.Mistakes
	told := map[definition.Mistake]bool{}
	plans := map[string]*flowexec.Plan{}
	registry := kis.NewRegistry()
	compile := func(b *definition.Bundle, leave func(*definition.Mistake) bool) *flowexec.Plan {
		plan, err := flowexec.Compile(b, registry)
		for _, m := range definition.MistakesOf(err) {
			if m.Code != batch.CodeUnknownFunction && !told[*m] && !leave(m) {
				told[*m] = true
				all = append(all, m)
			}
		}
		return plan
	}
	used := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(set.Flows)) {
		for _, step := range set.Flows[name].Functions {
			used[step.Name] = true
		}
		b, err := set.Bundle(name)
		if err != nil {
			// The mistakes of documents are known; the other functions may have more.
			compile(withStandIns(set, name), func(m *definition.Mistake) bool { return m.Code == batch.CodeUnknownConnector })
			continue
		}
		if plan := compile(b, func(*definition.Mistake) bool { return false }); plan != nil {
			plans[name] = plan
		}
	}
	for _, name := range slices.Sorted(maps.Keys(set.Functions)) {
		f := set.Functions[name]
		if used[name] || !f.Computes() || f.Connector != "" && set.Connectors[f.Connector] == nil {
			continue
		}
		// Nobody knows the params that a flow elsewhere gives, so expressions with params are left alone.
		compile(flowOf(set, f), func(m *definition.Mistake) bool { return strings.Contains(m.Problem, "params") })
	}
	return plans, all
}

// withStandIns returns a flow some of whose documents have mistakes: in the place of a function that could not be parsed, or has no document,
// stands a Go function, which is not registered.
func withStandIns(set *definition.Set, flow string) *definition.Bundle {
	b := &definition.Bundle{Flow: set.Flows[flow], Functions: map[string]*definition.Function{}, Connectors: set.Connectors}
	for _, step := range b.Flow.Functions {
		f := set.Functions[step.Name]
		if f == nil {
			f = &definition.Function{Name: step.Name, Mode: definition.ModeCalculate}
		}
		b.Functions[step.Name] = f
	}
	return b
}

// flowOf returns a flow of one function.
func flowOf(set *definition.Set, f *definition.Function) *definition.Bundle {
	b := &definition.Bundle{
		Flow:      &definition.Flow{Functions: []definition.FlowFunction{{Name: f.Name}}},
		Functions: map[string]*definition.Function{f.Name: f}, Connectors: map[string]*definition.Connector{},
	}
	if c := set.Connectors[f.Connector]; c != nil {
		b.Connectors[c.Name] = c
	}
	return b
}

// PrintTypes prints the row types of the flows of a set that have expressions.
func PrintTypes(out io.Writer, set *definition.Set) error {
	for _, name := range slices.Sorted(maps.Keys(set.Flows)) {
		computes := func(step definition.FlowFunction) bool {
			f := set.Functions[step.Name]
			return f != nil && f.Computes()
		}
		if !slices.ContainsFunc(set.Flows[name].Functions, computes) {
			continue
		}
		b, err := set.Bundle(name)
		if err != nil {
			continue // the caller has told the mistakes
		}
		if _, err := fmt.Fprintf(out, "flow %s\n", name); err != nil {
			return err
		}
		if err := definition.WriteTypes(out, b.Types()); err != nil {
			return err
		}
	}
	return nil
}
