package worker

import (
	"errors"
	"sync"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
)

// plan is one revision of a flow, compiled once for all coordinators.
type plan struct {
	key   planKey
	ready chan struct{} // closed when the fields below are set
	// compiled is nil where the documents do not compile; mistakes then says why.
	compiled *flowexec.Plan
	mistakes []string
	// unfit: the mistakes are only that this build's functions are others than the documents need.
	unfit bool
	// recalled: it was compiled for batches sent before, and is not what the flow is to run on.
	recalled bool
	flow     *flow // nil where compiled is

	keepOnce   sync.Once
	connectors []connectorKey // written by keeping, read once nobody uses the plan

	users int // guarded by the lock of flows
}

// planKey names a plan within the process. The digest is that of the documents: coordinators share a plan when they mean the
// same.
type planKey struct {
	flow     string
	revision batch.Revision
}

// revisionKey names a revision to one coordinator. Its digest is zero where the coordinator knows revisions by number alone: it
// has one of each number then, the last that it defined.
type revisionKey struct {
	flow     string
	revision batch.Revision
}

func readRevision(flow string, number int64, digest []byte) (revisionKey, error) {
	r, err := wire.ToRevision(number, digest)
	return revisionKey{flow, r}, err
}

// define returns the plan of these documents, compiled by whoever asks first, and counts the caller as its user.
func (f *flows) define(d definitionDocuments) *plan {
	f.mu.Lock()
	p := f.plans[d.key]
	known := p != nil
	if !known {
		p = &plan{key: d.key, recalled: d.recalled, ready: make(chan struct{})}
		f.plans[d.key] = p
		f.metrics.plans.Inc()
	}
	p.users++
	f.mu.Unlock()
	if known {
		f.metrics.redefinitions.Inc()
		<-p.ready
		if !d.recalled {
			f.keepConnectors(p)
		}
		return p
	}
	defer close(p.ready)
	compiled, err := f.compileSafely(d)
	if err != nil {
		p.mistakes, p.unfit = mistakes(err), errors.As(err, new(unfitError))
		f.metrics.definitions.WithLabelValues("rejected").Inc()
		return p
	}
	p.compiled = compiled
	f.addPlan(p)
	if !d.recalled {
		f.keepConnectors(p)
	}
	f.metrics.definitions.WithLabelValues("ready").Inc()
	return p
}

// keep has the connectors of a plan opened that not only batches sent before need. Its caller is counted as a user.
func (f *flows) keepConnectors(p *plan) {
	if p.compiled != nil {
		p.keepOnce.Do(func() { p.connectors = f.connectors.keep(p.compiled.Connectors()) })
	}
}

// drop takes back what define counted, as a coordinator needs the plan no more.
func (f *flows) releasePlan(p *plan) { f.removeUser(p, false) }

// lose takes back what define counted for a coordinator that is gone and said nothing of the flow, which may well run on elsewhere
// and come back: what is counted of it stays.
func (f *flows) releaseLostPlan(p *plan) { f.removeUser(p, true) }

func (f *flows) removeUser(p *plan, lost bool) {
	f.mu.Lock()
	if p.flow != nil {
		p.flow.keepMetrics = lost
	}
	p.users--
	last := p.users == 0
	if last {
		delete(f.plans, p.key)
		f.metrics.plans.Dec()
	}
	if last && p.flow != nil {
		for _, gone := range f.countFunctions(p, -1) {
			if !lost {
				f.forgetFunctionMetrics(gone.flow, gone.function, gone.mode, f.functions[flowFunction{"", gone.function, gone.mode}] > 0)
			}
		}
	}
	f.mu.Unlock()
	if last && p.flow != nil {
		f.connectors.release(p.connectors)
		f.planRemoved(p.flow)
	}
}
