package worker

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/internal/tracing"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// partialDelay is how long rows that have ended wait for the rest of their part before they are reported without it.
const partialDelay = 10 * time.Millisecond

// result is a message that is kept until it is acknowledged.
type result struct {
	message      *pb.WorkerMessage
	number       uint64
	part         *heldPart
	bytes        int64
	rows         int64 // that end with it, of those that it names
	lastOfPart   bool
	acknowledged chan struct{} // closed when it is acknowledged, or never will be; nil: nobody waits for that
}

// end takes in how a run ended. Lanes call it, possibly at the same time.
func (p *peer) runEnded(part *heldPart, run flowexec.RunResult) {
	complete, wake := p.addEnded(part, run)
	if wake {
		p.wakeUp()
	}
	if complete {
		p.server.flows.partEnded(part.flow)
		p.report(part)
	}
}

// note adds a run to what has ended of its part. wake: the sender does not know yet that rows wait for it.
func (p *peer) addEnded(part *heldPart, run flowexec.RunResult) (complete, wake bool) {
	p.server.metrics.rowsReturned.Add(float64(len(run.Returned)))
	rows := len(run.Rows)
	if run.Rows == nil {
		rows = int(part.size.rows)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	part.openRows -= rows
	part.endedRuns = append(part.endedRuns, run)
	bytes := sizeOfRun(&run)
	part.endedBytes += bytes
	part.account.holdOutput(bytes, true)
	part.removeAnnounced(run)
	if part.openRows == 0 {
		return true, false
	}
	if len(part.endedRuns) == 1 && !p.dropped {
		part.endedSince = time.Now()
		p.unreported = append(p.unreported, part)
		wake = len(p.unreported) == 1
	}
	return false, wake
}

// report makes results of what has ended of a part.
func (p *peer) report(part *heldPart) {
	ended, bytes, last := p.takeEnded(part)
	for ; len(ended) > 0; ended, bytes, last = p.takeEnded(part) {
		p.keepResults(part, p.server.resultMessagesSafely(part, ended, last), bytes)
	}
	if last {
		tracing.End(part.span, nil)
	}
}

// collect takes what has ended of a part and is in no result yet, and its bytes, which go on counting. It takes nothing while
// somebody else makes results of the part, and will collect again.
func (p *peer) takeEnded(part *heldPart) (ended []flowexec.RunResult, bytes int64, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case part.reporting:
		return nil, 0, false
	case p.dropped:
		part.endedRuns = nil
		part.account.releaseOutput(part.endedBytes)
		part.endedBytes = 0
	}
	ended, part.endedRuns = part.endedRuns, nil
	bytes, part.endedBytes = part.endedBytes, 0
	part.reporting = len(ended) > 0
	if part.openRows == 0 && !part.reporting && part.Part != nil {
		// All is in results: the rows' bytes are free. Nobody acknowledges to one that is gone.
		part.Part = nil
		part.releaseCredit(amount{bytes: part.size.bytes})
		if p.dropped {
			part.releaseCredit(part.size)
		}
	}
	return ended, bytes, part.openRows == 0
}

// keep numbers results and puts them where the sender finds them, in place of what had ended with so many bytes.
func (p *peer) keepResults(part *heldPart, messages []*pb.Result, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	part.reporting = false
	part.account.releaseOutput(bytes)
	if p.dropped {
		return
	}
	p.numberResults(part, messages...)
	p.wakeUp()
}

// post numbers results. The caller holds the lock, and wakes the sender.
func (p *peer) numberResults(part *heldPart, messages ...*pb.Result) {
	number := p.lastAcknowledged + uint64(len(p.results))
	total := int64(0)
	for _, m := range messages {
		number++
		m.Number = number
		if len(m.GetNotDone())+len(m.GetOutput().GetOrigins())+len(m.GetDead()) > 0 {
			m.Flow = part.flow.name
		}
		r := result{
			message: &pb.WorkerMessage{Kind: &pb.WorkerMessage_Result{Result: m}},
			number:  number, part: part, bytes: int64(proto.Size(m)), lastOfPart: m.GetLast(),
		}
		for _, ended := range slices.Concat(m.GetFinished(), m.GetReturned()) {
			r.rows += int64(ended.GetCount())
		}
		p.results = append(p.results, r)
		total += r.bytes
	}
	part.account.holdOutput(total, false)
	p.server.metrics.resultsKept.Add(float64(len(messages)))
}

// acknowledge forgets results that the coordinator has.
func (p *peer) acknowledge(number uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acknowledgeLocked(number)
}

// acknowledged is acknowledge for callers that hold the lock.
func (p *peer) acknowledgeLocked(number uint64) error {
	switch {
	case p.dropped:
		return errReplaced
	case number <= p.lastAcknowledged:
		return nil
	case number > p.lastSent:
		return batch.Errorf(batch.CodeBadMessage, "result %d is acknowledged, and the last one sent was %d: the coordinator is defective", number, p.lastSent)
	}
	n := int(number - p.lastAcknowledged)
	for i := range p.results[:n] {
		r := &p.results[i]
		r.part.account.releaseOutput(r.bytes)
		if r.acknowledged != nil {
			close(r.acknowledged)
		}
		r.part.releaseCredit(amount{rows: r.rows})
		if r.lastOfPart {
			r.part.releaseCredit(amount{rows: r.part.size.rows})
			delete(p.parts, r.part.number)
			p.server.metrics.partsHeld.Dec()
		}
		if c := p.credits[r.part.flow.name]; c != nil {
			c.due.Store(true)
		}
	}
	p.results = slices.Delete(p.results, 0, n)
	p.server.metrics.resultsKept.Sub(float64(n))
	p.lastAcknowledged = number
	p.lastTaken = max(p.lastTaken, number)
	p.wakeUp()
	p.server.wakeDrain()
	return nil
}
