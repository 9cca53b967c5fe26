package worker

import (
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// maxDocumentBytes is the limit for the documents of one flow together.
const maxDocumentBytes = 1 << 20

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
