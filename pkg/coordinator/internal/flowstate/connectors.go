package flowstate

import (
	"slices"
)

// connectorsOf is how the connectors of some flows stand, on the workers that a coordinator has sessions with.
type ConnectorReport struct {
	Degraded  []ConnectorStatus // of no use now
	Connected []ConnectorStatus
	Opening   []ConnectorStatus // not connected yet, and not known to fail
	Unknown   []ConnectorStatus // the worker's build does not say
}

// standing is how a connector stands on a worker.
type ConnectorStatus struct {
	ConnectorKey
	Worker string
	Reason string // why it is not connected, as far as that is known
}

// downBy is, by connector and worker, why connectors are degraded: those only that a flow's active revision needs, where one is given.
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
