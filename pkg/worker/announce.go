package worker

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Rows that may have killed a worker are announced before they run, so that their coordinator knows what the next death
// counts against; after two deaths they are to run with nothing beside them, in any lane of this process: see gate.

// aloneFrom is from how many deaths on.
const aloneFrom = 2

// heardTimeout bounds how long rows wait until it is known that they were announced.
const heardTimeout = time.Second

// enter is what lanes call before rows of the part run. It waits for room first, and at the gate then: who has room may be at
// the gate, and keeps nobody out there.
func (p *peer) enter(t *part) func(context.Context, []uint32) func() {
	gate := p.server.gate
	if t.deaths == 0 {
		return func(ctx context.Context, _ []uint32) func() {
			expected := t.account.tenant.enter(ctx)
			gate.begin(ctx, false)
			return func() {
				gate.end(false)
				t.account.tenant.leave(t, expected)
			}
		}
	}
	return func(ctx context.Context, rows []uint32) func() {
		var expected int64
		leave := func() { gate.end(true) }
		if t.deaths < aloneFrom || !gate.await(ctx) {
			expected = t.account.tenant.enter(ctx)
			gate.begin(ctx, true)
		} else {
			expected = p.enterAlone(ctx, t)
			leave = gate.give
		}
		if rows == nil {
			rows = everyRow(t)
		}
		p.announce(ctx, t, rows)
		return func() {
			p.withdraw(ctx, t, rows) // first: what runs next may kill the worker
			leave()
			t.account.tenant.leave(t, expected)
		}
	}
}

// enterAlone waits for room, and for the moment at which rows of the part may run alone. It has the turn.
func (p *peer) enterAlone(ctx context.Context, t *part) (expected int64) {
	gate, tenant := p.server.gate, t.account.tenant
	for {
		gate.rest(ctx)
		expected = tenant.enter(ctx)
		if gate.close(ctx) {
			return expected
		}
		tenant.leave(t, expected)
	}
}

// announce says that rows are about to run, and waits until the coordinator knows; not where there is no session, since a
// lane serves other coordinators too.
func (p *peer) announce(ctx context.Context, t *part, rows []uint32) {
	p.mu.Lock()
	if p.gone {
		p.mu.Unlock()
		return
	}
	if t.announced == nil {
		t.announced = make(rowSet, (t.size.rows+63)/64)
	}
	for _, row := range rows {
		t.announced.add(row)
	}
	p.post(t, &pb.Result{Part: t.number, Began: wire.FromRanges(wire.Ranges(rows))})
	heard := p.heard()
	p.mu.Unlock()
	p.wakeUp()
	p.await(ctx, heard)
}

// heard is closed when the coordinator has all results that there are, or never will. The caller holds the lock.
func (p *peer) heard() <-chan struct{} {
	if len(p.results) == 0 {
		return nil
	}
	newest := &p.results[len(p.results)-1]
	if newest.heard == nil {
		newest.heard = make(chan struct{})
	}
	return newest.heard
}

// await waits until results are heard; nil: they are.
func (p *peer) await(ctx context.Context, heard <-chan struct{}) {
	k := p.session.Load()
	if heard == nil || k == nil {
		return
	}
	timeout := time.NewTimer(heardTimeout)
	defer timeout.Stop()
	select {
	case <-heard:
	case <-k.over:
	case <-ctx.Done():
	case <-timeout.C:
	}
}

// withdraw says which of the rows have not ended, and run no more. Where they ran alone it waits until the coordinator knows
// that, and of those that have ended: else the next row, should it kill the worker, would count as their third death.
func (p *peer) withdraw(ctx context.Context, t *part, rows []uint32) {
	p.report(t) // those that have
	p.mu.Lock()
	if p.gone {
		p.mu.Unlock()
		return
	}
	var parked []uint32
	for _, row := range rows {
		if t.announced.has(row) {
			parked = append(parked, row)
			t.announced.remove(row)
		}
	}
	if len(parked) > 0 {
		p.post(t, &pb.Result{Part: t.number, Parked: wire.FromRanges(wire.Ranges(parked))})
	}
	var heard <-chan struct{}
	if t.deaths >= aloneFrom {
		heard = p.heard()
	}
	p.mu.Unlock()
	p.wakeUp()
	p.await(ctx, heard)
}

// endAnnounced takes the run's rows out of those that are announced. The caller holds the peer's lock.
func (t *part) endAnnounced(run flowexec.RunResult) {
	if t.announced == nil {
		return
	}
	if run.Rows == nil {
		clear(t.announced)
	}
	for _, row := range run.Rows {
		t.announced.remove(row)
	}
}
