package coordinator

import (
	"context"

	"github.com/kisgrid/kisgrid/internal/rowfile"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// rowTypes returns the types of the fields of a flow's rows, by the documents of its active revision and the live workers. It is nil if they are
// not known.
func (c *Coordinator) rowTypes(ctx context.Context, flow string) rowfile.Types {
	f := c.board.Load().Flows[flow]
	if f == nil || f.Active == nil {
		return nil
	}
	workers := c.fleet.Workers(ctx)
	return rowfile.FlowTypes(documentIn(f.Active, definition.KindFlow, flow), func(function string) []byte {
		return documentIn(f.Active, definition.KindFunc, function)
	}, func(function string) string {
		for _, w := range workers {
			if in := w.RowType(function); in != "" {
				return in
			}
		}
		return ""
	})
}

// documentIn returns the text of a document of a revision, or nil if the revision has none with this kind and name.
func documentIn(r *flowstate.Revision, kind definition.Kind, name string) []byte {
	for _, d := range r.Message.GetDocuments() {
		if d.GetKind() == string(kind) && d.GetName() == name {
			return d.GetYaml()
		}
	}
	return nil
}
