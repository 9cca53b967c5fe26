package worker

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/internal/wire"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Rows that may have killed a worker are announced before they run, so that their coordinator knows what the next death
// counts against; after two deaths they are to run with nothing beside them, in any lane of this process: see gate.

// aloneFrom is from how many deaths on.
const aloneFrom = 2

// heardTimeout bounds how long rows wait until it is known that they were announced.
const announceTimeout = time.Second

// enter is what lanes call before rows of the part run. It waits for room first, and at the gate then: who has room may be at
// the gate, and keeps nobody out there.
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
			p.withdraw(ctx, part, rows) // first: what runs next may kill the worker
			leave()
			part.account.output.endRun(part, expected)
		}
	}
}

// enterAlone waits for room, and for the moment at which rows of the part may run alone. It has the turn.
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

// announce says that rows are about to run, and waits until the coordinator knows; not where there is no session, since a
// lane serves other coordinators too.
func (p *peer) announce(ctx context.Context, part *heldPart, rows []uint32) {
	p.mu.Lock()
	if p.dropped {
		p.mu.Unlock()
		return
	}
	if part.announced == nil {
		part.announced = bitset.New(int(part.size.rows))
	}
	for _, row := range rows {
		part.announced.Add(row)
	}
	p.numberResults(part, &pb.Result{Part: part.number, Began: wire.FromRanges(wire.Ranges(rows))})
	heard := p.newestAcknowledged()
	p.mu.Unlock()
	p.wakeUp()
	p.awaitAcknowledged(ctx, heard)
}

// heard is closed when the coordinator has all results that there are, or never will. The caller holds the lock.
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

// await waits until results are heard; nil: they are.
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
	}
}

// withdraw says which of the rows have not ended, and run no more. Where they ran alone it waits until the coordinator knows
// that, and of those that have ended: else the next row, should it kill the worker, would count as their third death.
func (p *peer) withdraw(ctx context.Context, part *heldPart, rows []uint32) {
	p.report(part) // those that have
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
		p.numberResults(part, &pb.Result{Part: part.number, Parked: wire.FromRanges(wire.Ranges(parked))})
	}
	var heard <-chan struct{}
	if part.deaths >= aloneFrom {
		heard = p.newestAcknowledged()
	}
	p.mu.Unlock()
	p.wakeUp()
	p.awaitAcknowledged(ctx, heard)
}
