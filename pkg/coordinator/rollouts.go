package coordinator

import (
	"maps"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
)

// requestRollout sends a revision of a flow to the workers that have its functions and were not sent it yet, and returns how far they are
// with it. A nil r ends the flow's rollout.
func (t *flowTable) requestRollout(flow string, r *flowstate.Revision) leader.RolloutProgress {
	before := t.rollingOut[flow]
	if r == nil {
		delete(t.rollingOut, flow)
		t.pruneDefinitions(flow)
		return leader.RolloutProgress{}
	}
	t.rollingOut[flow] = r
	if before != nil && before.ID() != r.ID() {
		t.pruneDefinitions(flow)
	}
	for _, m := range t.roster.members {
		t.sendDefinition(m, r)
	}
	return t.progressOf(r)
}

// progressOf returns how far the workers are with a revision, by their answers to its definition. Workers that are dead or draining are
// left out.
func (t *flowTable) progressOf(r *flowstate.Revision) leader.RolloutProgress {
	s := leader.RolloutProgress{Rejected: map[string][]string{}, Unfit: map[string][]string{}, Missing: map[string]int{}}
	key := definitionKey{r.Message.GetFlow(), r.ID()}
	for _, id := range slices.Sorted(maps.Keys(t.roster.members)) {
		m := t.roster.members[id]
		if !m.alive() {
			continue
		}
		if missing := m.missingFunctions(r); len(missing) > 0 {
			for _, name := range missing {
				s.Missing[name]++
			}
			continue
		}
		answer, sent := m.definitions.get(key)
		if answer.unfit {
			s.Unfit[id] = answer.errors
			continue
		}
		if m.peer.lost.Load() {
			continue // when it is reached again, it is sent the revision before any row
		}
		s.Capable = append(s.Capable, id)
		switch {
		case !sent || answer.pending:
			s.Lagging = append(s.Lagging, id)
		case len(answer.errors) > 0:
			s.Rejected[id] = answer.errors
		default:
			s.Accepted++
		}
	}
	return s
}
