package flowexec

import (
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// letters is the dead rows of a run, each as it entered the function in which it died. They become dead letters, if the part asks for them
// (Part.KeepDead). Their row numbers are numbers in the run.
type letters struct {
	run  *run
	rows []batch.DeadRow
}

// note keeps row i of rs, which ends with o in the current step, if o is dead and the part wants dead rows. If the row can't be kept, note
// sets o.NotKept.
func (l *letters) note(rs *rows.Set, i uint32, o *batch.RowOutcome) {
	r, x := l.run, l.run.x
	if r.part.KeepDead == 0 || o.Outcome != batch.Dead {
		return
	}
	if rs, i = rs.Ancestor(i, r.st.step.Index); rs == nil {
		return
	}
	note := func() {
		var why batch.NotKept
		l.rows, why = l.add(l.rows, rs, i, *o)
		if why != 0 {
			o.NotKept = why
		}
	}
	if !x.reader.RunsOwnCodeToWrite(rs) {
		note()
		return
	}
	now := r.st.rs
	r.st.rs = rs // the row whose code does not return is one of these
	if f := x.reading(int(i), int(i)+1, note); f != nil {
		o.NotKept = batch.Unwritable
	}
	r.st.rs = now
	x.renewAfterTimeout()
}

// add returns dead with row i of rs appended, and 0. If the row can't be kept, it returns dead as it is, and the reason.
func (l *letters) add(dead []batch.DeadRow, rs *rows.Set, i uint32, o batch.RowOutcome) ([]batch.DeadRow, batch.NotKept) {
	r := l.run
	data, encoding, err := r.x.reader.Entered(rs, i)
	switch {
	case err != nil:
		return dead, batch.Unwritable
	case len(data) > r.part.KeepDead:
		return dead, batch.TooLarge
	}
	s := r.st.step
	return append(dead, batch.DeadRow{
		Row: uint32(rs.Origins[i]), Function: s.Name, Use: uint32(slices.Index(r.plan.places[s.Name], s.Index)),
		Path: rows.At(rs.Paths, int(i)), Visit: rows.At(rs.Trips, int(i)), Code: o.Code, Reason: o.Reason, Attempts: o.Attempts,
		Encoding: encoding, Data: data,
	}), 0
}

// blame returns dead with row i of the current step appended, in which a function of an abandoned goroutine hangs. goesOn says that the
// function may still change the row. If the row can't be kept, for that or another reason, blame sets o.NotKept.
func (l *letters) blame(dead []batch.DeadRow, i int, goesOn bool, o *batch.RowOutcome) []batch.DeadRow {
	r, rs := l.run, l.run.st.rs
	if r.part.KeepDead == 0 {
		return dead
	}
	if goesOn && rs.Vec != nil && rs.Came == nil && rs.Born != r.part.Start {
		o.NotKept = batch.Held
		return dead
	}
	if r.x.reader.RunsOwnCodeToWrite(rs) && rs.Born != r.part.Start {
		o.NotKept = batch.Unwritable // nobody would watch over that code
		return dead
	}
	dead, o.NotKept = l.add(dead, rs, uint32(i), *o)
	return dead
}

// tell adds to the result those dead rows that were kept and whose outcome in the result is dead. Dead rows of the result that were not kept
// get the reason in their outcome's NotKept.
func (l *letters) tell(result *RunResult) {
	if l.run.part.KeepDead == 0 {
		return
	}
	whole := slices.ContainsFunc(l.rows, func(d batch.DeadRow) bool { return d.Row == batch.WholeBatch })
	kept := make(map[uint32]bool, len(l.rows))
	for _, d := range l.rows {
		if d.Row == batch.WholeBatch {
			d.Row = 0
		}
		d.Row = uint32(l.run.work.row(rows.RunRow(d.Row)))
		if at, ok := slices.BinarySearchFunc(result.NotDone, d.Row, byRow); ok && result.NotDone[at].Outcome == batch.Dead {
			kept[d.Row] = true
			result.Dead = append(result.Dead, d)
		}
	}
	for i := range result.NotDone {
		o := &result.NotDone[i]
		switch {
		case o.Outcome != batch.Dead || o.NotKept != 0 || kept[o.Row]:
		case whole:
			o.NotKept = batch.KeptOnce
		default:
			o.NotKept = batch.NothingLeft
		}
	}
}

// byRow compares the row of an outcome with row, for a binary search: the result is below 0, 0 or above 0.
func byRow(o batch.RowOutcome, row uint32) int { return int(o.Row) - int(row) }

// ofParcel returns those of the dead rows that come from input rows which have parked, with their numbers in the parcel. parked are the
// parcel's rows, ascending, by their numbers in the run's part.
func (l *letters) ofParcel(parked []rows.PartRow) (dead []batch.DeadRow) {
	for _, d := range l.rows {
		if at, ok := slices.BinarySearch(parked, l.run.work.row(rows.RunRow(d.Row))); ok {
			d.Row = uint32(at)
			dead = append(dead, d)
		}
	}
	return dead
}
