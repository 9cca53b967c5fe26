package flowcmd

import (
	"context"

	"github.com/kisgrid/kisgrid/internal/rowfile"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// describeRows tells the submitter the types of the flow's rows and its shard key, as the documents and the registered functions have them.
// Documents that have mistakes tell nothing here: they are reported elsewhere. register may be nil.
func (r *localRun) describeRows(conf string, register func(*kis.Registry)) {
	flowOf := func() (*definition.Set, *definition.Flow) {
		set, _, err := definition.Load(conf)
		if err != nil {
			return nil, nil
		}
		return set, set.Flows[r.rows.Flow]
	}
	r.rows.Types = func(context.Context) (rowfile.Types, error) {
		set, flow := flowOf()
		if flow == nil {
			return nil, nil
		}
		described := map[string]string{}
		if register != nil {
			registry := kis.NewRegistry()
			register(registry)
			for _, f := range registry.Functions() {
				described[f.Name] = f.In
			}
		}
		types := rowfile.Types{}
		for _, step := range flow.Functions {
			if f := set.Functions[step.Name]; f != nil {
				types.Add(rowfile.DeclaredTypes(f.Document.YAML))
			}
			if of, err := rowfile.ParseTypes(described[step.Name]); err == nil {
				types.Add(of)
			}
		}
		return types, nil
	}
	r.rows.ShardKey = func(context.Context) (string, error) {
		if _, flow := flowOf(); flow != nil {
			return flow.ShardKey, nil
		}
		return "", nil
	}
}
