package worker

import (
	"errors"
	"sync"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
)

// plan is one revision of a flow, compiled once for all coordinators that need it.
type plan struct {
	key   planKey
	ready chan struct{} // closed when compiling is over and the fields below are set
	// compiled is nil where the documents don't compile; then mistakes says why.
	compiled *flowexec.Plan
	// mistakes says why the documents don't compile, one text for each mistake.
	mistakes []string
	// unfit says that the documents are right, but need other functions than this build has.
	unfit bool
	// recalled says that the plan was compiled for batches of an earlier time. The flow does not run on it.
	recalled bool
	flow     *flow // has the lanes; nil where compiled is nil

	keepOnce   sync.Once      // opens the connectors once
	connectors []connectorKey // the connectors that keepOnce opened

	users int // coordinators that have the plan; guarded by the lock of flows
}

// planKey names a plan within this process. Its digest is computed from the documents, so that coordinators with the same
// documents share a plan.
type planKey struct {
	flow     string
	revision batch.Revision // number, and the digest of the documents as computed here
}

// revisionKey is a coordinator's name for a revision of a flow. The digest is zero for a coordinator of an earlier build,
// which knows revisions by number alone; then the name means the last documents that it sent with this number.
type revisionKey struct {
	flow     string
	revision batch.Revision // number and digest as the coordinator sends them
}

// readRevision makes a revisionKey of the fields of a message. A message of an earlier build has no digest, and gives the zero
// one. The error says that a digest has a wrong length.
func readRevision(flow string, number int64, digest []byte) (revisionKey, error) {
	r, err := wire.ToRevision(number, digest)
	return revisionKey{flow, r}, err
}

// define returns the plan of these documents and counts the caller as one of its users. The first caller compiles; later
// callers block until that is done.
func (f *flows) define(d definitionDocuments) *plan {
	// Under the lock the plan is only found or entered. It is compiled outside, and p.ready tells other callers of the end.
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
		pointDefinedAgain.Hit()
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
		pointRejected.Hit()
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

// keepConnectors opens the connectors of a plan and keeps them open until the plan goes. The caller is a user of the plan.
func (f *flows) keepConnectors(p *plan) {
	if p.compiled != nil {
		p.keepOnce.Do(func() { p.connectors = f.connectors.keep(p.compiled.Connectors()) })
	}
}

// releasePlan notes that one coordinator does not need the plan any more, as it has said. A plan without users is dropped.
func (f *flows) releasePlan(p *plan) { f.removeUser(p, false) }

// releaseLostPlan notes that one coordinator that used the plan is gone. A plan without users is dropped. The flow may still
// run elsewhere and come back to this worker, so its metrics stay for a while.
func (f *flows) releaseLostPlan(p *plan) { f.removeUser(p, true) }

// removeUser takes one user off the plan. With its last user the plan is dropped, and its connectors are released. lost means
// that the user is gone without having said that it does not need the plan; then the metrics of the flow stay for lostFlowMetrics.
func (f *flows) removeUser(p *plan, lost bool) {
	f.mu.Lock()
	if p.flow != nil {
		p.flow.lost = lost // the last user decides
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
