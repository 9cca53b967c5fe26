package worker

import (
	"cmp"
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
	if len(run.Dead)+len(run.Returned) > 0 && !part.inOrder && !p.dropped {
		part.inOrder = true
		i, _ := slices.BinarySearchFunc(p.inOrder, part.number, func(other *heldPart, n uint64) int { return cmp.Compare(other.number, n) })
		p.inOrder = slices.Insert(p.inOrder, i, part)
	}
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

// report makes results of the part's ended runs, and the part's last result when all rows have ended.
//
// The coordinator keeps dead rows in the order in which it hears of them, and redrives run them in this order. So where the ended runs have
// dead rows, the results of earlier parts of the flow that have some come first: rows of one key may be divided among several parts. The same
// holds for rows that are handed back, since they may die elsewhere.
func (p *peer) report(part *heldPart) {
	for before := p.firstBefore(part); before != nil && p.reportAlone(before); {
		before = p.firstBefore(part)
	}
	p.reportAlone(part)
	for next := p.nextOvertaking(); next != nil; next = p.nextOvertaking() {
		p.reportAlone(next)
	}
}

// reportAlone makes results of one part. It does nothing, and returns false, while another goroutine does the same for this part, or for one
// whose results have to come first. In the latter case that goroutine also makes the results of this part.
func (p *peer) reportAlone(part *heldPart) (made bool) {
	ended, bytes, last := p.takeEnded(part)
	for ; len(ended) > 0; ended, bytes, last = p.takeEnded(part) {
		p.keepResults(part, p.server.resultMessagesSafely(part, ended, last), bytes)
		made = true
	}
	if last {
		tracing.End(part.span, nil)
	}
	return made
}

// firstBefore returns the first part whose results have to come before those of a part; nil if there is none.
func (p *peer) firstBefore(part *heldPart) *heldPart {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.firstBeforeLocked(part)
}

// firstBeforeLocked is firstBefore for a caller that holds p.mu.
func (p *peer) firstBeforeLocked(part *heldPart) *heldPart {
	if part.inOrder {
		for _, other := range p.inOrder {
			switch {
			case other.number >= part.number:
				return nil
			case other.flow == part.flow:
				return other
			}
		}
	}
	return nil
}

// nextOvertaking returns a part that was not reported because of an earlier one, whose results have been made meanwhile; nil if there is none.
func (p *peer) nextOvertaking() *heldPart {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range p.inOrder {
		if part.overtaking && p.firstBeforeLocked(part) == nil {
			part.overtaking = false
			return part
		}
	}
	return nil
}

// takeEnded takes the ended runs that are in no result yet, together with their bytes, which stay counted. last says that all
// rows of the part have ended. It returns nothing while another goroutine makes results of this part: that goroutine looks
// again when it is done. It also returns nothing while results of another part have to come first.
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
	case p.firstBeforeLocked(part) != nil:
		pointOvertaking.Hit()
		part.overtaking = true
		return nil, 0, false
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
	if part.inOrder && !slices.ContainsFunc(part.endedRuns, func(run flowexec.RunResult) bool { return len(run.Dead)+len(run.Returned) > 0 }) {
		part.inOrder = false
		p.inOrder = slices.DeleteFunc(p.inOrder, func(other *heldPart) bool { return other == part })
	}
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
