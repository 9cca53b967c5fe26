package coordinator

import (
	"context"
	"maps"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
)

// wishesAtOnce bounds how many wishes hold up what else the fleet has to do.
const flowsPerTurn = 32

// want asks every capable worker to take revisions, and tells how far that is, in the order of the wishes. False: the fleet ended, or
// ctx has.
func (f *fleet) RequestRollouts(ctx context.Context, wishes ...leader.RolloutRequest) ([]leader.RolloutProgress, bool) {
	all := make([]leader.RolloutProgress, 0, len(wishes))
	for some := range slices.Chunk(wishes, flowsPerTurn) {
		told := make([]leader.RolloutProgress, len(some))
		if !f.wait(ctx, func() {
			for i, w := range some {
				told[i] = f.requestRollout(w.Flow, w.Revision)
			}
		}) {
			return nil, false // told may still be written to
		}
		all = append(all, told...)
	}
	return all, true
}

func (f *fleet) requestRollout(flow string, r *flowstate.Revision) leader.RolloutProgress {
	before := f.rollingOut[flow]
	if r == nil {
		delete(f.rollingOut, flow)
		f.pruneDefinitions(flow)
		return leader.RolloutProgress{}
	}
	f.rollingOut[flow] = r
	if before != nil && before.Id() != r.Id() {
		f.pruneDefinitions(flow)
	}
	for _, m := range f.members {
		f.sendDefinition(m, r)
	}
	return f.progressOf(r)
}

func (f *fleet) progressOf(r *flowstate.Revision) leader.RolloutProgress {
	s := leader.RolloutProgress{Rejected: map[string][]string{}, Unfit: map[string][]string{}, Missing: map[string]int{}}
	key := definitionKey{r.Message.GetFlow(), r.Id()}
	for _, id := range slices.Sorted(maps.Keys(f.members)) {
		m := f.members[id]
		if m.dead || m.worker.Draining || m.peer.draining.Load() {
			continue
		}
		if lacks := m.missingFunctions(r); len(lacks) > 0 {
			for _, name := range lacks {
				s.Missing[name]++
			}
			continue
		}
		v, sent := m.definitions.get(key)
		if v.unfit {
			s.Unfit[id] = v.errors
			continue
		}
		if m.peer.lost.Load() {
			continue // when it is reached again it takes the revision before any row
		}
		s.Capable = append(s.Capable, id)
		switch {
		case !sent || v.pending:
			s.Lagging = append(s.Lagging, id)
		case len(v.errors) > 0:
			s.Rejected[id] = v.errors
		default:
			s.Accepted++
		}
	}
	return s
}

// FollowedState is what leaders have written of flows, as this coordinator follows it; nil until it is listed.
func (f *fleet) FollowedState() *cluster.State { return f.seen.Load() }
