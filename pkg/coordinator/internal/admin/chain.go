package admin

import "github.com/kisgrid/kisgrid/pkg/definition"

// ChainStep is one step of a flow, for those who draw the flow.
type ChainStep struct {
	Function string `json:"function"`
	// Mode is the purpose of the function, such as Save. Empty means that the function's document is missing or can't be read.
	Mode definition.Mode `json:"mode,omitempty"`
	// Connector is the connector that the function uses; empty means none.
	Connector string `json:"connector,omitempty"`
}

// chainOf returns the steps of a flow's document, in their order. all are the documents of the cluster, with those of functions. It returns nil
// if the flow's document can't be read.
func chainOf(flow definition.Document, all []definition.Document) []ChainStep {
	read, _ := definition.NewSet([]definition.Document{flow}) // mistakes are told elsewhere
	f := read.Flows[flow.Name]
	if f == nil {
		return nil
	}
	needed := map[string]bool{}
	for _, step := range f.Functions {
		needed[step.Name] = true
	}
	var docs []definition.Document
	for _, d := range all {
		if d.Kind == definition.KindFunc && needed[d.Name] {
			docs = append(docs, d)
		}
	}
	functions, _ := definition.NewSet(docs)
	chain := make([]ChainStep, 0, len(f.Functions))
	for _, step := range f.Functions {
		s := ChainStep{Function: step.Name}
		if function := functions.Functions[step.Name]; function != nil {
			s.Mode, s.Connector = function.Mode, function.Connector
		}
		chain = append(chain, s)
	}
	return chain
}
