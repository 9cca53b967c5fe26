package worker

import (
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
)

// heldPart is one part, which is rows of one batch that came together, from its arrival until its last result is acknowledged.
//
//	received ──► queued ──► running ──► answered ──► acknowledged
//	   │           │          │  ▲         ▲
//	   │           │          ▼  │         │
//	   │           │        parked         │
//	   │           └─── handed back ───────┤
//	   └─ draining, does not compile ──────┘
//
// The rows of a part go through these states one by one: some may be answered while others are queued. Package flowexec has
// the states from queued to parked. A row is answered when peer.results has a result that names it. The last result of a part
// ends all rows that no earlier result has named; when it is acknowledged, the peer forgets the part.
type heldPart struct {
	number          uint64    // parts of one peer are numbered 1, 2, 3 and so on, across sessions
	flow            *flow     // has the lanes
	account         *account  // is charged with the part's rows and bytes
	size            amount    // rows and bytes of the part when it came
	received        time.Time // when it came
	deaths          uint32    // workers that died while these rows may have run there
	maxOutputPerRow int       // the most bytes of output, or of dead letters, of one input row; the coordinator accepts no more
	maxOutputRow    int       // the most bytes of one output row; the client accepts no more

	// The fields below are guarded by the peer's lock. Part is what lanes run. It is nil once all rows have ended and are in
	// results, which frees the memory of the rows.
	*flowexec.Part
	charged    amount               // the share of size that is still charged to account
	openRows   int                  // rows that have not ended
	endedRuns  []flowexec.RunResult // runs that have ended and are in no result yet
	endedBytes int64                // size of endedRuns in bytes
	endedSince time.Time            // when the first of endedRuns ended
	span       trace.Span           // nil when nobody traces
	reporting  bool                 // a goroutine makes results of endedRuns now
	inOrder    bool                 // the part is among peer.inOrder
	overtaking bool                 // its results wait for those of an earlier part of peer.inOrder, which another goroutine makes
	announced  bitset.Set           // rows that run or wait to run, as the coordinator was told; nil when none was announced
}

// releaseCredit gives rows and bytes of the part back to the account of its flow, which lets the coordinator send more. It
// gives back no more than the part is still charged for. The caller holds the peer's lock.
func (part *heldPart) releaseCredit(n amount) {
	n = least(n, part.charged)
	part.charged = part.charged.minus(n)
	part.account.release(n)
}

// removeAnnounced takes the rows of a run that has ended off the set of rows that the coordinator believes to be running. The
// caller holds the peer's lock.
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

// everyRow returns the numbers of all rows of a part: 0, 1, 2 and so on.
func everyRow(part *heldPart) []uint32 {
	rows := make([]uint32, part.size.rows)
	for i := range rows {
		rows[i] = uint32(i)
	}
	return rows
}
