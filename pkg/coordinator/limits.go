package coordinator

import (
	"fmt"
	"math"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Processes of one cluster may have different limits, for good or while an operator changes them one process after the other. No process is
// sent more than it said that it accepts: a worker says that in Welcome, a client in Open or with its call. Only a row that is too large
// for the other side fails, with ROW_TOO_LARGE; its session or stream goes on.

// limitsOf converts limits to the message in which clients are told them.
func limitsOf(l batch.Limits) *pb.Limits {
	return &pb.Limits{RowBytes: uint32(l.RowBytes), BatchBytes: uint32(l.BatchBytes), BatchRows: uint32(l.BatchRows)}
}

// clientTakes returns the most bytes that one answer to a client may have. said is how many bytes the client said that it accepts; 0 means
// that its build does not say, and accepts the default limit of a message. The result is never above this coordinator's own limit of a
// message.
func (i *ingest) clientTakes(said uint32) int {
	const least = 2 << 20 // answers are sent in pieces of half of that
	takes := max(least, int(min(said, math.MaxInt32)))
	if said == 0 {
		takes = (&transport.Config{}).MessageBytes()
	}
	return min(takes, i.maxMessage)
}

// answerLimit returns how many bytes of rows fit into an answer of message bytes, beside its other fields.
func answerLimit(message int) int { return message - message/8 }

// partLimits is how many rows and bytes a worker accepts in one part. 0 means that any batch is accepted that this coordinator accepts.
type partLimits struct{ rows, bytes int64 }

// limitsOfWorker returns the limits for parts that a worker has told in Welcome. A limit that is not lower than this coordinator's own is
// 0.
func limitsOfWorker(w *pb.Welcome, own batch.Limits) (l partLimits) {
	if n := w.GetBatchRows(); n > 0 && int64(n) < int64(own.BatchRows) {
		l.rows = int64(n)
	}
	if n := w.GetBatchBytes(); n > 0 && int64(n) < int64(own.BatchBytes) {
		l.bytes = int64(n)
	}
	return l
}

// refusal returns the outcome that each row of a part gets because the worker does not accept the part; nil means that it accepts the part.
// The scheduler cuts parts to the worker's limits, so that only two cases are left: a single row that is too large, and a batch that must
// not be divided.
func (l partLimits) refusal(p *scheduler.Part) *batch.RowOutcome {
	if l == (partLimits{}) {
		return nil
	}
	rows, bytes := int64(p.Len()), int64(0)
	if p.Rows == nil {
		bytes = int64(p.Batch.Ends[p.Batch.Rows()-1])
	}
	for _, row := range p.Rows {
		bytes += int64(p.Batch.Ends[row])
		if row > 0 {
			bytes -= int64(p.Batch.Ends[row-1])
		}
	}
	switch {
	case l.bytes > 0 && bytes > l.bytes && rows == 1:
		return &batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeRowTooLarge,
			Reason: fmt.Sprintf("the row has %d bytes, over the limit of %d bytes of the worker that it belongs to: raise --max-batch-bytes there, or send less", bytes, l.bytes)}
	case l.bytes > 0 && bytes > l.bytes:
		return &batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeBatchTooLarge,
			Reason: fmt.Sprintf("the batch has %d bytes, and no worker takes more than %d bytes: raise --max-batch-bytes of the workers and submit the same batch again, or split it", bytes, l.bytes)}
	case l.rows > 0 && rows > l.rows:
		return &batch.RowOutcome{Outcome: batch.Failed, Code: batch.CodeTooManyRows,
			Reason: fmt.Sprintf("the batch has %d rows, and no worker takes more than %d rows: raise --max-batch-rows of the workers and submit the same batch again, or split it", rows, l.rows)}
	}
	return nil
}
