package worker

import (
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
)

// part is a part that the worker holds, until its last result is acknowledged.
type heldPart struct {
	number          uint64
	flow            *flow
	account         *account
	size            amount
	received        time.Time
	deaths          uint32 // of workers that count against it
	maxOutputPerRow int    // the most bytes of output, or of letters, that one row may come to: the coordinator takes no more
	maxOutputRow    int    // the most bytes of one row of output: the client takes no more

	// What follows is guarded by the peer's lock.
	*flowexec.Part                      // nil once all rows have ended and are in results: their bytes are free then
	charged        amount               // to the account, of size
	openRows       int                  // rows that have not ended
	endedRuns      []flowexec.RunResult // not in a result yet
	endedBytes     int64                // bytes of ended
	endedSince     time.Time            // when the first of them ended
	span           trace.Span           // nil where nobody traces
	reporting      bool                 // somebody makes results of them now
	announced      bitset.Set           // rows that run, or wait for leave to; nil where none was announced
}

// free gives back what of n is still charged.
func (part *heldPart) releaseCredit(n amount) {
	n = least(n, part.charged)
	part.charged = part.charged.minus(n)
	part.account.release(n)
}

// endAnnounced takes the run's rows out of those that are announced. The caller holds the peer's lock.
func (part *heldPart) removeAnnounced(run flowexec.RunResult) {
	if part.announced == nil {
		return
	}
	if run.Rows == nil {
		clear(part.announced)
	}
	for _, row := range run.Rows {
		part.announced.Remove(row)
	}
}

func everyRow(part *heldPart) []uint32 {
	rows := make([]uint32, part.size.rows)
	for i := range rows {
		rows[i] = uint32(i)
	}
	return rows
}
