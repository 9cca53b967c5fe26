package worker

import (
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

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
	message *pb.WorkerMessage
	number  uint64
	part    *part
	bytes   int64
	rows    int64 // that end with it, of those that it names
	last    bool
	heard   chan struct{} // closed when it is acknowledged, or never will be; nil: nobody waits for that
}

// end takes in how a run ended. Lanes call it, possibly at the same time.
func (p *peer) end(t *part, run flowexec.RunResult) {
	complete, wake := p.note(t, run)
	if wake {
		p.wakeUp()
	}
	if complete {
		p.server.flows.ran(t.flow)
		p.report(t)
	}
}

// note adds a run to what has ended of its part. wake: the sender does not know yet that rows wait for it.
func (p *peer) note(t *part, run flowexec.RunResult) (complete, wake bool) {
	p.server.metrics.rowsReturned.Add(float64(len(run.Returned)))
	rows := len(run.Rows)
	if run.Rows == nil {
		rows = int(t.size.rows)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t.open -= rows
	t.ended = append(t.ended, run)
	bytes := made(&run)
	t.made += bytes
	t.account.holdOutput(bytes, true)
	t.endAnnounced(run)
	if t.open == 0 {
		return true, false
	}
	if len(t.ended) == 1 && !p.gone {
		t.since = time.Now()
		p.waiting = append(p.waiting, t)
		wake = len(p.waiting) == 1
	}
	return false, wake
}

// report makes results of what has ended of a part.
func (p *peer) report(t *part) {
	ended, bytes, last := p.collect(t)
	for ; len(ended) > 0; ended, bytes, last = p.collect(t) {
		p.keep(t, p.server.resultsSafely(t, ended, last), bytes)
	}
	if last {
		tracing.End(t.span, nil)
	}
}

// collect takes what has ended of a part and is in no result yet, and its bytes, which go on counting. It takes nothing while
// somebody else makes results of the part, and will collect again.
func (p *peer) collect(t *part) (ended []flowexec.RunResult, bytes int64, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case t.reporting:
		return nil, 0, false
	case p.gone:
		t.ended = nil
		t.account.releaseOutput(t.made)
		t.made = 0
	}
	ended, t.ended = t.ended, nil
	bytes, t.made = t.made, 0
	t.reporting = len(ended) > 0
	if t.open == 0 && !t.reporting && t.Part != nil {
		// All is in results: the rows' bytes are free. Nobody acknowledges to one that is gone.
		t.Part = nil
		t.free(amount{bytes: t.size.bytes})
		if p.gone {
			t.free(t.size)
		}
	}
	return ended, bytes, t.open == 0
}

// keep numbers results and puts them where the sender finds them, in place of what had ended with so many bytes.
func (p *peer) keep(t *part, messages []*pb.Result, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.reporting = false
	t.account.releaseOutput(bytes)
	if p.gone {
		return
	}
	p.post(t, messages...)
	p.wakeUp()
}

// post numbers results. The caller holds the lock, and wakes the sender.
func (p *peer) post(t *part, messages ...*pb.Result) {
	number := p.known + uint64(len(p.results))
	total := int64(0)
	for _, m := range messages {
		number++
		m.Number = number
		if len(m.GetNotDone())+len(m.GetOutput().GetOrigins())+len(m.GetDead()) > 0 {
			m.Flow = t.flow.name
		}
		r := result{
			message: &pb.WorkerMessage{Kind: &pb.WorkerMessage_Result{Result: m}},
			number:  number, part: t, bytes: int64(proto.Size(m)), last: m.GetLast(),
		}
		for _, ended := range slices.Concat(m.GetFinished(), m.GetReturned()) {
			r.rows += int64(ended.GetCount())
		}
		p.results = append(p.results, r)
		total += r.bytes
	}
	t.account.holdOutput(total, false)
	p.server.metrics.resultsKept.Add(float64(len(messages)))
}

// acknowledge forgets results that the coordinator has.
func (p *peer) acknowledge(number uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acknowledged(number)
}

