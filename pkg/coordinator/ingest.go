package coordinator

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// ingest is the gRPC service that takes batches from clients.
type ingest struct {
	pb.UnimplementedIngestServer
	id           string
	loop         *schedulerLoop
	board        *flowstate.Board
	revisions    *revisionFinder
	coordinators func() map[string]cluster.Coordinator // those that are registered in etcd, by id
	tracer       trace.Tracer                          // nil where nobody traces
	letters      *letterKeeper
	limits       batch.Limits
	maxMessage   int // limit of one message, in bytes
	budget       *budget
	ready        <-chan struct{} // closed when the flows are known
	draining     <-chan struct{} // closed when no batch is taken any more

	// carriers are the goroutines that read and write client streams.
	carriers sync.WaitGroup

	mu       sync.Mutex
	streams  map[batch.StreamID]*stream // guarded by mu
	arriving int                        // guarded by mu: streams that move here and are not in streams yet
}

// closed is why no batch is taken now, nil if one is.
func (i *ingest) whyClosed() error {
	switch {
	case isClosed(i.draining):
		return refuse.Draining()
	case !isClosed(i.ready):
		return batch.Errorf(batch.CodeUnavailable, "this coordinator has just started and waits for etcd to tell it the flows: try again, or another one")
	case i.board.Load().CutOff:
		return batch.Errorf(batch.CodeUnavailable, "this coordinator can't reach most workers: submit to another one, the same batch if it was sent")
	}
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// windows counts the open streams, and adds up their windows by flow.
func (i *ingest) windows() (streams int, byFlow map[string]windowUse) {
	i.mu.Lock()
	open := slices.Collect(maps.Values(i.streams))
	i.mu.Unlock()
	byFlow = map[string]windowUse{}
	for _, s := range open {
		sum, w := byFlow[s.flow], s.window.use()
		byFlow[s.flow] = windowUse{sum.size + w.size, sum.used + w.used}
	}
	return len(open), byFlow
}

// submission makes a batch from outside ready for the scheduler. Its client takes so many bytes in a message. single: it is a call's.
func (i *ingest) submission(ctx context.Context, flow string, stream batch.StreamID, in *pb.Submission, takes int, single bool) (*submission, error) {
	r, err := i.revisions.revision(ctx, flow, in, single)
	if err != nil {
		return nil, err
	}
	s, err := newSubmission(r, i.limits, flow, stream, in, time.Now())
	if err != nil {
		return nil, err
	}
	s.goesTo(takes, i.limits)
	s.trace(i.tracer, in.GetTraceParent())
	s.letters, s.reportOnly, s.keepsDead = i.letters, in.GetReportOnly(), i.letters.store != nil && !in.GetReportOnly()
	return s, nil
}

// refused stands for a batch that never became a submission, so that its answer and credit go the ordinary way. It keeps
// nothing of the batch itself.
func refused(in *pb.Submission, spent size) *submission {
	return &submission{id: batch.ID{Sequence: in.GetSequence()}, spent: spent, begun: true}
}

// refusedCall ends a call of whose batch nothing ran. Where the error's code leaves that open, an answer says it.
func refusedCall(in *pb.Submission, err error) (*pb.SubmitResponse, error) {
	if !wire.LeavesOpen(batch.CodeOf(err)) {
		return nil, wire.Status(err)
	}
	return &pb.SubmitResponse{Answer: &pb.Answer{Sequence: in.GetSequence(), Refused: wire.FromError(err), Last: true}}, nil
}

// Submit runs one batch and answers when each of its rows has an outcome.
func (i *ingest) Submit(ctx context.Context, in *pb.SubmitRequest) (_ *pb.SubmitResponse, failed error) {
	if err := i.whyClosed(); err != nil {
		return refusedCall(in.GetSubmission(), err)
	}
	id, err := batch.StreamIDFrom(in.GetStream())
	if err != nil {
		return nil, wire.Status(err)
	}
	cost := callCost(len(in.GetSubmission().GetRows().GetEnds()), len(in.GetSubmission().GetRows().GetData()))
	if !i.budget.reserve(cost) {
		return nil, wire.Status(refuse.Overloaded())
	}
	defer i.budget.release(cost, false)
	i.budget.call(1)
	defer i.budget.call(-1)
	takes := i.clientTakes(in.GetTakesBytes())
	sub, err := i.submission(ctx, in.GetFlow(), id, in.GetSubmission(), takes, true)
	if changed, ok := errors.AsType[revisionChanged](err); ok {
		return &pb.SubmitResponse{Answer: changed.answer(in.GetSubmission())}, nil
	}
	if err != nil {
		return refusedCall(in.GetSubmission(), err)
	}
	sub.endings = newQueue[ending]()
	sub.answers = &heldAnswers{budget: i.budget, allowance: cost, shed: func() bool {
		sub.shedOutput()
		sub.endings.wake() // what is gathered goes, too
		return true
	}}
	defer sub.answers.close()
	defer func() { sub.span.end(failed) }()
	if !i.loop.post(ctx, scheduler.Submitted{Batch: &sub.Batch}) {
		failed = refuse.Draining()
		return refusedCall(in.GetSubmission(), failed)
	}
	answer, err := i.await(ctx, sub, answerLimit(takes))
	if err != nil {
		i.loop.post(context.WithoutCancel(ctx), scheduler.Cancelled{Batch: &sub.Batch})
		return nil, wire.Status(err)
	}
	return &pb.SubmitResponse{Answer: answer}, nil
}

// await gathers a batch's answers into one of at most so many bytes. Rows run meanwhile: it returns no error whose code says that
// none did.
func (i *ingest) await(ctx context.Context, sub *submission, limit int) (*pb.Answer, error) {
	g := gatheredAnswer{whole: sub.message(&pb.Answer{Last: true}), limit: limit}
	var items []ending
	for {
		now, changed := i.board.Watch()
		if now.CutOff {
			return nil, refuse.CutOff()
		}
		select {
		case <-ctx.Done():
			return nil, batch.Errorf(batch.CodeCancelled, "the caller gave up: %w", context.Cause(ctx))
		case <-i.loop.done:
			return nil, refuse.Stopped()
		case <-changed:
		case <-sub.endings.ready:
		}
		items = sub.endings.take(items)
		i.letters.keep(ctx, items)
		for _, e := range items {
			sub.leaveOut(e.result) // it may have come before output was let go
			for _, a := range sub.answer(e) {
				g.add(a)
			}
			if e.last {
				return g.whole, nil
			}
			g.count(sub.answers, e.bytes)
		}
		if sub.shed.Load() {
			g.shed(refuse.Shed())
			g.count(sub.answers, 0)
		}
	}
}
