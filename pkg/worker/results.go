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

// partialDelay is how long ended rows of a part wait for the other rows of the part, before a result is made of them alone. A
// part that ends within this time needs one result.
const partialDelay = 10 * time.Millisecond

// result is one Result message. The peer keeps it until the coordinator acknowledges it, and sends it again in the next
// session if the session ends before that.
type result struct {
	message      *pb.WorkerMessage // the message as it is sent
	number       uint64            // results of one peer are numbered 1, 2, 3 and so on, across sessions
	part         *heldPart         // the part whose rows it is about
	bytes        int64             // size of the message; it counts in the account's budget
	rows         int64             // how many rows this result ends and names as ended
	lastOfPart   bool              // it ends every row of the part that no result has named
	acknowledged chan struct{}     // closed when the coordinator has acknowledged the result or is forgotten; nil when nothing waits for that
}

// runEnded takes in the result of one run of the part: outcomes, output and dead rows. Lanes call it, several of them at the
// same time.
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

// addEnded adds a run to the ended runs of its part, which are in no result yet. complete means that all rows of the part
// have ended. wake means that the caller must wake the session's sender, because the sender does not know yet that ended rows
// wait.
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

// report makes results of the part's ended runs, and the part's last result when all rows have ended. It does nothing while
// another goroutine does the same for this part.
func (p *peer) report(part *heldPart) {
	ended, bytes, last := p.takeEnded(part)
	for ; len(ended) > 0; ended, bytes, last = p.takeEnded(part) {
		p.keepResults(part, p.server.resultMessagesSafely(part, ended, last), bytes)
	}
	if last {
		tracing.End(part.span, nil)
	}
}

// takeEnded takes the ended runs that are in no result yet, together with their bytes, which stay counted. last says that all
// rows of the part have ended. It returns nothing while another goroutine makes results of this part: that goroutine looks
// again when it is done.
func (p *peer) takeEnded(part *heldPart) (ended []flowexec.RunResult, bytes int64, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case part.reporting:
		return nil, 0, false
	case p.dropped: // nobody takes results, so throw the ended runs away
		part.endedRuns = nil
		part.account.releaseOutput(part.endedBytes)
		part.endedBytes = 0
	}
	ended, part.endedRuns = part.endedRuns, nil
	bytes, part.endedBytes = part.endedBytes, 0
	part.reporting = len(ended) > 0
	if part.openRows == 0 && !part.reporting && part.Part != nil {
		// Every row is in a result, so the bytes of the rows are free. The rows stay charged until the last result is
		// acknowledged; a dropped peer gets no acknowledgement.
		part.Part = nil
		part.releaseCredit(amount{bytes: part.size.bytes})
		if p.dropped {
			part.releaseCredit(part.size)
		}
	}
	return ended, bytes, part.openRows == 0
}

// keepResults gives numbers to new results and wakes the sender. From now on the size of the messages counts, instead of the
// size of the runs that they were made of, which is bytes. Results of a dropped peer are thrown away.
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

// numberResults gives the next numbers to messages and appends them to p.results. The caller holds p.mu, and wakes the sender
// afterwards.
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

// acknowledge forgets the results up to this number, which the coordinator now has, and gives their credit back. An error
// means that the coordinator acknowledges a result that was never sent, or that the peer was dropped.
func (p *peer) acknowledge(number uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acknowledgeLocked(number)
}

// acknowledgeLocked forgets the results up to this number, as acknowledge does, for a caller that holds p.mu.
func (p *peer) acknowledgeLocked(number uint64) error {
	switch {
	case p.dropped:
		return errReplaced
	case number <= p.lastAcknowledged:
		return nil
	case number > p.lastSent:
		return batch.Errorf(batch.CodeBadMessage, "the coordinator acknowledges result %d, but the last result sent was %d: the coordinator is defective", number, p.lastSent)
	}
	// The first n results are acknowledged: give back their credit, and forget the parts that have ended with them.
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
			c.look()
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
