package flowexec

import (
	"time"

	"github.com/kisgrid/kisgrid/internal/behindfailed"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// behindFailed reports whether an input row of the run stands in a log behind a failed row of its key. Then it ends the row as failed, so that
// the row does not take effect before the other one.
func (r *run) behindFailed(origin rows.RunRow) bool {
	if r.part.Log == nil || !r.keyed {
		return false
	}
	at := r.work.in.columns.Positions[r.work.row(origin)]
	failed, held := r.x.lane.lanes.failed.Begin(r.plan.flow, r.part.Log, r.work.key(origin), at)
	if held {
		pointBehindFailed.Hit()
		r.ledger.end(origin, behindfailed.Outcome(uint32(origin), failed))
	}
	return held
}

// withoutBehindFailed returns rs without the rows that behindFailed ends.
func (r *run) withoutBehindFailed(rs *rows.Set) *rows.Set {
	if r.part.Log == nil || !r.keyed {
		return rs
	}
	var gone []uint32
	for i, origin := range rs.Origins {
		if r.behindFailed(origin) {
			gone = append(gone, uint32(i))
		}
	}
	return r.x.mem.Keep(rs, gone)
}

// noteFailed notes the failed rows of the run, if they stand in a log, so that rows of their keys behind them do not begin.
func (r *run) noteFailed() {
	if r.part.Log == nil || !r.keyed {
		return
	}
	for i := range r.ledger.notDone {
		if o := &r.ledger.notDone[i]; o.Outcome == batch.Failed && o.Code != batch.CodeBehindFailed {
			row := r.work.row(rows.RunRow(o.Row))
			r.x.lane.lanes.failed.Failed(r.plan.flow, r.part.Log, r.work.in.columns.Keys[row], r.work.in.columns.Positions[row], time.Now())
		}
	}
}
