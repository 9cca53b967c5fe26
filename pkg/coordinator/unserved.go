package coordinator

import (
	"maps"
	"slices"
	"strconv"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
)

// whyUnserved returns the reasons why no worker can run a flow now. It returns none if a worker can run it, or if the flow is not meant to
// run, because it is unknown, switched off or rejected.
func (t *flowTable) whyUnserved(flow string) (reasons []string) {
	e := t.byName[flow]
	switch {
	case e == nil:
		return nil
	case e.Active == nil && e.Status.Active == 0 && e.Status.State == cluster.StatePending:
		return e.Status.Reasons // no revision ran before, and no worker can run the new one
	case !e.TakesBatches():
		return nil
	}
	var draining, cordoned, late []string
	missing, away, refused := map[string]int{}, map[string][]string{}, map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(t.roster.members)) {
		m := t.roster.members[id]
		if m.dead {
			continue
		}
		if lacks := m.missingFunctions(e.Active); len(lacks) > 0 {
			for _, name := range lacks {
				missing[name]++
			}
			continue
		}
		answer, sent := m.definitions.get(definitionKey{flow, e.Active.ID()})
		switch {
		case m.drains():
			draining = append(draining, id)
		case m.peer.cordoned.Load():
			cordoned = append(cordoned, id)
		case !m.peer.connected.Load():
			away[id] = []string{m.peer.whyAway()}
		case !sent || answer.pending:
			late = append(late, id)
		case len(answer.errors) > 0:
			refused[id] = answer.errors
		default:
			return nil
		}
	}
	pointUnserved.Hit()
	reasons = append(leader.ReasonLines(away), leader.ReasonLines(refused)...)
	if len(draining) > 0 {
		reasons = append(reasons, leader.NameWorkers(draining)+" drains: start another one")
	}
	if len(cordoned) > 0 {
		reasons = append(reasons, leader.NameWorkers(cordoned)+" is cordoned: kisgrid uncordon gives it rows again")
	}
	if len(late) > 0 {
		reasons = append(reasons, leader.NameWorkers(late)+" has not answered yet whether it can run revision "+strconv.FormatInt(e.Active.Number, 10))
	}
	if len(reasons) == 0 || len(missing) > 0 {
		reasons = append(reasons, leader.PendingReasons(leader.RolloutProgress{Missing: missing})...)
	}
	return reasons
}

// whyAway returns, in words, why there is no session with the worker now.
func (p *workerPeer) whyAway() string {
	if why := p.unreachable.Load(); why != nil {
		return "it can't be reached from here: " + *why
	}
	return "there is no session with it yet, or it has just ended"
}
