package admin

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// storedState is the documents in etcd, with the statuses of functions and connectors, as one call of Get has read them.
type storedState struct {
	docs     []definition.Document
	statuses map[cluster.Key]cluster.DocumentStatus // the statuses of functions and connectors, by kind and name
	// away is why etcd does not answer now; empty means that it does. If it does not, asOf is when it answered last, and the other fields
	// may be as old as that.
	away string
	asOf time.Time
}

// awayPatience is how long a request to etcd may take while etcd is known to be away.
const awayPatience = time.Second

// readStoredState reads from etcd what Get needs. If etcd is away and the caller wants what is known, it returns the documents that this
// coordinator knows; of these only the documents with which a flow runs have their text. Otherwise it fails if etcd is away.
func (a *admin) readStoredState(ctx context.Context, in *pb.GetRequest) (now storedState, err error) {
	away, why := a.Store.Outage()
	known := a.Fleet.FollowedState()
	switch in.GetKind() {
	case "flows", "functions", "connectors":
	default: // workers and coordinators are known without asking
		if away {
			now.away, now.asOf = why, a.Store.LastAnswer()
		}
		return now, nil
	}
	asking := ctx
	if away && in.GetKnown() && known != nil {
		var cancel context.CancelFunc
		asking, cancel = context.WithTimeout(ctx, awayPatience)
		defer cancel()
	}
	_, now.docs, err = a.Store.Documents(asking)
	if err == nil && in.GetKind() != "flows" {
		now.statuses, err = a.Store.DocumentStatuses(asking)
	}
	code := batch.CodeOf(err)
	if err == nil || !in.GetKnown() || known == nil || ctx.Err() != nil || code != batch.CodeUnavailable && code != batch.CodeDeadline {
		return now, err
	}
	return storedState{docs: knownDocuments(known), statuses: known.Documents(), away: err.Error(), asOf: a.Store.LastAnswer()}, nil
}

// knownDocuments returns all documents that have a status in state, in the order of kind and name. Those with which a flow runs have their
// text; the others have only kind and name.
func knownDocuments(state *cluster.State) []definition.Document {
	docs := map[cluster.Key]definition.Document{}
	for key := range state.Documents() {
		docs[key] = definition.Document{Kind: key.Kind, Name: key.Name}
	}
	for _, f := range state.Flows {
		key := cluster.Key{Kind: definition.KindFlow, Name: f.Status.Flow}
		docs[key] = definition.Document{Kind: key.Kind, Name: key.Name}
	}
	for _, f := range state.Flows {
		if f.Active == nil {
			continue
		}
		for _, d := range f.Active.Documents {
			if was, listed := docs[flowstate.KeyOf(d)]; listed && d.Revision >= was.Revision {
				docs[flowstate.KeyOf(d)] = d
			}
		}
	}
	return slices.SortedFunc(maps.Values(docs), func(x, y definition.Document) int {
		return flowstate.CompareKeys(flowstate.KeyOf(x), flowstate.KeyOf(y))
	})
}
