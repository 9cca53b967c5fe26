package coordinator

import (
	"cmp"

	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// reportConnectors adds the states of one revision's connectors to a report, for each worker that can run the revision. seen has, by
// worker, the connectors that the report has already; reportConnectors leaves these out, and adds the new ones to seen.
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

// reportConnector adds to a report the state that a connector has on the member's worker.
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
