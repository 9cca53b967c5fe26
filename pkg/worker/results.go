package worker

import (
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/internal/tracing"
	"github.com/kisgrid/kisgrid/internal/wire"
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

// resultsSafely is results; a defect there fails the rows, and ends neither the lane nor the process.
func (s *server) resultMessagesSafely(part *heldPart, ended []flowexec.RunResult, last bool) (messages []*pb.Result) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		s.log.Error("defect: results panicked", "flow", part.flow.name, "panic", r, "stack", string(debug.Stack()))
		m := &pb.Result{Part: part.number, Last: last}
		fail := func(row uint32) {
			m.NotDone = append(m.NotDone, &pb.RowOutcome{
				Row: row, Outcome: pb.Outcome_OUTCOME_FAILED, Code: pb.Code_CODE_INTERNAL, Reason: "a defect of the worker: its log has the stack",
			})
		}
		for _, run := range ended {
			for _, row := range run.Rows {
				fail(row)
			}
			if run.Rows == nil {
				for row := range uint32(part.size.rows) {
					fail(row)
				}
			}
		}
		messages = []*pb.Result{m}
	}()
	return s.resultMessages(part, ended, last)
}

// results turns what has ended of a part into messages: one, unless it is large or its output rows are encoded differently.
// With last the final one says by its silence that every row not mentioned is done.
func (s *server) resultMessages(part *heldPart, ended []flowexec.RunResult, last bool) []*pb.Result {
	encoding := func(run flowexec.RunResult) string { return run.Output.Rows.Encoding }
	slices.SortStableFunc(ended, func(a, b flowexec.RunResult) int { return strings.Compare(encoding(a), encoding(b)) })
	var messages []*pb.Result
	limit := int64(min(s.config.ResultBytes, part.maxOutputPerRow))
	for i := 0; i < len(ended); {
		n, bytes := i+1, sizeOfRun(&ended[i])
		for n < len(ended) && encoding(ended[n]) == encoding(ended[i]) {
			if bytes += sizeOfRun(&ended[n]); bytes > limit {
				break // what needs more than one message is not put together first
			}
			n++
		}
		messages = append(messages, s.resultMessage(part, ended[i:n], last && n == len(ended))...)
		i = n
	}
	return messages
}

// gather makes one result of some runs, or splits it where it is large.
func (s *server) resultMessage(part *heldPart, ended []flowexec.RunResult, last bool) []*pb.Result {
	var all batch.Result
	var dead []batch.DeadRow
	var returned []uint32
	outputs := make([]batch.Output, 0, len(ended))
	for _, run := range ended {
		all.NotDone = append(all.NotDone, run.NotDone...)
		dead = append(dead, run.Dead...)
		returned = append(returned, run.Returned...)
		outputs = append(outputs, run.Output)
	}
	all.Output = batch.Join(outputs) // the client puts in order what comes from several workers anyway
	slices.Sort(returned)
	m := &pb.Result{Part: part.number, Returned: wire.FromRanges(wire.Ranges(returned)), Last: last}
	if sizeOfResult(all)+sizeOfDead(dead) > min(s.config.ResultBytes, part.maxOutputPerRow) || len(all.Output.Rows.Data) > part.maxOutputRow && longestRow(all.Output) > part.maxOutputRow {
		return s.splitResult(part, m, finishedRows(part, ended), all, dead)
	}
	if !last {
		m.Finished = wire.FromRanges(rangesOf(finishedRows(part, ended), 0, uint32(part.size.rows)))
	}
	m.NotDone, m.Output = wire.FromRowOutcomes(all.NotDone), wire.FromOutput(all.Output)
	m.Dead = wire.FromDeadRows(dead)
	return []*pb.Result{m}
}

// finished are the rows that have an outcome.
func finishedRows(part *heldPart, ended []flowexec.RunResult) bitset.Set {
	n := uint32(part.size.rows)
	set := bitset.New(int(n))
	for _, run := range ended {
		if run.Rows == nil {
			for row := range n {
				set.Add(row)
			}
		}
		for _, row := range run.Rows {
			set.Add(row)
		}
	}
	for _, run := range ended {
		for _, row := range run.Returned {
			set.Remove(row)
		}
	}
	return set
}

// rangesOf packs the rows of a set, from first to end-1, into ranges.
func rangesOf(s bitset.Set, first, end uint32) []batch.Range {
	var out []batch.Range
	for row := first; row < end; row++ {
		if row%64 == 0 && !s.HasAnyNear(row) {
			row += 63
			continue
		}
		if !s.Has(row) {
			continue
		}
		if n := len(out); n > 0 && out[n-1].First+out[n-1].Count == row {
			out[n-1].Count++
		} else {
			out = append(out, batch.Range{First: row, Count: 1})
		}
	}
	return out
}
