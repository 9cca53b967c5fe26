package coordinator

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
)

// unserved finds, of the flows named, those that are on, or wait for a worker, and that no worker can run now as far as this
// coordinator sees: it says why. A flow whose documents are refused, and one that is being applied, is none of them: its status
// tells. False: ctx or the fleet ended first.
func (f *fleet) Unserved(ctx context.Context, flows []string) (map[string][]string, bool) {
	all := map[string][]string{}
	for some := range slices.Chunk(flows, flowsPerTurn) {
		found := map[string][]string{}
		if !f.wait(ctx, func() {
			for _, flow := range some {
				if reasons := f.whyUnserved(flow); len(reasons) > 0 {
					found[flow] = reasons
				}
			}
		}) {
			return nil, false // found may still be written to
		}
		maps.Copy(all, found)
	}
	return all, true
}

// whyUnserved is why no worker can run a flow now; nothing where one can, or is not to. Where one can it costs no look at the
// others.
func (f *fleet) whyUnserved(flow string) (reasons []string) {
	e := f.flows[flow]
	switch {
	case e == nil:
		return nil
	case e.Active == nil && e.Status.Active == 0 && e.Status.State == cluster.StatePending:
		return e.Status.Reasons // nothing ran before, and nothing can
	case !e.TakesBatches():
		return nil
	}
	var draining, late []string
	missing, away, refused := map[string]int{}, map[string][]string{}, map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(f.members)) {
		m := f.members[id]
		if m.dead {
			continue
		}
		if lacks := m.missingFunctions(e.Active); len(lacks) > 0 {
			for _, name := range lacks {
				missing[name]++
			}
			continue
		}
		v, sent := m.definitions.get(definitionKey{flow, e.Active.Id()})
		switch {
		case m.worker.Draining || m.peer.draining.Load():
			draining = append(draining, id)
		case !m.peer.connected.Load():
			away[id] = []string{m.peer.whyAway()}
		case !sent || v.pending:
			late = append(late, id)
		case len(v.errors) > 0:
			refused[id] = v.errors
		default:
			return nil
		}
	}
	reasons = append(leader.ReasonLines(away), leader.ReasonLines(refused)...)
	if len(draining) > 0 {
		reasons = append(reasons, leader.NameWorkers(draining)+" drains: start another one")
	}
	if len(late) > 0 {
		reasons = append(reasons, leader.NameWorkers(late)+" has not answered yet whether it can run revision "+strconv.FormatInt(e.Active.Number, 10))
	}
	if len(reasons) == 0 || len(missing) > 0 {
		reasons = append(reasons, leader.PendingReasons(leader.RolloutProgress{Missing: missing})...)
	}
	return reasons
}

// whyAway is why there is no session with the worker now.
func (p *workerPeer) whyAway() string {
	if why := p.unreachable.Load(); why != nil {
		return "it can't be reached from here: " + *why
	}
	return "there is no session with it yet, or it has just ended"
}
