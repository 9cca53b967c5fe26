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

// How connectors stand, workers tell in their sessions; a connector that is of no use to one of them is degraded, whatever kind it
// is of, and so are the flows that need it. It is never a reason to refuse what the documents ask for. Workers of builds that don't
// tell say of a connector that it is of no use in their record in etcd, and else nothing.

// standings are how one worker's connectors stand, as it tells.
type connectorStates struct {
	mu     sync.Mutex
	tells  bool                                          // its build does; guarded by mu
	states map[flowstate.ConnectorKey]*pb.ConnectorState // guarded by mu
}

// mostStandings bounds how many connectors of a worker are remembered.
const maxConnectorStates = 1 << 16

// reset begins a session: what was told before may not be so any more.
func (s *connectorStates) reset(tells bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tells, s.states = tells, map[flowstate.ConnectorKey]*pb.ConnectorState{}
}

func (s *connectorStates) tellsStates() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tells
}

// learn takes over what the worker says.
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

// find is how a connector stands; nil: the worker has not told. tells: its build does.
func (s *connectorStates) find(key flowstate.ConnectorKey) (state *pb.ConnectorState, tells bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states[key], s.tells
}

// look adds how a connector stands on a worker.
func (m *member) addConnector(c *flowstate.ConnectorReport, id string, key flowstate.ConnectorKey) {
	at := flowstate.ConnectorStatus{ConnectorKey: key, Worker: id}
	state, tells := m.peer.connectors.find(key)
	why, down := m.worker.Stores[key.Name]
	switch {
	case !tells && down:
		at.Reason = why
		c.Degraded = append(c.Degraded, at)
	case !tells:
		at.Reason = "the worker's build does not say how its connectors stand"
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

// connectors is how the connectors of active flows stand, of all flows where none is named, on the workers that have them. False:
// ctx or the fleet ended first.
func (f *fleet) Connectors(ctx context.Context, flows ...string) (flowstate.ConnectorReport, bool) {
	var c flowstate.ConnectorReport
	if !f.wait(ctx, func() {
		if len(flows) == 0 {
			flows = slices.Sorted(maps.Keys(f.flows))
		}
		seen := map[string]map[flowstate.ConnectorKey]bool{} // by worker: flows share connectors
		for _, flow := range flows {
			if e := f.flows[flow]; e.TakesBatches() && len(e.Active.Connectors) > 0 {
				f.connectorsAt(&c, definitionKey{flow, e.Active.Id()}, e.Active.Connectors, seen)
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

// connectorsAt looks at those of one revision, on the workers that run it.
func (f *fleet) connectorsAt(c *flowstate.ConnectorReport, revision definitionKey, conns []flowstate.ConnectorKey, seen map[string]map[flowstate.ConnectorKey]bool) {
	for id, m := range f.members {
		v, sent := m.definitions.get(revision)
		if m.dead || m.worker.Draining || !m.peer.connected.Load() || m.peer.draining.Load() || !sent || v.pending || len(v.errors) > 0 {
			continue
		}
		if seen[id] == nil {
			seen[id] = map[flowstate.ConnectorKey]bool{}
		}
		for _, key := range conns {
			if !seen[id][key] {
				seen[id][key] = true
				m.addConnector(c, id, key)
			}
		}
	}
}
