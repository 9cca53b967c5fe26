package worker

import (
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// maxDocumentBytes is the limit for the documents of one revision of a flow, added up, in bytes.
const maxDocumentBytes = 1 << 20

// definitionDocuments is the content of one Definition message: the documents of one revision of a flow.
type definitionDocuments struct {
	key       planKey     // digest computed here; names the plan within this process
	name      revisionKey // revision as the coordinator names it
	recalled  bool        // the flow does not run on this revision; only batches of an earlier time need it
	documents []definition.Document
	fresh     map[string]bool // names of connectors with which the flow does not run yet; stricter rules hold for them
}

// readDefinition checks the message and makes definitionDocuments of it. It does not look for mistakes in the documents, which
// compile does. An error means that the coordinator is defective.
func readDefinition(m *pb.Definition) (definitionDocuments, error) {
	name, err := readRevision(m.GetFlow(), m.GetRevision(), m.GetDigest())
	d := definitionDocuments{key: planKey{flow: m.GetFlow()}, name: name, recalled: m.GetRecalled()}
	switch {
	case err != nil:
		return d, err
	case d.name.flow == "" || d.name.revision.Number <= 0:
		return d, batch.Errorf(batch.CodeBadMessage, "read a definition: flow %q and revision %d are not valid: the coordinator is defective", m.GetFlow(), m.GetRevision())
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
		return d, batch.Errorf(batch.CodeBadMessage, "the documents of flow %s have %d bytes in total, and the limit is %d bytes: make them smaller; a coordinator should not have accepted them",
			d.key.flow, size, maxDocumentBytes)
	}
	d.key.revision = batch.Revision{Number: m.GetRevision(), Digest: definition.Digest(d.documents)}
	return d, nil
}

// define acts on a Definition message: it has the documents compiled, keeps the plan for this coordinator, and answers with
// Compiled. Documents with mistakes are answered with their mistakes; only a message that can't be read ends the session.
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

// keepPlan stores a plan under the coordinator's name for it and enqueues the answer Compiled. With the first plan of a flow
// that compiles, the coordinator gets credit for the flow. unused is a plan that the caller must release: the one that had
// this name before, or plan itself if the peer was dropped. nil means none.
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

// forgetRevision acts on a Forget message: the coordinator sends no more parts on this revision. Parts that it has sent go on.
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

// activate acts on the list of revisions on which flows run from now on, which a message Ack brings. The connectors of these
// revisions stay open, and the pool of connections is told that their documents are in force.
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
		if plan != nil { // it can't go away meanwhile: only this goroutine drops plans of this coordinator
			sess.server.flows.keepConnectors(plan)
			sess.server.connectors.inForce(plan.connectors)
		}
	}
	return nil
}

// dropPlan takes a plan away from the coordinator and returns it for the caller to release; nil means that the coordinator
// had no plan of this name. The credit of a flow ends with its last plan.
func (p *peer) dropPlan(key revisionKey) (unused *plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	unused = p.plans[key]
	delete(p.plans, key)
	if c := p.credits[key.flow]; c != nil && !p.hasPlan(key.flow) {
		pointPlanDropped.Hit()
		delete(p.credits, key.flow)
		c.close()
	}
	return unused
}