// acknowledged is acknowledge for callers that hold the lock.
func (p *peer) acknowledged(number uint64) error {
	switch {
	case p.gone:
		return errOvertaken
	case number <= p.known:
		return nil
	case number > p.sent:
		return batch.Errorf(batch.CodeBadMessage, "result %d is acknowledged, and the last one sent was %d: the coordinator is defective", number, p.sent)
	}
	n := int(number - p.known)
	for i := range p.results[:n] {
		r := &p.results[i]
		r.part.account.releaseOutput(r.bytes)
		if r.heard != nil {
			close(r.heard)
		}
		r.part.free(amount{rows: r.rows})
		if r.last {
			r.part.free(amount{rows: r.part.size.rows})
			delete(p.parts, r.part.number)
			p.server.metrics.partsHeld.Dec()
		}
		if c := p.credits[r.part.flow.name]; c != nil {
			c.due.Store(true)
		}
	}
	p.results = slices.Delete(p.results, 0, n)
	p.server.metrics.resultsKept.Sub(float64(n))
	p.known = number
	p.taken = max(p.taken, number)
	p.wakeUp()
	p.server.noteChange()
	return nil
}

// resultsSafely is results; a defect there fails the rows, and ends neither the lane nor the process.
func (s *server) resultsSafely(t *part, ended []flowexec.RunResult, last bool) (messages []*pb.Result) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		s.log.Error("defect: results panicked", "flow", t.flow.name, "panic", r, "stack", string(debug.Stack()))
		m := &pb.Result{Part: t.number, Last: last}
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
				for row := range uint32(t.size.rows) {
					fail(row)
				}
			}
		}
		messages = []*pb.Result{m}
	}()
	return s.results(t, ended, last)
}

// results turns what has ended of a part into messages: one, unless it is large or its output rows are encoded differently.
// With last the final one says by its silence that every row not mentioned is done.
func (s *server) results(t *part, ended []flowexec.RunResult, last bool) []*pb.Result {
	encoding := func(run flowexec.RunResult) string { return run.Output.Rows.Encoding }
	slices.SortStableFunc(ended, func(a, b flowexec.RunResult) int { return strings.Compare(encoding(a), encoding(b)) })
	var messages []*pb.Result
	limit := int64(min(s.config.ResultBytes, t.takes))
	for i := 0; i < len(ended); {
		n, bytes := i+1, made(&ended[i])
		for n < len(ended) && encoding(ended[n]) == encoding(ended[i]) {
			if bytes += made(&ended[n]); bytes > limit {
				break // what needs more than one message is not put together first
			}
			n++
		}
		messages = append(messages, s.gather(t, ended[i:n], last && n == len(ended))...)
		i = n
	}
	return messages
}

// gather makes one result of some runs, or splits it where it is large.
func (s *server) gather(t *part, ended []flowexec.RunResult, last bool) []*pb.Result {
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
	m := &pb.Result{Part: t.number, Returned: wire.FromRanges(wire.Ranges(returned)), Last: last}
	if size(all)+sizeOfDead(dead) > min(s.config.ResultBytes, t.takes) || len(all.Output.Rows.Data) > t.longest && longest(all.Output) > t.longest {
		return s.split(t, m, finished(t, ended), all, dead)
	}
	if !last {
		m.Finished = wire.FromRanges(finished(t, ended).ranges(0, uint32(t.size.rows)))
	}
	m.NotDone, m.Output = wire.FromRowOutcomes(all.NotDone), wire.FromOutput(all.Output)
	m.Dead = wire.FromDeadRows(dead)
	return []*pb.Result{m}
}

// rowSet has a bit for each row of a part.
type rowSet []uint64

// finished are the rows that have an outcome.
func finished(t *part, ended []flowexec.RunResult) rowSet {
	n := uint32(t.size.rows)
	set := make(rowSet, (n+63)/64)
	for _, run := range ended {
		if run.Rows == nil {
			for row := range n {
				set.add(row)
			}
		}
		for _, row := range run.Rows {
			set.add(row)
		}
	}
	for _, run := range ended {
		for _, row := range run.Returned {
			set.remove(row)
		}
	}
	return set
}

func (s rowSet) remove(row uint32)   { s[row/64] &^= 1 << (row % 64) }
func (s rowSet) add(row uint32)      { s[row/64] |= 1 << (row % 64) }
func (s rowSet) has(row uint32) bool { return s[row/64]&(1<<(row%64)) != 0 }

// ranges are the rows of the set from first to end-1.
func (s rowSet) ranges(first, end uint32) []batch.Range {
	var out []batch.Range
	for row := first; row < end; row++ {
		if row%64 == 0 && s[row/64] == 0 {
			row += 63
			continue
		}
		if !s.has(row) {
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
