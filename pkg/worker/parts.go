package worker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/keyslot"
	"github.com/kisgrid/kisgrid/internal/tracing"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// takePart acts on a Part message: it checks the rows, charges them to the flow's credit, and gives them to the lanes. An
// error ends the session; it means that the coordinator broke the protocol.
//
//  1. A part that this worker has already, from the session before, is skipped.
//  2. Rows of a revision that does not compile here end as failed, at once.
//  3. Rows that come while the worker drains are handed back, at once.
//  4. All other rows go to the lanes of their flow.
func (sess *session) takePart(m *pb.Part) error {
	p, s := sess.peer, sess.server
	size := amount{int64(len(m.GetColumns().GetEnds())), int64(len(m.GetColumns().GetData()))}

	if m.GetNumber() == 0 {
		return batch.Errorf(batch.CodeBadMessage, "a part has no number: the coordinator is defective")
	}
	key, err := readRevision(m.GetFlow(), m.GetRevision(), m.GetDigest())
	if err != nil {
		return err
	}
	// Find the plan and the lanes that run the part.
	plan, flow, again := p.planFor(m, key, size)
	switch {
	case again:
		pointPartAgain.Hit()
		s.metrics.partsRepeated.Inc()
		p.wakeUp()
		return nil
	case flow == nil:
		return batch.Errorf(batch.CodeBadMessage, "part %d needs revision %d of flow %s: this session has not defined the revision, or no revision of the flow compiles in this worker: "+
			"the coordinator is defective",
			m.GetNumber(), m.GetRevision(), m.GetFlow())
	}
	work, err := s.readPart(m, plan.compiled)
	if err != nil {
		return batch.Errorf(batch.CodeBadMessage, "part %d of flow %s: %w", m.GetNumber(), m.GetFlow(), err)
	}
	part := &heldPart{Part: work, number: m.GetNumber(), flow: flow, size: size, received: time.Now(), deaths: m.GetDeaths(), maxOutputPerRow: p.maxOutputPerRow, maxOutputRow: p.maxOutputPerRow, openRows: int(size.rows)}
	// The lanes of package flowexec call the functions below: Enter before a run begins, Grow and Piece while it makes output, Done
	// when it has ended.
	if limit := int(m.GetOutputRowBytes()); limit > 0 {
		part.maxOutputRow = min(limit, part.maxOutputRow)
	}
	if m.GetKeepDead() {
		work.KeepDead = part.maxOutputPerRow
	}
	s.startSpan(part, m)
	work.OneByOne = part.deaths >= aloneFrom
	work.Enter = p.enter(part)
	work.Grow = func(ctx context.Context) { part.account.output.grow(ctx, part) }
	work.Piece = func(ctx context.Context, bytes, left int64) { part.account.output.waitToSend(ctx, part, bytes, left) }
	work.Done = func(run flowexec.RunResult) { p.runEnded(part, run) }
	if err := p.holdPart(part); err != nil {
		tracing.End(part.span, err)
		return err
	}
	s.metrics.partsReceived.Inc()
	s.metrics.partsHeld.Inc()
	p.wakeUp()

	if plan.compiled == nil { // the rows fail at once
		pointUncompilable.Hit()
		p.addEnded(part, flowexec.RunResult{Part: work, NotDone: uncompilable(part, plan)})
		p.report(part)
		return nil
	}
	if s.draining.Load() {
		// The coordinator has not read the message Draining yet. It must come before this part's result, so that the rows are
		// not sent to this worker again.
		p.mu.Lock()
		sess.enqueueDraining()
		p.mu.Unlock()
		pointPartDraining.Hit()
		p.addEnded(part, flowexec.RunResult{Part: work, Returned: everyRow(part)})
		p.report(part)
		return nil
	}
	s.flows.keepConnectors(plan) // also for a recalled revision, once rows run on it
	s.flows.enqueue(part.flow, work)
	return nil
}

// startSpan begins the part's span, as a child of the span in the message. It does nothing when nobody traces.
func (s *server) startSpan(part *heldPart, m *pb.Part) {
	if s.config.Tracer == nil {
		return
	}
	_, part.span = s.config.Tracer.Start(tracing.Extract(context.Background(), m.GetTraceParent()), "worker part "+part.flow.name,
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
			tracing.Flow.String(part.flow.name), tracing.Revision.Int64(m.GetRevision()), tracing.Worker.String(s.workerID()), tracing.Part.Int64(int64(part.number)),
			tracing.Rows.Int64(part.size.rows), tracing.Deaths.Int64(int64(part.deaths))))
	part.Trace = part.span.SpanContext()
}

// uncompilable returns the outcome failed for every row of a part. It is for a batch that began on a revision that no living
// worker can compile any more.
func uncompilable(part *heldPart, plan *plan) []batch.RowOutcome {
	reason := fmt.Sprintf("the batch began on revision %d of the flow, which no living worker can run (%s): submit the batch again when a worker can, or find out which rows have had their effects, and submit only the others",
		plan.key.revision.Number, strings.Join(plan.mistakes, "; "))
	failed := make([]batch.RowOutcome, part.size.rows)
	for i := range failed {
		failed[i] = batch.RowOutcome{Row: uint32(i), Outcome: batch.Failed, Code: batch.CodeNoCapableWorker, Reason: reason}
	}
	return failed
}

