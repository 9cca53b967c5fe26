package coordinator

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Workers tell in their sessions whether their connectors are connected. A connector whose store one of the workers can't use is degraded,
// and so are the flows that need it; that is never a reason to reject documents. Workers of builds that don't tell it in sessions list
// unusable stores in their records in etcd, and nothing else.

// connectorStates are the states of one worker's connectors, as the worker has told them in this session. Any goroutine may use it.
type connectorStates struct {
	mu     sync.Mutex
	tells  bool                                          // guarded by mu: the worker's build tells the states
	states map[flowstate.ConnectorKey]*pb.ConnectorState // guarded by mu
}

// maxConnectorStates bounds how many connectors of a worker are remembered.
const maxConnectorStates = 1 << 16

// reset begins a session, of which nothing is known yet. tells says whether the worker's build tells the states.
func (s *connectorStates) reset(tells bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tells, s.states = tells, map[flowstate.ConnectorKey]*pb.ConnectorState{}
}

// tellsStates reports whether the worker's build tells the states.
func (s *connectorStates) tellsStates() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tells
}

// update takes over the states that a message of the worker has. The error says that the message is malformed.
func (s *connectorStates) update(states []*pb.ConnectorState) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, state := range states {
		r, err := wire.ToRevision(0, state.GetDigest())
		if err != nil {
			return err
		}
		key := flowstate.ConnectorKey{Name: state.GetName(), Digest: r.Digest}
		if state.GetStanding() == pb.ConnectorState_STANDING_GONE {
			delete(s.states, key)
		} else if s.states[key] != nil || len(s.states) < maxConnectorStates {
			s.states[key] = state
		}
	}
	return nil
}

// find returns the state of a connector; nil when the worker has not told it. tells says whether the worker's build tells the states.
func (s *connectorStates) find(key flowstate.ConnectorKey) (state *pb.ConnectorState, tells bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states[key], s.tells
}

// reportConnector adds the state of a connector on the member's worker to a report.
func (m *member) reportConnector(c *flowstate.ConnectorReport, key flowstate.ConnectorKey) {
	at := flowstate.ConnectorStatus{ConnectorKey: key, Worker: m.peer.worker.ID}
	state, tells := m.peer.connectors.find(key)
	why, down := m.worker.Stores[key.Name]
	switch {
	case !tells && down:
		at.Reason = why
		c.Degraded = append(c.Degraded, at)
	case !tells:
		at.Reason = "the worker's build does not tell the state of its connectors"
		c.Unknown = append(c.Unknown, at)
	case state.GetStanding() == pb.ConnectorState_STANDING_DEGRADED:
		at.Reason = cmp.Or(state.GetReason(), "the worker gives no reason")
		c.Degraded = append(c.Degraded, at)
	case state.GetStanding() != pb.ConnectorState_STANDING_CONNECTED:
		at.Reason = "it is not connected yet: the first try is under way"
		c.Opening = append(c.Opening, at)
	default:
		c.Connected = append(c.Connected, at)
	}
}

// Connectors returns the states of the connectors that the active revisions of flows need, on the workers that run them. It looks at all
// flows where none is named. It returns false when ctx is done or the fleet has ended.
func (f *fleet) Connectors(ctx context.Context, flows ...string) (flowstate.ConnectorReport, bool) {
	var c flowstate.ConnectorReport
	if !f.wait(ctx, func() {
		if len(flows) == 0 {
			flows = slices.Sorted(maps.Keys(f.flows.byName))
		}
		seen := map[string]map[flowstate.ConnectorKey]bool{} // by worker, since flows share connectors
		for _, flow := range flows {
			if e := f.flows.byName[flow]; e.TakesBatches() && len(e.Active.Connectors) > 0 {
				f.roster.reportConnectors(&c, definitionKey{flow, e.Active.ID()}, e.Active.Connectors, seen)
			}
		}
	}) {
		return flowstate.ConnectorReport{}, false // c may still be written to
	}
	for _, all := range [][]flowstate.ConnectorStatus{c.Degraded, c.Opening, c.Unknown} {
		slices.SortFunc(all, func(a, b flowstate.ConnectorStatus) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.Reason, b.Reason))
		})
	}
	return c, true
}

// reportConnectors adds the states of one revision's connectors, on the workers that run the revision. seen has the connectors, by worker,
// that the report has already.
func (r *roster) reportConnectors(c *flowstate.ConnectorReport, revision definitionKey, connectors []flowstate.ConnectorKey, seen map[string]map[flowstate.ConnectorKey]bool) {
	for id, m := range r.members {
		if !m.alive() || !m.ready(revision) {
			continue
		}
		if seen[id] == nil {
			seen[id] = map[flowstate.ConnectorKey]bool{}
		}
		for _, key := range connectors {
			if !seen[id][key] {
				seen[id][key] = true
				m.reportConnector(c, key)
			}
		}
	}
}
