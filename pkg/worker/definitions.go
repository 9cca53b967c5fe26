package worker

import (
	"errors"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// maxDocumentBytes is the limit for the documents of one flow together.
const maxDocumentBytes = 1 << 20

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

// planKey names a plan within the process. The digest is that of the documents: coordinators share a plan when they mean the
// same.
type planKey struct {
	flow     string
	revision batch.Revision
}

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

// definitionDocuments are the documents of one revision, as Definition brings them.
type definitionDocuments struct {
	key       planKey
	name      revisionKey // as the coordinator names it
	recalled  bool
	documents []definition.Document
	fresh     map[string]bool // connectors with which the flow does not run yet
}

// readDefinition checks what can be wrong with the message itself; what is wrong with the documents, compiling tells.
func readDefinition(m *pb.Definition) (definitionDocuments, error) {
	name, err := readRevision(m.GetFlow(), m.GetRevision(), m.GetDigest())
	d := definitionDocuments{key: planKey{flow: m.GetFlow()}, name: name, recalled: m.GetRecalled()}
	switch {
	case err != nil:
		return d, err
	case d.name.flow == "" || d.name.revision.Number <= 0:
		return d, batch.Errorf(batch.CodeBadMessage, "a definition names flow %q and revision %d: the coordinator is defective", m.GetFlow(), m.GetRevision())
	}
	size := 0
	for _, m := range m.GetDocuments() {
		doc := definition.Document{
			Kind: definition.Kind(m.GetKind()), Name: m.GetName(), YAML: m.GetYaml(), Revision: m.GetRevision(),
			Path: m.GetKind() + "/" + m.GetName(),
		}
		d.documents = append(d.documents, doc)
		if m.GetFresh() && doc.Kind == definition.KindConn {
			if d.fresh == nil {
				d.fresh = map[string]bool{}
			}
			d.fresh[doc.Name] = true
		}
		size += len(doc.YAML)
	}
	if size > maxDocumentBytes {
		return d, batch.Errorf(batch.CodeBadMessage, "the documents of flow %s have %d bytes together, over the limit of %d bytes: the coordinator should not have accepted them",
			d.key.flow, size, maxDocumentBytes)
	}
	d.key.revision = batch.Revision{Number: m.GetRevision(), Digest: definition.Digest(d.documents)}
	return d, nil
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

// compileSafely makes a panic an error: documents must not end sessions, and others wait for the same plan.
func (f *flows) compileSafely(d definitionDocuments) (p *flowexec.Plan, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = batch.Errorf(batch.CodeInternal, "compiling flow %s panicked, which is a defect of KisGrid: %v\n%s", d.key.flow, r, debug.Stack())
		}
	}()
	return f.compile(d)
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

// mistakes are an error's reasons, one text each.
func mistakes(err error) []string {
	var all []string
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			all = append(all, mistakes(e)...)
		}
		return all
	}
	var found definition.Mistakes
	if !errors.As(err, &found) {
		return []string{strings.ToValidUTF8(err.Error(), "\uFFFD")}
	}
	for _, m := range found {
		all = append(all, strings.ToValidUTF8(m.Error(), "\uFFFD"))
	}
	return all
}

// define answers a Definition.
func (sess *session) define(m *pb.Definition) error {
	d, err := readDefinition(m)
	if err != nil {
		return err
	}
	p, f := sess.peer, sess.server.flows
	plan := f.define(d)
	answer := &pb.Compiled{Flow: d.key.flow, Revision: d.key.revision.Number, Digest: m.GetDigest(), Errors: plan.mistakes, Unfit: plan.unfit}
	sess.log.Debug("flow defined", "flow", d.key.flow, "revision", d.key.revision, "mistakes", len(plan.mistakes))

	if unused := p.keepPlan(sess, d.name, plan, answer); unused != nil {
		f.releasePlan(unused)
	}
	p.wakeUp()
	return nil
}

// adopt keeps a plan for the coordinator and tells it. It returns one that the coordinator needs no more.
func (p *peer) keepPlan(sess *session, key revisionKey, plan *plan, answer *pb.Compiled) (unused *plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dropped {
		return plan
	}
	unused = p.plans[key]
	p.plans[key] = plan
	if plan.compiled != nil && p.credits[key.flow] == nil {
		p.credits[key.flow] = p.openCredit(key.flow)
		answer.Fresh = true
	}
	sess.enqueue(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Compiled{Compiled: answer}})
	return unused
}

// forget drops a revision that the coordinator needs no more. Its parts that are under way go on.
func (sess *session) forgetRevision(m *pb.Forget) error {
	key, err := readRevision(m.GetFlow(), m.GetRevision(), m.GetDigest())
	if err != nil {
		return err
	}
	if unused := sess.peer.dropPlan(key); unused != nil {
		sess.server.flows.releasePlan(unused)
	}
	return nil
}

// activate takes note of revisions on which their flows run from now on.
func (sess *session) activate(active []*pb.ActiveRevision) error {
	for _, a := range active {
		key, err := readRevision(a.GetFlow(), a.GetRevision(), a.GetDigest())
		if err != nil {
			return err
		}
		p := sess.peer
		p.mu.Lock()
		plan := p.plans[key]
		p.mu.Unlock()
		if plan != nil { // which only this session's reader drops
			sess.server.flows.keepConnectors(plan)
			sess.server.connectors.inForce(plan.connectors)
		}
	}
	return nil
}

// abandon takes back what adopt keeps; the credit of a flow goes with its last revision.
func (p *peer) dropPlan(key revisionKey) (unused *plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	unused = p.plans[key]
	delete(p.plans, key)
	if c := p.credits[key.flow]; c != nil && !p.hasPlan(key.flow) {
		delete(p.credits, key.flow)
		c.close()
	}
	return unused
}

// misfit is why good documents don't compile here: this build's functions have other modes or row types.
type unfitError struct{ error }

func (m unfitError) Unwrap() error { return m.error }

// compile compiles against what this build registered, and checks what connectors need of this process.
func (s *server) compile(d definitionDocuments) (*flowexec.Plan, error) {
	b, err := definition.NewBundle(d.documents)
	if err != nil {
		return nil, err
	}
	if b.Flow.Name != d.key.flow {
		return nil, batch.Errorf(batch.CodeBadDocument, "the documents define flow %s, not %s: a document's name must be its key's", b.Flow.Name, d.key.flow)
	}
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(b.Connectors)) {
		check := s.config.Connectors.Check
		if d.fresh[name] {
			check = s.config.Connectors.CheckNew
		}
		wrong = append(wrong, check(b.Connectors[name]))
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	p, err := flowexec.Compile(b, s.config.Registry)
	if err != nil {
		return nil, unfitError{err}
	}
	return p, nil
}
