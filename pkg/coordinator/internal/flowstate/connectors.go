package flowstate

import (
	"slices"
)

// ConnectorReport is the state of the connectors that some flows need, on each worker that has a session and can run these flows. Each
// connector and worker is in one of the lists.
type ConnectorReport struct {
	Degraded  []ConnectorStatus // connectors whose store can't be used now
	Connected []ConnectorStatus
	Opening   []ConnectorStatus // connectors that are not connected yet; the first try is under way
	Unknown   []ConnectorStatus // connectors on workers whose build does not tell their state
}

// ConnectorStatus is one connector on one worker, in one of the lists of a ConnectorReport.
type ConnectorStatus struct {
	ConnectorKey
	Worker string
	Reason string // why it is not connected; empty in the list Connected
}

// DownBy returns the reasons why connectors are degraded, by connector name and worker id; nil means that there are none. If of is not nil,
// it takes only the connectors that this flow's active revision needs; a flow that takes no batches needs none.
func DownBy(degraded []ConnectorStatus, of *Flow) map[string]map[string]string {
	var by map[string]map[string]string
	for _, d := range degraded {
		if of != nil && !(of.TakesBatches() && slices.Contains(of.Active.Connectors, d.ConnectorKey)) {
			continue
		}
		if by == nil {
			by = map[string]map[string]string{}
		}
		if by[d.Name] == nil {
			by[d.Name] = map[string]string{}
		}
		by[d.Name][d.Worker] = d.Reason
	}
	return by
}
