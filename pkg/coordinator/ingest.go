package coordinator

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/behindfailed"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/refuse"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// ingest is the gRPC service Ingest, which takes batches from clients: one with the call Submit, many with the call Stream. Its methods may
// be called by any goroutine.
type ingest struct {
	pb.UnimplementedIngestServer
	id           string
	loop         *schedulerLoop
	board        *flowstate.Board
	store        *cluster.Store
	failed       behindfailed.Rows // rows of logs that failed and have not come again
	revisions    *revisionFinder
	coordinators func() map[string]cluster.Coordinator // the coordinators that are registered in etcd, by id
	tracer       trace.Tracer                          // nil means that tracing is off
	letters      *letterKeeper
	limits       batch.Limits
	maxMessage   int // the limit of one message, in bytes
	budget       *budget
	ready        <-chan struct{}          // closed when the coordinator knows the flows
	draining     <-chan struct{}          // closed when no batch is taken any more
	took         *prometheus.HistogramVec // the times that batches take, by flow; nil means that they are not measured

	// carriers waits for the goroutines that read and write client streams. They may outlive the calls for a moment.
	carriers sync.WaitGroup

	mu       sync.Mutex
	streams  map[streamKey]*stream // guarded by mu
	arriving int                   // guarded by mu: streams that are moving here from other coordinators and are not in streams yet
}

// windows returns the number of open streams, and by flow the sum of their windows' sizes and of what is used of them.
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

// Submit runs one batch and answers when each of its rows has an outcome. It blocks until then, until the caller gives up, or until the
// coordinator is cut off or stops.
func (i *ingest) Submit(ctx context.Context, in *pb.SubmitRequest) (_ *pb.SubmitResponse, failed error) {
	given := in.GetSubmission()
	if in.GetPositioned() != nil {
		given = in.GetPositioned()
	}
	if err := i.whyClosed(); err != nil {
		return refusedCall(given, err)
	}
	id, err := batch.StreamIDFrom(in.GetStream())
	if err != nil {
		return nil, wire.Status(err)
	}
	cost := callCost(len(given.GetRows().GetEnds()), len(given.GetRows().GetData()))
	if !i.budget.reserve(cost) {
		return nil, wire.Status(refuse.Overloaded())
	}
	defer i.budget.release(cost, false)
	i.budget.addCall(1)
	defer i.budget.addCall(-1)
	takes := i.clientTakes(in.GetTakesBytes())
	sub, err := i.submission(ctx, in.GetFlow(), id, given, takes, true)
	if changed, ok := errors.AsType[revisionChanged](err); ok {
		return &pb.SubmitResponse{Answer: changed.answer(given)}, nil
	}
	if err != nil {
		return refusedCall(given, err)
	}
	sub.endings = newQueue[ending]()
	sub.answers = &heldAnswers{budget: i.budget, allowance: cost, dropOutput: func() bool {
		sub.dropOutput()
		sub.endings.wake() // output that is already gathered is dropped, too
		return true
	}}
	defer sub.answers.close()
	defer func() { sub.span.end(failed) }()
	if !i.loop.post(ctx, scheduler.Submitted{Batch: &sub.Batch}) {
		failed = refuse.Draining()
		return refusedCall(given, failed)
	}
	answer, err := i.awaitAnswer(ctx, sub, answerLimit(takes))
	if err != nil {
		i.loop.post(context.WithoutCancel(ctx), scheduler.Cancelled{Batch: &sub.Batch})
		return nil, wire.Status(err)
	}
	return &pb.SubmitResponse{Answer: answer}, nil
}

// awaitAnswer waits until each row of a batch has its outcome, and gathers the batch's answers into one whose rows and outcomes take about
// limit bytes at most. Rows are running meanwhile, so it never returns an error whose code promises that no row ran.
func (i *ingest) awaitAnswer(ctx context.Context, sub *submission, limit int) (*pb.Answer, error) {
	g := gatheredAnswer{whole: sub.message(&pb.Answer{Last: true}), limit: limit}
	var items []ending
	for {
		now, changed := i.board.Watch()
		if now.CutOff {
			return nil, refuse.CutOff()
		}
		select {
		case <-ctx.Done():
			return nil, batch.Errorf(batch.CodeCancelled, "wait for the answers of batch %s: the caller gave up: %w", sub.id, context.Cause(ctx))
		case <-i.loop.done:
			return nil, refuse.Stopped()
		case <-changed:
		case <-sub.endings.ready:
		}
		items = sub.endings.take(items)
		i.letters.keep(ctx, items)
		for _, e := range items {
			sub.stripDropped(e.result) // the result may have come before the output was dropped
			for _, a := range sub.answer(e) {
				g.add(a)
			}
			if e.last {
				return g.whole, nil
			}
			g.count(sub.answers, e.bytes)
		}
		if sub.outputDropped.Load() {
			g.dropOutput(refuse.Shed())
			g.count(sub.answers, 0)
		}
	}
}
