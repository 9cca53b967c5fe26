package flowexec

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// verdicts says which rows do not go on from a step to the next, and what becomes of them. Rows are places in the set that the function was called
// for. The lists are used again for the next step.
type verdicts struct {
	// gone are all rows that do not go on, in ascending order: those that jump or park, and those that have ended.
	gone   []uint32
	jumps  []jump
	parked []parkedRow
}

// jump is a row that goes to another step than the next: row is its place in the step's set, step the place of the other step.
type jump struct {
	row  int
	step int
}

// parkedRow is a row that parks in the current step, with what it remembers until it goes on.
type parkedRow struct {
	row  uint32
	hold hold
	kept *kept // what the row remembers while it waits for its connector; nil if it does not wait for that
}

// reset empties the lists of verdicts.
func (v *verdicts) reset() { v.gone, v.jumps, v.parked = v.gone[:0], v.jumps[:0], v.parked[:0] }

// isGone reports whether a row does not go on to the next step.
func (v *verdicts) isGone(row uint32) bool {
	_, gone := slices.BinarySearch(v.gone, row)
	return gone
}

// end ends row i of rs in the current step with o: it records the outcome, and keeps the row for a dead letter if o is dead.
func (st *stepRun) end(rs *rows.Set, i uint32, o batch.RowOutcome) {
	o.Function = st.step.Name
	if o.Outcome == batch.Dead {
		st.counts().died()
	}
	if st.run.tapping != nil {
		st.run.tapping.ended(rs, i, o)
	}
	st.run.letters.note(rs, i, &o)
	st.run.ledger.end(rs.Origins[i], o)
}

// lose ends row i of st.rs with o, and notes that it does not go on. The caller loses rows in ascending order.
func (st *stepRun) lose(i int, o batch.RowOutcome) {
	st.end(st.rs, uint32(i), o)
	st.gone = append(st.gone, uint32(i))
}

// send sends the rows of rs to where they go. The rows in next, which were made of rs, go to the next step; nil means that there are none. The
// verdicts say where the other rows go, unless they have ended.
func (st *stepRun) send(rs, next *rows.Set) {
	if next != nil {
		st.run.queue(next, st.step.Index+1)
	}
	st.sendJumps(rs)
	st.sendParked(rs)
}

// queue has rows wait for a step, to enter it next. An empty set is left out, unless it is Forced.
func (r *run) queue(rs *rows.Set, step int) {
	rs.Along, rs.Came = nil, nil // they were for the step before
	if r.tapping != nil {
		r.tapping.queued(rs, step)
	}
	if rs.Len() > 0 || rs.Forced {
		r.waiting[step] = append(r.waiting[step], rs)
	}
}

// lineageAdvice is the end of errors about lost lineage. It says how a function keeps the lineage of its rows.
const lineageAdvice = "name the origins with kis.From(ctx).Origins or flow.From, pass the same pointers on, or as many rows as were given"

// sendJumps sends each row of rs that jumps to the step of its jump. A row that jumps back goes as it was when it came to that step. If that is
// not known, because its lineage is lost, it ends as dead.
func (st *stepRun) sendJumps(rs *rows.Set) {
	if len(st.jumps) == 0 {
		return
	}
	type group struct {
		from   *rows.Set
		target int
	}
	var groups []group
	places, trips, jumped := make(map[group][]uint32), make(map[group][]uint32), make(map[group][]uint32)
	for _, j := range st.jumps {
		if st.run.tapping != nil {
			st.run.tapping.jumped(rs, j.row, st.run.plan.steps[j.step].Name)
		}
		from, row := rs, uint32(j.row)
		if j.step <= st.step.Index {
			from, row = rs.Ancestor(row, j.step)
		}
		if from == nil {
			st.end(rs, uint32(j.row), batch.RowOutcome{Outcome: batch.Dead, Code: batch.CodeLineageLost, Attempts: 1,
				Reason: fmt.Sprintf("the row jumps back to %s, but nobody can say what it was there: %s",
					st.run.plan.steps[j.step].Name, lineageAdvice)})
			continue
		}
		g := group{from, j.step}
		if places[g] == nil {
			groups = append(groups, g)
		}
		places[g] = append(places[g], row)
		trips[g], jumped[g] = append(trips[g], rows.At(rs.Trips, j.row)+1), append(jumped[g], uint32(j.row))
	}
	for _, g := range groups {
		sub := st.x.mem.Subset(g.from, places[g], g.target)
		if st.run.plan.steps[g.target].Changes {
			sub = st.x.mem.AsCame(g.from, places[g], g.target)
		}
		sub.Trips, sub.Paths = trips[g], rows.Pick(rs.Paths, jumped[g]) // rows that came of one jump back as several
		st.run.queue(sub, g.target)
	}
}

// sendParked gives the rows that park to the run's parking, until the run ends.
func (st *stepRun) sendParked(rs *rows.Set) {
	if len(st.parked) == 0 {
		return
	}
	if st.run.tapping != nil {
		st.run.tapping.parked(rs, st.parked)
	}
	places := st.x.mem.Numbers(len(st.parked))
	holds := make([]hold, len(places))
	var keeps []*kept
	for i, p := range st.parked {
		places[i], holds[i] = p.row, p.hold
		if p.kept != nil {
			if keeps == nil {
				keeps = make([]*kept, len(places))
			}
			keeps[i] = p.kept
		}
	}
	sub := st.x.mem.Subset(rs, places, rs.Born)
	if came := sub.Came; came != nil {
		for i := range places {
			if keeps == nil || keeps[i] == nil { // its function is to be called
				sub.Vec.Slice().Index(i).Set(came.Slice().Index(i))
			}
		}
	}
	sub.Along, sub.Came = &along{holds, keeps}, nil
	st.run.parking.add(sub, st.step.Index)
	st.parked = st.parked[:0]
}

// halt ends the run: all rows that have not ended get the outcome o, those of the current step and those that wait for other steps. Rows that have
// parked stay parked.
func (st *stepRun) halt(o batch.RowOutcome) {
	r := st.run
	r.halted = true
	r.turns.forgo()
	st.sendParked(st.rs)
	o.Function = cmp.Or(o.Function, st.step.Name)
	if r.tapping != nil {
		r.tapping.ends(o)
	}
	for i, origin := range st.rs.Origins {
		if !st.isGone(uint32(i)) {
			r.ledger.end(origin, o)
		}
	}
	for _, j := range st.jumps {
		r.ledger.end(st.rs.Origins[j.row], o)
	}
	for _, origin := range st.rs.Behind {
		r.ledger.end(origin, o)
	}
	o.Function = ""
	for _, sets := range r.waiting[:len(r.plan.steps)] {
		for _, rs := range sets {
			for _, origin := range slices.Concat(rs.Origins, rs.Behind) {
				r.ledger.end(origin, o)
			}
		}
	}
}

// blameOn notes err for RunResult.Err, if it is the first error that ends rows of the run.
func (r *run) blameOn(err error) {
	if r.cause == nil {
		r.cause = err
	}
}
