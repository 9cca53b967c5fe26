package coordinator

import (
	"maps"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

type definitionKey struct {
	flow     string
	revision batch.Revision
}

// byDefinition holds something for each of some revisions. Those of one flow stand together, so that what is asked about a flow
// costs nothing for the others.
type byDefinition[T any] map[string]map[batch.Revision]T

func (d byDefinition[T]) get(key definitionKey) (T, bool) {
	v, there := d[key.flow][key.revision]
	return v, there
}

func (d byDefinition[T]) set(key definitionKey, v T) {
	if d[key.flow] == nil {
		d[key.flow] = map[batch.Revision]T{}
	}
	d[key.flow][key.revision] = v
}

func (d byDefinition[T]) remove(key definitionKey) {
	delete(d[key.flow], key.revision)
	if len(d[key.flow]) == 0 {
		delete(d, key.flow)
	}
}

// another reports whether there is another revision of that number.
func (d byDefinition[T]) hasOtherOfNumber(key definitionKey) bool {
	for other := range d[key.flow] {
		if other != key.revision && (definitionKey{key.flow, other}).sameNumber(key) {
			return true
		}
	}
	return false
}

// confusable reports whether both name a revision of the same number, of the same flow.
func (k definitionKey) sameNumber(other definitionKey) bool {
	return k.flow == other.flow && k.revision.Number == other.revision.Number
}

// sender turns orders into messages of one session. One goroutine owns it.
type sessionWriter struct {
	peer                *workerPeer
	stream              pb.Worker_SessionClient
	defined             byDefinition[bool] // sent in this session
	resultsAcknowledged uint64             // results
}

func (s *sessionWriter) send(o instruction) error {
	switch {
	case o.part != nil:
		return s.part(o.part)
	case o.release != nil:
		r := &pb.Release{Flow: o.release.Flow, Slots: wire.FromRanges(o.release.Slots)}
		return s.message(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Release{Release: r}})
	case o.locate != nil:
		if !s.peer.locates.Load() {
			return nil // the session before was with another build
		}
		return s.message(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Locate{Locate: o.locate}})
	case o.forget != nil:
		if !s.peer.digests.Load() && s.defined.hasOtherOfNumber(*o.forget) {
			return nil // the worker knows the number only, and would forget that one
		}
		s.defined.remove(*o.forget)
		f := &pb.Forget{Flow: o.forget.flow, Revision: o.forget.revision.Number, Digest: wire.FromDigest(o.forget.revision.Digest)}
		return s.message(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Forget{Forget: f}})
	case o.active != nil:
		r := o.active.revision
		return s.message(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Ack{Ack: &pb.Ack{Active: []*pb.ActiveRevision{
			{Flow: o.active.flow, Revision: r.Number, Digest: wire.FromDigest(r.Digest)},
		}}}})
	default:
		return s.define(o.define, false)
	}
}

func (s *sessionWriter) message(m *pb.CoordinatorMessage) error { return s.messageAs(m, m) }

// messageAs sends a message in a form that says where its rows are.
func (s *sessionWriter) messageAs(m *pb.CoordinatorMessage, form any) error {
	m.ResultsReceived = s.peer.resultsReceived.Load() // first: what these hold counts as untaken by now, or is taken
	s.peer.untaken.tell(m, s.peer.fleet.untakenLimit())
	if err := s.stream.SendMsg(form); err != nil {
		return wire.FromStatus(err)
	}
	s.resultsAcknowledged = m.GetResultsReceived()
	return nil
}

// define sends a revision's documents, once in a session. recalled: rows of a batch need it, not the flow. A worker that knows revisions by number alone has one of each number,
// the last that it was sent: it is sent the other one again when rows need that.
func (s *sessionWriter) define(r *flowstate.Revision, recalled bool) error {
	key := definitionKey{r.Message.GetFlow(), r.Id()}
	if s.defined[key.flow][key.revision] {
		return nil
	}
	if !s.peer.digests.Load() {
		maps.DeleteFunc(s.defined[key.flow], func(other batch.Revision, _ bool) bool { return (definitionKey{key.flow, other}).sameNumber(key) })
		s.peer.unanswered.add(key)
	}
	s.defined.set(key, true)
	m := r.Message
	if recalled {
		m = &pb.Definition{Flow: m.GetFlow(), Revision: m.GetRevision(), Digest: m.GetDigest(), Documents: m.GetDocuments(), Recalled: true}
	}
	return s.message(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Definition{Definition: m}})
}

// part sends rows. Those of a whole batch go as they came; else each is copied once, on its way to the wire.
func (s *sessionWriter) part(p *scheduler.Part) error {
	sub := submissionOf(p.Batch)
	defer sub.letGo()
	if o := s.peer.partLimits.refusal(p); o != nil {
		s.refuse(p, sub, *o)
		return nil
	}
	if err := s.define(sub.revision, true); err != nil {
		return err
	}
	now := time.Now()
	m := &pb.Part{
		Number: p.Number, Flow: p.Batch.Flow, Revision: p.Batch.Revision, Digest: wire.FromDigest(p.Batch.Digest), Batch: wire.FromID(sub.id), Floor: sub.floor,
		AgeMilliseconds: wire.Milliseconds(now.Sub(sub.born)), Deaths: p.Deaths, Output: sub.output,
		Rows: p.Rows, BatchRows: uint32(p.Batch.Rows()),
		KeepDead: sub.keepsDead, Start: sub.start, StartUse: sub.startUse, OutputRowBytes: uint32(sub.maxOutputRow),
	}
	if !p.Batch.Deadline.IsZero() {
		m.DeadlineMilliseconds = max(1, wire.Milliseconds(p.Batch.Deadline.Sub(now)))
	}
	if sub.span != nil {
		m.TraceParent = s.peer.spans.sent(s.peer, sub.span, p)
	}
	s.peer.lastPartSent = max(s.peer.lastPartSent, p.Number)
	message := &pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Part{Part: m}}
	if p.Rows != nil {
		return s.messageAs(message, &wire.Selected{Message: message, Batch: &sub.columns})
	}
	m.Columns = wire.FromColumns(sub.columns)
	return s.messageAs(message, sub.lent.Lend(message))
}
