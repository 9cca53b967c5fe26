package flowstate

import (
	"slices"
)

// ConnectorReport is the state of the connectors that some flows need, on the workers with a session.
type ConnectorReport struct {
	Degraded  []ConnectorStatus // their store can't be used now
	Connected []ConnectorStatus
	Opening   []ConnectorStatus // not connected yet; the first try is under way
	Unknown   []ConnectorStatus // the worker's build does not tell
}

// ConnectorStatus is one connector on one worker.
type ConnectorStatus struct {
	ConnectorKey
	Worker string
	Reason string // why it is not connected, where that is known
}

// DownBy returns the reasons why connectors are degraded, by connector and worker. With a flow it takes only the connectors that the flow's
// active revision needs; nil means all.
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
