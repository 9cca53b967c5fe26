package coordinator

import (
	"context"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// ingest is the gRPC service that takes batches from clients.
type ingest struct {
	pb.UnimplementedIngestServer
	id       string
	loop     *loop
	board    *board
	fleet    *fleet
	limits   batch.Limits
	budget   *budget
	draining chan struct{} // closed when no batch is taken any more

	// receivers are the goroutines that read client streams.
	receivers sync.WaitGroup

	mu      sync.Mutex
	streams map[batch.StreamID]*stream // guarded by mu
}

func errDraining() error {
	return batch.Errorf(batch.CodeShutdown, "this coordinator is shutting down: submit to another one, the same batch if it was sent")
}

func errStopped() error {
	return batch.Errorf(batch.CodeShutdown, "this coordinator has stopped; what was under way may have taken effect: submit the same batch to another one")
}

func errOverloaded() error {
	e := batch.Errorf(batch.CodeOverloaded, "the coordinator's budget of rows under way is used up: try again, or run more coordinators")
	e.RetryAfter = 200 * time.Millisecond
	return e
}

func (i *ingest) isDraining() bool {
	select {
	case <-i.draining:
		return true
	default:
		return false
	}
}

// submission makes a batch from outside ready for the scheduler.
func (i *ingest) submission(ctx context.Context, flow string, stream batch.StreamID, in *pb.Submission) (*submission, error) {
	if err := i.fleet.recall(ctx, flow, in.GetRevision()); err != nil {
		return nil, err
	}
	return newSubmission(i.board.load(), i.limits, flow, stream, in, time.Now())
}

// refused stands for a batch that never became a submission, so that its answer and credit go the ordinary way.
func refused(in *pb.Submission) *submission {
	return &submission{id: batch.ID{Sequence: in.GetSequence()}, columns: wire.ToColumns(in.GetRows()), begun: true}
}

// Submit runs one batch and answers when each of its rows has an outcome.
func (i *ingest) Submit(ctx context.Context, in *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	if i.isDraining() {
		return nil, wire.Status(errDraining())
	}
	id, err := batch.StreamIDFrom(in.GetStream())
	if err != nil {
		return nil, wire.Status(err)
	}
	bytes := int64(len(in.GetSubmission().GetRows().GetData()))
	if !i.budget.reserve(bytes) {
		return nil, wire.Status(errOverloaded())
	}
	defer i.budget.release(bytes)
	sub, err := i.submission(ctx, in.GetFlow(), id, in.GetSubmission())
	if err != nil {
		return nil, wire.Status(err)
	}
	sub.endings = newOutbox[ending]()
	if !i.loop.post(ctx, scheduler.Submitted{Batch: &sub.Batch}) {
		return nil, wire.Status(errStopped())
	}
	answer, err := i.await(ctx, sub)
	if err != nil {
		i.loop.post(context.Background(), scheduler.Cancelled{Batch: &sub.Batch})
		return nil, wire.Status(err)
	}
	return &pb.SubmitResponse{Answer: answer}, nil
}

// await gathers a batch's answers into one.
func (i *ingest) await(ctx context.Context, sub *submission) (*pb.Answer, error) {
	whole := &pb.Answer{Sequence: sub.id.Sequence, Revision: sub.Revision, Last: true}
	var items []ending
	for {
		select {
		case <-ctx.Done():
			return nil, batch.Errorf(batch.CodeCancelled, "the caller gave up: %w", context.Cause(ctx))
		case <-i.loop.done:
			return nil, errStopped()
		case <-sub.endings.ready:
		}
		items = sub.endings.take(items)
		for _, e := range items {
			a := sub.answer(e)
			if a != nil {
				whole.NotDone = append(whole.NotDone, a.NotDone...)
				whole.Output = appendOutput(whole.Output, a.Output)
			}
			if e.last {
				return whole, nil
			}
		}
	}
}

// appendOutput puts more behind an output. Neither may be used afterwards.
func appendOutput(o, more *pb.Output) *pb.Output {
	switch {
	case len(more.GetOrigins()) == 0:
		return o
	case o == nil:
		return more
	}
	base := uint32(len(o.Rows.Data))
	o.Rows.Data = append(o.Rows.Data, more.Rows.Data...)
	for _, end := range more.Rows.Ends {
		o.Rows.Ends = append(o.Rows.Ends, base+end)
	}
	o.Origins = append(o.Origins, more.Origins...)
	return o
}