// planFor finds the plan and the lanes for a part. again is true if this worker has the part already; then planFor only takes
// the part's size off the flow's credit. flow is nil if the coordinator was not allowed to send the part. The plan may be one
// that does not compile in this worker.
func (p *peer) planFor(m *pb.Part, key revisionKey, size amount) (plan *plan, flow *flow, again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.GetNumber() > p.lastPart {
		plan = p.plans[key]
		switch {
		case plan == nil:
			return nil, nil, false
		case plan.flow != nil:
			return plan, plan.flow, false
		}
		// This revision does not compile here. Credit belongs to the flow, so another revision compiles and has the lanes.
		for key, other := range p.plans {
			if key.flow == m.GetFlow() && other.flow != nil {
				return plan, other.flow, false
			}
		}
		return plan, nil, false
	}
	if c := p.credits[m.GetFlow()]; c != nil {
		c.skip(size)
		c.look()
	}
	return nil, nil, true
}

// holdPart makes the part one of the peer's parts and charges its rows and bytes to the flow's credit. It fails when the
// credit was used up before, and when the peer was dropped.
func (p *peer) holdPart(part *heldPart) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.credits[part.flow.name]
	if p.dropped || c == nil {
		return errReplaced
	}
	if !c.spend(part.size) {
		pointNoCredit.Hit()
		return batch.Errorf(batch.CodeBadMessage, "part %d of flow %s came although the flow's credit was used up: the coordinator is defective", part.number, part.flow.name)
	}
	part.account, part.charged = c.account, part.size
	p.lastPart = part.number
	p.parts[part.number] = part
	c.look()
	return nil
}

// readPart checks a Part message and makes the part that lanes run. Row numbers are checked here, so that code behind it can
// use them as indexes. A nil plan means that the part will not run.
func (s *server) readPart(m *pb.Part, plan *flowexec.Plan) (*flowexec.Part, error) {
	columns := wire.ToColumns(m.GetColumns())
	if err := columns.Check(s.config.Limits); err != nil {
		return nil, err
	}
	id, err := wire.ToID(m.GetBatch())
	if err != nil {
		return nil, err
	}
	n, rows := columns.Len(), m.GetRows()
	switch {
	case plan == nil: // the part will not run, so its keys don't matter
	case plan.ShardKey() == "":
		columns.Keys = nil // without a shard key the batch is not split by lane, even where the client has sent hashes
	case len(columns.Keys) == 0:
		return nil, batch.Errorf(batch.CodeMissingKeys, "the flow has the shard key %s, and the rows came without hashes of their keys", plan.ShardKey())
	}
	log, err := wire.ToPositions(m.GetLog(), &columns)
	if err != nil {
		return nil, err
	}
	// rows says which place each row of the part has in its batch. Without rows the part is the whole batch.
	switch {
	case len(rows) == 0 && int(m.GetBatchRows()) != n:
		return nil, batch.Errorf(batch.CodeBadMessage, "the part has %d rows and is the whole batch, but the batch has %d rows", n, m.GetBatchRows())
	case len(rows) == 0:
		rows = nil
	case len(rows) != n:
		return nil, batch.Errorf(batch.CodeBadMessage, "the part has places in the batch for %d rows, and it has %d rows", len(rows), n)
	case int64(rows[n-1]) >= int64(m.GetBatchRows()):
		return nil, batch.Errorf(batch.CodeBadMessage, "the part has row %d of a batch with %d rows", rows[n-1], m.GetBatchRows())
	case !ascending(rows):
		return nil, batch.Errorf(batch.CodeBadMessage, "the row numbers of the part do not ascend")
	}
	work := &flowexec.Part{
		Plan: plan, Batch: id, BatchRows: int(m.GetBatchRows()), Rows: rows, Columns: columns,
		Output: m.GetOutput(), Attempt: int(m.GetDeaths()) + 1, Floor: m.GetFloor(), Log: log,
	}
	// Messages have times as durations, since the clocks of two machines may differ.
	now := time.Now()
	work.Born = now.Add(-wire.Duration(m.GetAgeMilliseconds()))
	if start := m.GetStart(); start != "" && plan != nil {
		var ok bool
		if work.Start, ok = plan.Place(start, int(m.GetStartUse())); !ok {
			return nil, batch.Errorf(batch.CodeBadMessage, "the part begins at a use of function %s that the flow does not have: the coordinator is defective", start)
		}
	}
	if ms := m.GetDeadlineMilliseconds(); ms > 0 {
		work.Deadline = now.Add(wire.Duration(ms))
	}
	return work, nil
}

// ascending reports whether each number in rows is greater than the one before it.
func ascending(rows []uint32) bool {
	for i := 1; i < len(rows); i++ {
		if rows[i] <= rows[i-1] {
			return false
		}
	}
	return true
}

// handBack acts on a Release message: the flow's rows in the slots that the message names go back to the coordinator if they
// have not begun. The coordinator sends them to another worker.
func (sess *session) handBack(m *pb.Release) error {
	ranges, err := wire.ToRanges(m.GetSlots(), keyslot.Count)
	if err != nil {
		return err
	}
	if len(ranges) > 0 {
		pointHandBack.Hit()
		sess.peer.handBack(m.GetFlow(), ranges)
	}
	return nil
}
