package worker

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/internal/ranges"
	"github.com/kisgrid/kisgrid/internal/wire"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// A row may crash the process that runs it. After a worker has died, its unanswered rows are suspects: the next worker announces
// them to the coordinator before they run, so that a second death counts against these rows alone. A row with two deaths runs
// with nothing beside it in the whole process (see gate), so that a third death proves that this row is the cause.

// aloneFrom is the number of worker processes that must have died while they ran a row before the row runs with nothing beside
// it.
const aloneFrom = 2

// announceTimeout limits how long rows wait until the coordinator has acknowledged their announcement.
const announceTimeout = time.Second

// enter returns the function that lanes call before rows of the part run, and that blocks until they may run. The function
// returns a second one, which lanes call after the run. The number of workers that died while they ran these rows decides:
//
//	deaths  the run waits for                                  announced to the coordinator
//	0       memory for its output, then the gate               no
//	1       memory for its output, then the gate               yes
//	2       its turn at the gate, memory, nothing else running yes
//
// Memory comes before the gate, because a run that waits for memory in front of the gate keeps no other run out.
func (p *peer) enter(part *heldPart) func(context.Context, []uint32) func() {
	gate := p.server.gate
	if part.deaths == 0 {
		return func(ctx context.Context, _ []uint32) func() {
			expected := part.account.output.beginRun(ctx)
			gate.begin(ctx, false)
			return func() {
				gate.end(false)
				part.account.output.endRun(part, expected)
			}
		}
	}
	return func(ctx context.Context, rows []uint32) func() {
		var expected int64
		leave := func() { gate.end(true) }
		if part.deaths < aloneFrom || !gate.takeTurn(ctx) {
			expected = part.account.output.beginRun(ctx)
			gate.begin(ctx, true)
		} else {
			expected = p.enterAlone(ctx, part)
			leave = gate.returnTurn
		}
		if rows == nil {
			rows = everyRow(part)
		}
		p.announce(ctx, part, rows)
		return func() {
			p.withdraw(ctx, part, rows) // before leave lets the next run begin, which may kill the worker
			leave()
			part.account.output.endRun(part, expected)
		}
	}
}

// enterAlone blocks until there is memory for the output of the run and the gate lets it run with nothing beside it, or ctx
// is done. The caller has the turn of the gate. enterAlone returns the expected output in bytes, with which
// outputAccount.endRun must be called after the run.
func (p *peer) enterAlone(ctx context.Context, part *heldPart) (expected int64) {
	gate, tenant := p.server.gate, part.account.output
	for {
		gate.waitToClose(ctx)
		expected = tenant.beginRun(ctx)
		if gate.closeForAlone(ctx) {
			return expected
		}
		tenant.endRun(part, expected)
	}
}

// announce tells the coordinator which rows are about to run, and blocks until it has acknowledged that, for announceTimeout
// at most. When the worker dies in this run, the coordinator knows which rows the death counts against. announce does not
// wait while the coordinator has no session, or when ctx is done: the lane serves other coordinators too.
func (p *peer) announce(ctx context.Context, part *heldPart, rows []uint32) {
	p.mu.Lock()
	if p.dropped {
		p.mu.Unlock()
		return
	}
	pointAnnounced.Hit()
	if part.announced == nil {
		part.announced = bitset.New(int(part.size.rows))
	}
	for _, row := range rows {
		part.announced.Add(row)
	}
	p.numberResults(part, &pb.Result{Part: part.number, Began: wire.FromRanges(ranges.Of(rows))})
	heard := p.newestAcknowledged()
	p.mu.Unlock()
	p.wakeUp()
	p.awaitAcknowledged(ctx, heard)
}

// newestAcknowledged returns a channel that is closed when the coordinator has acknowledged every result up to now, or is
// forgotten. nil means that it has acknowledged all of them already. The caller holds p.mu.
func (p *peer) newestAcknowledged() <-chan struct{} {
	if len(p.results) == 0 {
		return nil
	}
	newest := &p.results[len(p.results)-1]
	if newest.acknowledged == nil {
		newest.acknowledged = make(chan struct{})
	}
	return newest.acknowledged
}

// awaitAcknowledged blocks until the channel of newestAcknowledged is closed, the session ends, ctx is done, or
// announceTimeout is over. It returns at once if the channel is nil or the peer has had no session.
func (p *peer) awaitAcknowledged(ctx context.Context, heard <-chan struct{}) {
	sess := p.session.Load()
	if heard == nil || sess == nil {
		return
	}
	timeout := time.NewTimer(announceTimeout)
	defer timeout.Stop()
	select {
	case <-heard:
	case <-sess.ended:
	case <-ctx.Done():
	case <-timeout.C:
		pointUnheard.Hit()
	}
}

// withdraw tells the coordinator which announced rows have stopped running without an end, because they are parked. For rows
// that had to run alone it also blocks until the coordinator has acknowledged that, as awaitAcknowledged does. Otherwise the
// death of the worker in the next run would count against them.
func (p *peer) withdraw(ctx context.Context, part *heldPart, rows []uint32) {
	p.report(part) // results of rows that have ended
	p.mu.Lock()
	if p.dropped {
		p.mu.Unlock()
		return
	}
	var parked []uint32
	for _, row := range rows {
		if part.announced.Has(row) {
			parked = append(parked, row)
			part.announced.Remove(row)
		}
	}
	if len(parked) > 0 {
		pointWithdrawn.Hit()
		p.numberResults(part, &pb.Result{Part: part.number, Parked: wire.FromRanges(ranges.Of(parked))})
	}
	var heard <-chan struct{}
	if part.deaths >= aloneFrom {
		heard = p.newestAcknowledged()
	}
	p.mu.Unlock()
	p.wakeUp()
	p.awaitAcknowledged(ctx, heard)
}
