package coordinator

import (
	"context"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Results are mostly acknowledged with the next part that is sent to the worker. While none is sent, an acknowledgement goes out by itself
// when the oldest unacknowledged result has waited for acknowledgeAfter, or when acknowledgeMany results wait.
const (
	acknowledgeAfter = 2 * time.Millisecond
	acknowledgeMany  = 64
)

// write sends instructions to the worker, and acknowledges its results, until the session ends. It returns the error that ended it.
func (p *workerPeer) write(ctx context.Context, stream pb.Worker_SessionClient) error {
	s := sessionWriter{stream: stream, peer: p, defined: byDefinition[bool]{}}
	late := time.NewTimer(acknowledgeAfter)
	defer late.Stop()
	var instructions []instruction
	for waiting := false; ; {
		due := false
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.instructions.ready:
		case <-late.C:
			due, waiting = true, false
		}
		instructions = p.instructions.take(instructions)
		for _, o := range instructions {
			if err := s.send(o); err != nil {
				return err
			}
		}
		switch n := p.resultsReceived.Load() - s.resultsAcknowledged; {
		case p.untaken.due() || n > 0 && due || n >= acknowledgeMany:
			if err := s.message(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Ack{Ack: &pb.Ack{}}}); err != nil {
				return err
			}
		case n > 0:
			if !waiting {
				waiting = true
				late.Reset(acknowledgeAfter)
			}
		}
	}
}

// sessionWriter turns instructions into messages to the worker, in one session. The goroutine of write owns it.
type sessionWriter struct {
	peer                *workerPeer
	stream              pb.Worker_SessionClient
	defined             byDefinition[bool] // the revisions that the worker was sent in this session
	resultsAcknowledged uint64
}

// send sends one instruction to the worker. It blocks while the connection takes no more.
func (s *sessionWriter) send(o instruction) error {
	switch {
	case o.part != nil:
		return s.part(o.part)
	case o.release != nil:
		r := &pb.Release{Flow: o.release.Flow, Slots: wire.FromRanges(o.release.Slots)}
		return s.message(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Release{Release: r}})
	case o.locate != nil:
		if !s.peer.locates.Load() {
			return nil // the session before was with another build of the worker
		}
		return s.message(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Locate{Locate: o.locate}})
	case o.tap != nil:
		return s.message(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Tap{Tap: o.tap}})
	case o.untap != nil:
		if !s.peer.knowsTaps.Load() {
			return nil // the session before was with another build of the worker
		}
		return s.message(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Untap{Untap: o.untap}})
	case o.forget != nil:
		if !s.peer.digests.Load() && s.defined.hasOtherOfNumber(*o.forget) {
			return nil // the worker knows the number only, and would forget the other revision
		}
		s.defined.remove(*o.forget)
		s.peer.definitions.forget(*o.forget)
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

// message sends a message to the worker. It adds an acknowledgement of the results so far.
func (s *sessionWriter) message(m *pb.CoordinatorMessage) error { return s.messageAs(m, m) }

// messageAs sends m to the worker, with an acknowledgement of the results so far. form is the value that gRPC's codec is given for it: m
// itself, or a value with m that also says where the rows lie in memory.
func (s *sessionWriter) messageAs(m *pb.CoordinatorMessage, form any) error {
	m.ResultsReceived = s.peer.resultsReceived.Load() // before tell: the output of these results is counted as untaken by now
	s.peer.untaken.tell(m, s.peer.settings.untakenLimit())
	if err := s.stream.SendMsg(form); err != nil {
		return wire.FromStatus(err)
	}
	s.resultsAcknowledged = m.GetResultsReceived()
	return nil
}

// define sends a revision's documents to the worker, unless they were sent in this session. recalled says that only the rows of a batch
// need the revision, so that it is not one that the flow is to run on. A worker that knows revisions by number alone has one of each
// number, the last one that it was sent; if rows need another one of the same number, define sends that again.
func (s *sessionWriter) define(r *flowstate.Revision, recalled bool) error {
	key := definitionKey{r.Message.GetFlow(), r.ID()}
	if s.defined[key.flow][key.revision] {
		return nil
	}
	if !s.peer.digests.Load() {
		s.defined.removeNumber(key)
	}
	s.defined.set(key, true)
	s.peer.definitions.define(key)
	m := r.Message
	if recalled {
		m = &pb.Definition{Flow: m.GetFlow(), Revision: m.GetRevision(), Digest: m.GetDigest(), Documents: m.GetDocuments(), Recalled: true}
	}
	return s.message(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Definition{Definition: m}})
}

// part sends a part to the worker, and before it the revision that its rows run on. If the part is a whole batch, its rows go out from the
// memory in which they came in. Otherwise each row is copied once, on its way to the connection.
func (s *sessionWriter) part(p *scheduler.Part) error {
	sub := submissionOf(p.Batch)
	defer sub.release()
	if o := s.peer.partLimits.refusal(p); o != nil {
		s.refuse(p, sub, *o)
		return nil
	}
	if o := s.peer.refusesPositions(p); o != nil {
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
		Log: wire.FromPositions(sub.log),
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

// refuse ends the rows of a part that the worker does not accept, as if the worker had answered, and gives back the credit that the
// scheduler has spent for the part.
func (s *sessionWriter) refuse(p *scheduler.Part, sub *submission, o batch.RowOutcome) {
	m := &pb.Result{Part: p.Number, Last: true}
	outcomes := make([]batch.RowOutcome, p.Len())
	bytes := int64(0)
	for i := range outcomes {
		row := p.Row(uint32(i))
		data := sub.columns.Row(int(row))
		bytes += int64(len(data))
		outcomes[i] = o
		outcomes[i].Row = uint32(i)
		if sub.redrive {
			outcomes[i].Outcome = batch.Failed // the letter stays as it is
		} else if o.Outcome == batch.Dead && sub.keepsDead {
			m.Dead = append(m.Dead, &pb.DeadRow{
				Row: uint32(i), Code: pb.Code(o.Code), Reason: o.Reason, Encoding: sub.columns.Encoding, Data: slices.Clone(data),
			})
		}
	}
	m.NotDone = wire.FromRowOutcomes(outcomes)
	ctx, worker := s.stream.Context(), s.peer.worker.ID
	s.peer.loop.post(ctx, scheduler.Answered{Worker: worker, Part: p.Number, NotDone: outcomes, Last: true, Result: &result{Result: m}})
	s.peer.loop.post(ctx, scheduler.Credited{Worker: worker, Flow: p.Batch.Flow, Rows: int64(len(outcomes)), Bytes: bytes})
}
