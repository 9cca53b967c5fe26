package flowexec

import (
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// parking is the rows of a run that have parked, and the keys that later rows may not overtake. A row of a run with keys parks if it waits: for the
// next attempt, for the key of a Load, or for its connector. Rows of its key that come later in the run park behind it. When the run ends they are
// packed into a parcel (run_pack.go), which the lane keeps until they are to go on.
type parking struct {
	run    *run
	groups map[uint64]*parkingGroup // the groups by key; nil means that no row has parked
	sets   [][]*rows.Set            // the parked rows, by the step that they enter next
}

// parkingGroup is the parked rows of one key in a run that has not ended.
type parkingGroup struct {
	key uint64
	// first is the input row that waits. Behind it, and not to go on either, are the rows of the key that come from later input rows, and those rows
	// of the set in that come from first.
	first rows.RunRow
	in    *rows.Set
	// due is when the group goes on at the latest, by the clock of the lanes. It goes on earlier when one of these happens: the key that it wants is
	// saved, something is saved in its connector, or ask is answered. wantedKey is "", and saveWait or ask is nil, if the group does not wait for
	// that.
	due       time.Duration
	wantedKey string
	saveWait  *saveWait
	ask       *ask
	step      int              // the step that the waiting row enters next
	rows      []rows.ParcelRow // its rows by their numbers in the parcel; set when the run is packed
}

// any reports whether rows have parked.
func (p *parking) any() bool { return p.groups != nil }

// group returns the parked group of an input row's key, and makes it if there is none: origin is then the first row that waits.
func (p *parking) group(origin rows.RunRow) *parkingGroup {
	if p.groups == nil {
		p.groups, p.sets = make(map[uint64]*parkingGroup), make([][]*rows.Set, len(p.run.plan.steps))
	}
	key := p.run.work.key(origin)
	g := p.groups[key]
	if g == nil {
		g = &parkingGroup{key: key, due: never, first: origin}
		p.groups[key] = g
	}
	return g
}

// behind reports whether row i of rs may not go on, because an earlier row of its key has parked.
func (p *parking) behind(rs *rows.Set, i int) bool {
	if p.groups == nil || rs.Origins[i] == rows.WholeBatch {
		return false
	}
	g := p.groups[p.run.work.key(rs.Origins[i])]
	return g != nil && (rs.Origins[i] > g.first || rs.Origins[i] == g.first && rs == g.in)
}

// add adds parked rows, which enter the given step when they go on.
func (p *parking) add(rs *rows.Set, step int) { p.sets[step] = append(p.sets[step], rs) }

// park parks row i of st.rs as the row of its key that waits, until h.due at the latest, and returns the key's group. Rows of a key park behind
// each other, or in descending order of their input rows.
func (st *stepRun) park(i int, h hold) *parkingGroup {
	g := st.run.parking.group(st.rs.Origins[i])
	g.first, g.in = st.rs.Origins[i], st.rs
	g.due, g.wantedKey, g.saveWait, g.ask, g.step = h.due, "", nil, nil, st.step.Index
	st.parkBehind(i, h)
	return g
}

// parkBehind parks row i of st.rs, whose key has a parked group already: row i is behind the row that waits, or is that row itself.
func (st *stepRun) parkBehind(i int, h hold) {
	st.parked = append(st.parked, parkedRow{uint32(i), h, nil})
	st.gone = append(st.gone, uint32(i))
}

// parkAll parks all rows of st.rs with the hold h, but for those that are gone already.
func (st *stepRun) parkAll(h hold) {
	gone := slices.Clip(st.gone)
	for i := range st.rs.Len() {
		if _, is := slices.BinarySearch(gone, uint32(i)); is {
			continue
		}
		if st.run.parking.behind(st.rs, i) {
			st.parkBehind(i, h)
		} else {
			st.park(i, h)
		}
	}
	slices.Sort(st.gone)
}

// mayEnter parks the rows of rs that are behind parked ones, or that wait for an attempt whose time has not come. It returns the others.
func (st *stepRun) mayEnter(rs *rows.Set) *rows.Set {
	if !st.run.parking.any() && rs.Along == nil || !st.run.keyed {
		return rs
	}
	now := st.x.lane.lanes.clock.now()
	began := now - st.x.heldUp
	st.asking.chargeKept(rs, now)
	for i := range rs.Len() {
		if holdOf(rs, i).load && st.step.form == kis.FormFaaS {
			if i == 0 || rs.Origins[i] != rs.Origins[i-1] { // the outputs of one row wait together
				st.run.budgets.charge(rs.Origins[i], max(0, began-alongOf(rs).holds[i].due))
			}
			alongOf(rs).holds[i].due = now
		}
		switch h := holdOf(rs, i); {
		case keptOf(rs, i) != nil: // its step asks for it
		case st.run.parking.behind(rs, i):
			st.parkBehind(i, h)
		case !h.load && h.due > now:
			st.park(i, h)
		}
	}
	if len(st.gone) == 0 {
		return rs
	}
	st.sendParked(rs)
	left := st.x.mem.Keep(rs, st.gone)
	st.gone = st.gone[:0]
	return left
}
