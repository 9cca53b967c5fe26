package flowcmd

import (
	"fmt"
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

// WithoutGo returns a set with those flows that need no Go function, and all functions and connectors.
func WithoutGo(set *definition.Set) *definition.Set {
	own := &definition.Set{Flows: map[string]*definition.Flow{}, Functions: set.Functions, Connectors: set.Connectors}
	for name, f := range set.Flows {
		if len(GoFunctions(set, name)) == 0 {
			own.Flows[name] = f
		}
	}
	return own
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
