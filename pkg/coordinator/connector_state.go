package coordinator

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// How connectors stand, workers tell in their sessions; a connector that is of no use to one of them is degraded, whatever kind it
// is of, and so are the flows that need it. It is never a reason to refuse what the documents ask for. Workers of builds that don't
// tell say of a connector that it is of no use in their record in etcd, and else nothing.

// connectorKey names what one document makes of a connector.
type connectorKey struct {
	name   string
	digest batch.Digest // of the document
}

// standings are how one worker's connectors stand, as it tells.
type connectorStates struct {
	mu     sync.Mutex
	tells  bool                                // its build does; guarded by mu
	states map[connectorKey]*pb.ConnectorState // guarded by mu
}

// mostStandings bounds how many connectors of a worker are remembered.
const maxConnectorStates = 1 << 16

// reset begins a session: what was told before may not be so any more.
func (s *connectorStates) reset(tells bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tells, s.states = tells, map[connectorKey]*pb.ConnectorState{}
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
		key := connectorKey{state.GetName(), r.Digest}
		if state.GetStanding() == pb.ConnectorState_STANDING_GONE {
			delete(s.states, key)
		} else if s.states[key] != nil || len(s.states) < maxConnectorStates {
			s.states[key] = state
		}
	}
	return nil
}

// find is how a connector stands; nil: the worker has not told. tells: its build does.
func (s *connectorStates) find(key connectorKey) (state *pb.ConnectorState, tells bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states[key], s.tells
}

// connectorsOf is how the connectors of some flows stand, on the workers that a coordinator has sessions with.
type connectorReport struct {
	degraded  []connectorStatus // of no use now
	connected []connectorStatus
	opening   []connectorStatus // not connected yet, and not known to fail
	unknown   []connectorStatus // the worker's build does not say
}

// standing is how a connector stands on a worker.
type connectorStatus struct {
	connectorKey
	worker string
	reason string // why it is not connected, as far as that is known
}

// look adds how a connector stands on a worker.
func (c *connectorReport) add(id string, m *member, key connectorKey) {
	at := connectorStatus{connectorKey: key, worker: id}
	state, tells := m.peer.connectors.find(key)
	why, down := m.worker.Stores[key.name]
	switch {
	case !tells && down:
		at.reason = why
		c.degraded = append(c.degraded, at)
	case !tells:
		at.reason = "the worker's build does not say how its connectors stand"
		c.unknown = append(c.unknown, at)
	case state.GetStanding() == pb.ConnectorState_STANDING_DEGRADED:
		at.reason = cmp.Or(state.GetReason(), "the worker gives no reason")
		c.degraded = append(c.degraded, at)
	case state.GetStanding() != pb.ConnectorState_STANDING_CONNECTED:
		at.reason = "it is not connected yet: the first try is under way"
		c.opening = append(c.opening, at)
	default:
		c.connected = append(c.connected, at)
	}
}

// connectors is how the connectors of active flows stand, of all flows where none is named, on the workers that have them. False:
// ctx or the fleet ended first.
func (f *fleet) connectors(ctx context.Context, flows ...string) (connectorReport, bool) {
	var c connectorReport
	if !f.wait(ctx, func() {
		if len(flows) == 0 {
			flows = slices.Sorted(maps.Keys(f.flows))
		}
		seen := map[string]map[connectorKey]bool{} // by worker: flows share connectors
		for _, flow := range flows {
			if e := f.flows[flow]; e.on() && len(e.active.conns) > 0 {
				f.connectorsAt(&c, definitionKey{flow, e.active.id()}, e.active.conns, seen)
			}
		}
	}) {
		return connectorReport{}, false // c may still be written to
	}
	for _, all := range [][]connectorStatus{c.degraded, c.opening, c.unknown} {
		slices.SortFunc(all, func(a, b connectorStatus) int {
			return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.worker, b.worker), cmp.Compare(a.reason, b.reason))
		})
	}
	return c, true
}

// connectorsAt looks at those of one revision, on the workers that run it.
func (f *fleet) connectorsAt(c *connectorReport, revision definitionKey, conns []connectorKey, seen map[string]map[connectorKey]bool) {
	for id, m := range f.members {
		v, sent := m.definitions.get(revision)
		if m.dead || m.worker.Draining || !m.peer.connected.Load() || m.peer.draining.Load() || !sent || v.pending || len(v.errors) > 0 {
			continue
		}
		if seen[id] == nil {
			seen[id] = map[connectorKey]bool{}
		}
		for _, key := range conns {
			if !seen[id][key] {
				seen[id][key] = true
				c.add(id, m, key)
			}
		}
	}
}

// downBy is, by connector and worker, why connectors are degraded: those only that a flow's active revision needs, where one is given.
func downBy(degraded []connectorStatus, of *flowEntry) map[string]map[string]string {
	var by map[string]map[string]string
	for _, d := range degraded {
		if of != nil && !(of.on() && slices.Contains(of.active.conns, d.connectorKey)) {
			continue
		}
		if by == nil {
			by = map[string]map[string]string{}
		}
		if by[d.name] == nil {
			by[d.name] = map[string]string{}
		}
		by[d.name][d.worker] = d.reason
	}
	return by
}

// toWire is how connectors stand as callers are told.
func toWire(all ...connectorStatus) []*pb.ConnectorStanding {
	out := make([]*pb.ConnectorStanding, len(all))
	for i, s := range all {
		out[i] = &pb.ConnectorStanding{Connector: s.name, Worker: s.worker, Reason: s.reason}
	}
	return out
}

// deadlineMargin is what is left of a caller's time, at the least, when it is told how connectors stand.
const deadlineMargin = 500 * time.Millisecond

// awaitConnectors waits until all connectors of active flows are connected, for so long at the most, and tells how they stand.
func (a *admin) awaitConnectors(ctx context.Context, flows []string, wait time.Duration) (*pb.Connectors, error) {
	if deadline, bound := ctx.Deadline(); bound {
		wait = min(wait, time.Until(deadline)-deadlineMargin)
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for last := wait <= 0; ; {
		_, changed := a.board.watch()
		c, ok := a.fleet.connectors(ctx, flows...)
		switch {
		case !ok && ctx.Err() != nil:
			return nil, batch.Errorf(batch.CodeCancelled, "the flows are active; how their connectors stand says kisgrid get connectors: %w", ctx.Err())
		case !ok:
			return nil, errStopped()
		case last || len(c.degraded)+len(c.opening) == 0:
			return &pb.Connectors{Degraded: toWire(append(c.degraded, c.opening...)...), Unknown: toWire(c.unknown...)}, nil
		}
		select {
		case <-changed:
		case <-again.C:
		case <-over.C:
			last = true
		case <-a.draining:
			last = true
		case <-ctx.Done():
		}
	}
}

// activeOf are the flows among these that are active.
func activeOf(told map[string]*pb.Progress) []string {
	var active []string
	for _, flow := range slices.Sorted(maps.Keys(told)) {
		if told[flow].GetState() == cluster.StateActive {
			active = append(active, flow)
		}
	}
	return active
}
