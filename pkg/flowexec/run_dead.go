package flowexec

import (
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// noteDead notes row i of rs, which ends dead in the current step, as it entered that, if the part asks for it. It says in the
// outcome why it can't.
func (r *run) noteDead(rs *rows.Set, i uint32, o *batch.RowOutcome) {
	if r.part.KeepDead == 0 || o.Outcome != batch.Dead {
		return
	}
	if rs, i = rs.Ancestor(i, r.step.Index); rs == nil {
		return
	}
	note := func() {
		var why batch.NotKept
		r.dead, why = r.appendDead(r.dead, rs, i, *o)
		if why != 0 {
			o.NotKept = why
		}
	}
	if !r.x.reader.RunsOwnCodeToWrite(rs) {
		note()
		return
	}
	now := r.now
	r.now = rs // of which the row is to blame that is never written
	if f := r.x.reading(int(i), int(i)+1, note); f != nil {
		o.NotKept = batch.Unwritable
	}
	r.now = now
	r.renewAfterTimeout()
}

// appendDead writes a dead row behind others, with its origin as its row, or says why it can't.
func (r *run) appendDead(dead []batch.DeadRow, rs *rows.Set, i uint32, o batch.RowOutcome) ([]batch.DeadRow, batch.NotKept) {
	data, encoding, err := r.x.reader.Entered(rs, i)
	switch {
	case err != nil:
		return dead, batch.Unwritable
	case len(data) > r.part.KeepDead:
		return dead, batch.TooLarge
	}
	return append(dead, batch.DeadRow{
		Row: uint32(rs.Origins[i]), Function: r.step.Name, Use: uint32(slices.Index(r.plan.places[r.step.Name], r.step.Index)),
		Path: rows.At(rs.Paths, int(i)), Visit: rows.At(rs.Trips, int(i)), Code: o.Code, Reason: o.Reason, Attempts: o.Attempts,
		Encoding: encoding, Data: data,
	}), 0
}

// blameDead notes rows that a goroutine which was left behind is to blame on. A function that goes on may still change what a
// function made for it.
func (r *run) blameDead(dead []batch.DeadRow, i int, goesOn bool, o *batch.RowOutcome) []batch.DeadRow {
	rs := r.now
	if r.part.KeepDead == 0 {
		return dead
	}
	if goesOn && rs.Vec != nil && rs.Came == nil && rs.Born != r.part.Start {
		o.NotKept = batch.Held
		return dead
	}
	if r.x.reader.RunsOwnCodeToWrite(rs) && rs.Born != r.part.Start {
		o.NotKept = batch.Unwritable // nobody would watch over it
		return dead
	}
	dead, o.NotKept = r.appendDead(dead, rs, uint32(i), *o)
	return dead
}

// tellDead puts those of the rows noted into the result that ended dead in it. A dead row of which none was noted says why.
func (r *run) tellDead(result *RunResult) {
	if r.part.KeepDead == 0 {
		return
	}
	whole := slices.ContainsFunc(r.dead, func(d batch.DeadRow) bool { return d.Row == batch.WholeBatch })
	noted := make(map[uint32]bool, len(r.dead))
	for _, d := range r.dead {
		if d.Row == batch.WholeBatch {
			d.Row = 0
		}
		d.Row = uint32(r.work.row(rows.RunRow(d.Row)))
		if at, ok := slices.BinarySearchFunc(result.NotDone, d.Row, byRow); ok && result.NotDone[at].Outcome == batch.Dead {
			noted[d.Row] = true
			result.Dead = append(result.Dead, d)
		}
	}
	for i := range result.NotDone {
		o := &result.NotDone[i]
		switch {
		case o.Outcome != batch.Dead || o.NotKept != 0 || noted[o.Row]:
		case whole:
			o.NotKept = batch.KeptOnce
		default:
			o.NotKept = batch.NothingLeft
		}
	}
}

func byRow(o batch.RowOutcome, row uint32) int { return int(o.Row) - int(row) }

// parkDead is those of the rows noted that belong to parked ones, whose places in their part these are. They count in the parcel then.
func (r *run) parkDead(parked []rows.PartRow) (held []batch.DeadRow) {
	for _, d := range r.dead {
		if at, ok := slices.BinarySearch(parked, r.work.row(rows.RunRow(d.Row))); ok {
			d.Row = uint32(at)
			held = append(held, d)
		}
	}
	return held
}
