package coordinator

import (
	"context"
	"maps"
	"slices"
)

// rollout is how far the workers are with a revision.
type rolloutProgress struct {
	capable  []string            // live workers that have its functions
	acks     int                 // of them, those that took it
	lagging  []string            // of them, those that have not answered
	rejected map[string][]string // of them, those that refuse it, and why
	unfit    map[string][]string // workers whose build has its functions, but others than it needs, and why
	missing  map[string]int      // functions that workers lack, and how many lack them
}

// wish is what the leader wants of a flow.
type rolloutRequest struct {
	flow     string
	revision *revision // nil: nothing more
}

// wishesAtOnce bounds how many wishes hold up what else the fleet has to do.
const flowsPerTurn = 32

// want asks every capable worker to take revisions, and tells how far that is, in the order of the wishes. False: the fleet ended, or
// ctx has.
func (f *fleet) requestRollouts(ctx context.Context, wishes ...rolloutRequest) ([]rolloutProgress, bool) {
	all := make([]rolloutProgress, 0, len(wishes))
	for some := range slices.Chunk(wishes, flowsPerTurn) {
		told := make([]rolloutProgress, len(some))
		if !f.wait(ctx, func() {
			for i, w := range some {
				told[i] = f.requestRollout(w.flow, w.revision)
			}
		}) {
			return nil, false // told may still be written to
		}
		all = append(all, told...)
	}
	return all, true
}

func (f *fleet) requestRollout(flow string, r *revision) rolloutProgress {
	before := f.rollingOut[flow]
	if r == nil {
		delete(f.rollingOut, flow)
		f.pruneDefinitions(flow)
		return rolloutProgress{}
	}
	f.rollingOut[flow] = r
	if before != nil && before.id() != r.id() {
		f.pruneDefinitions(flow)
	}
	for _, m := range f.members {
		f.sendDefinition(m, r)
	}
	return f.progressOf(r)
}

func (f *fleet) progressOf(r *revision) rolloutProgress {
	s := rolloutProgress{rejected: map[string][]string{}, unfit: map[string][]string{}, missing: map[string]int{}}
	key := definitionKey{r.message.GetFlow(), r.id()}
	for _, id := range slices.Sorted(maps.Keys(f.members)) {
		m := f.members[id]
		if m.dead || m.worker.Draining || m.peer.draining.Load() {
			continue
		}
		if lacks := m.missingFunctions(r); len(lacks) > 0 {
			for _, name := range lacks {
				s.missing[name]++
			}
			continue
		}
		v, sent := m.definitions.get(key)
		if v.unfit {
			s.unfit[id] = v.errors
			continue
		}
		if m.peer.lost.Load() {
			continue // when it is reached again it takes the revision before any row
		}
		s.capable = append(s.capable, id)
		switch {
		case !sent || v.pending:
			s.lagging = append(s.lagging, id)
		case len(v.errors) > 0:
			s.rejected[id] = v.errors
		default:
			s.acks++
		}
	}
	return s
}
