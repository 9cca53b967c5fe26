package flowexec

import (
	"math"
	"slices"
	"sort"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// This file is how rows of a run with keys are set aside. One row parks, because it waits for a retry or for a Load; what
// its key has behind it in the run goes with it, to stay behind it. At the end of the run they are packed into a parcel,
// copied out of their part, and the lane takes them (park_rows.go) until they are to go on, as a run of their own.

// never is a time that does not come.
const never = time.Duration(math.MaxInt64)

// aside is what a run has set aside so far.
type aside struct {
	groups map[uint64]*asideGroup
	sets   [][]*rows.Set // by step; origins count in the run
}

// asideGroup is a group that is not packed yet.
type asideGroup struct {
	key       uint64
	first     rows.RunRow // the first origin; what has a later one is behind it
	in        *rows.Set   // where it parked: rows of the same origin in there are behind it too
	due       time.Duration
	wantedKey string
	saveWait  *saveWait
	ask       *ask // that it waits for until then; nil: for none
	step      int
	rows      []rows.ParcelRow // when it is packed
}

// asideRow is a row of the rows under way that is set aside.
type asideRow struct {
	row  uint32
	hold hold
	kept *kept // nil: nothing
}

// key is that of a row of the run.
func (r *run) key(origin rows.RunRow) uint64 { return r.work.in.columns.Keys[r.work.row(origin)] }

// park sets row i of the rows under way aside until h is due. Rows of a key park in descending order of their origins, or
// behind each other.
func (r *run) park(i int, h hold) *asideGroup {
	g := r.asideGroup(r.now.Origins[i])
	g.first, g.in = r.now.Origins[i], r.now
	g.due, g.wantedKey, g.saveWait, g.ask, g.step = h.due, "", nil, nil, r.step.Index
	r.setAside(i, h)
	return g
}

// asideGroup finds or makes the group of a row's key.
func (r *run) asideGroup(origin rows.RunRow) *asideGroup {
	if r.aside == nil {
		r.aside = &aside{groups: make(map[uint64]*asideGroup), sets: make([][]*rows.Set, len(r.plan.steps))}
	}
	key := r.key(origin)
	g := r.aside.groups[key]
	if g == nil {
		g = &asideGroup{key: key, due: never, first: origin}
		r.aside.groups[key] = g
	}
	return g
}

// behind reports whether row i of a rowset has to wait for a parked row of its key.
func (r *run) behind(rs *rows.Set, i int) bool {
	if r.aside == nil || rs.Origins[i] == rows.WholeBatch {
		return false
	}
	g := r.aside.groups[r.key(rs.Origins[i])]
	return g != nil && (rs.Origins[i] > g.first || rs.Origins[i] == g.first && rs == g.in)
}

// setAside takes row i out of the rows under way.
func (r *run) setAside(i int, h hold) {
	r.x.aside = append(r.x.aside, asideRow{uint32(i), h, nil})
	r.x.gone = append(r.x.gone, uint32(i))
}

// parkAll sets all rows under way aside but those lost already.
func (r *run) parkAll(h hold) {
	lost := slices.Clip(r.x.gone)
	for i := range r.now.Len() {
		if _, gone := slices.BinarySearch(lost, uint32(i)); gone {
			continue
		}
		if r.behind(r.now, i) {
			r.setAside(i, h)
		} else {
			r.park(i, h)
		}
	}
	slices.Sort(r.x.gone)
}

// keepAside notes the rows of rs that were set aside.
func (r *run) keepAside(rs *rows.Set) {
	if len(r.x.aside) == 0 {
		return
	}
	places := r.x.mem.Numbers(len(r.x.aside))
	holds := make([]hold, len(places))
	var keeps []*kept
	for i, a := range r.x.aside {
		places[i], holds[i] = a.row, a.hold
		if a.kept != nil {
			if keeps == nil {
				keeps = make([]*kept, len(places))
			}
			keeps[i] = a.kept
		}
	}
	sub := r.x.mem.Subset(rs, places, rs.Born)
	if came := sub.Came; came != nil {
		for i := range places {
			if keeps == nil || keeps[i] == nil { // its function is to be called
				sub.Vec.Slice().Index(i).Set(came.Slice().Index(i))
			}
		}
	}
	sub.Along, sub.Came = &along{holds, keeps}, nil
	r.aside.sets[r.step.Index] = append(r.aside.sets[r.step.Index], sub)
	r.x.aside = r.x.aside[:0]
}

// mayEnter sets those of rs aside that are behind parked ones, or whose time has not come.
func (r *run) mayEnter(rs *rows.Set) *rows.Set {
	if r.aside == nil && rs.Along == nil || !r.keyed {
		return rs
	}
	now := r.x.lane.lanes.clock.now()
	began := now - r.x.heldUp
	r.chargeKept(rs, now)
	for i := range rs.Len() {
		if holdOf(rs, i).load && r.step.form == kis.FormFaaS {
			if i == 0 || rs.Origins[i] != rs.Origins[i-1] { // the outputs of one row wait together
				r.charge(rs.Origins[i], max(0, began-alongOf(rs).holds[i].due))
			}
			alongOf(rs).holds[i].due = now
		}
		switch h := holdOf(rs, i); {
		case keptOf(rs, i) != nil: // its step asks for it
		case r.behind(rs, i):
			r.setAside(i, h)
		case !h.load && h.due > now:
			r.park(i, h)
		}
	}
	if len(r.x.gone) == 0 {
		return rs
	}
	r.keepAside(rs)
	kept := r.x.mem.Keep(rs, r.x.gone)
	r.x.gone = r.x.gone[:0]
	return kept
}

// startBehind sets aside the rows that wait for parked ones of earlier runs.
func (r *run) startBehind(rs *rows.Set) *rows.Set {
	if len(r.work.blocked) == 0 {
		return rs
	}
	for _, origin := range r.work.blocked {
		r.asideGroup(origin)
	}
	start, behind := r.part.Start, rows.As[uint32](r.work.blocked) // row i of the input is row i of the run
	r.aside.sets[start] = append(r.aside.sets[start], r.x.mem.Subset(rs, behind, start))
	return r.x.mem.Keep(rs, behind)
}

// resume puts the rows of a parcel where they go on.
func (r *run) resume(p *parcel) {
	for k, sets := range p.sets {
		for _, rs := range sets {
			var places []uint32
			var origins []rows.RunRow
			for i, row := range r.work.rows {
				if r.ended(rows.RunRow(i)) {
					continue
				}
				origin := rows.ParcelRow(row)
				at, _ := slices.BinarySearch(rs.origins, origin)
				for ; at < len(rs.origins) && rs.origins[at] == origin; at++ {
					places, origins = append(places, uint32(at)), append(origins, rows.RunRow(i))
				}
			}
			if len(places) > 0 {
				r.waiting[k] = append(r.waiting[k], r.x.mem.Resumed(rs.set, places, origins))
			}
		}
	}
	for i, row := range r.work.rows {
		if spent, ok := p.spent[rows.ParcelRow(row)]; ok {
			if r.spent == nil {
				r.spent = make(map[rows.RunRow]time.Duration)
			}
			r.spent[rows.RunRow(i)] = spent
		}
	}
	for _, o := range p.notDone {
		if i, ok := slices.BinarySearch(r.work.rows, rows.PartRow(o.Row)); ok {
			r.ledger.end(rows.RunRow(i), o)
		}
	}
	for _, d := range p.dead {
		if i, ok := slices.BinarySearch(r.work.rows, rows.PartRow(d.Row)); ok {
			d.Row = uint32(i)
			r.dead = append(r.dead, d)
		}
	}
}

// ended reports whether an abandoned goroutine is to blame on the row.
func (r *run) ended(origin rows.RunRow) bool {
	return r.work.abandoned != nil && slices.ContainsFunc(r.work.abandoned.dead, func(o batch.RowOutcome) bool { return o.Row == uint32(origin) })
}

// pack makes a parcel of what was set aside, and leaves in the result, whose rows count in r.part, only what has ended.
func (r *run) pack(result *RunResult) *parcel {
	var origins []rows.RunRow
	for _, sets := range r.aside.sets {
		for _, rs := range sets {
			origins = append(origins, rs.Origins...)
		}
	}
	slices.Sort(origins)
	origins = slices.Clip(slices.Compact(origins))
	if len(origins) == 0 {
		return nil
	}
	parked := make([]rows.PartRow, len(origins)) // the rows as they count in r.part
	for i, origin := range origins {
		parked[i] = r.work.row(origin)
	}
	groups := make([]*asideGroup, 0, len(r.aside.groups))
	p := &parcel{
		home: &r.x.lane.parked, since: r.x.lane.lanes.clock.now(), heldUpBefore: r.x.lane.heldUpTotal.Load(),
		part: r.partOf(parked), rows: parked, sets: make([][]packedSet, len(r.aside.sets)),
	}
	if r.work.from != nil {
		p.rows = rows.Pick(r.work.from.rows, parked)
	}
	for i, origin := range origins {
		g := r.aside.groups[p.part.Columns.Keys[i]]
		if g.rows = append(g.rows, rows.ParcelRow(i)); len(g.rows) == 1 {
			groups = append(groups, g)
		}
		if spent, ok := r.spent[origin]; ok {
			if p.spent == nil {
				p.spent = make(map[rows.ParcelRow]time.Duration)
			}
			p.spent[rows.ParcelRow(i)] = spent
		}
	}
	p.groups, p.byKey = make([]group, len(groups)), make([]rows.ParcelRow, 0, len(origins))
	for i, g := range groups {
		p.groups[i] = group{parcel: p, due: g.due, wantedKey: g.wantedKey, step: uint16(g.step), first: uint32(len(p.byKey)), n: uint32(len(g.rows))}
		if g.saveWait != nil {
			if p.saveWaits == nil {
				p.saveWaits = make(map[*group]saveWait)
			}
			p.saveWaits[&p.groups[i]] = *g.saveWait
		}
		if g.ask != nil {
			if p.asks == nil {
				p.asks = make(map[*group]*ask)
			}
			p.asks[&p.groups[i]] = g.ask
		}
		p.byKey = append(p.byKey, g.rows...)
	}
	for k, sets := range r.aside.sets {
		for _, rs := range sets {
			p.sets[k] = append(p.sets[k], packed(rs, origins, r.part.Start))
		}
	}
	result.NotDone, p.notDone = divide(result.NotDone, parked)
	p.dead = r.parkDead(parked)
	result.Output, p.output = divideOutput(result.Output, parked)
	all := result.Rows
	result.Rows = make([]uint32, 0, r.n-len(origins))
	for i := range uint32(r.n) {
		row := i
		if all != nil {
			row = all[i]
		}
		if _, isParked := slices.BinarySearch(parked, rows.PartRow(row)); !isParked {
			result.Rows = append(result.Rows, row)
		}
	}
	return p
}

// packed is a rowset in memory of its own, in the order of its origins, which count in the parcel.
func packed(rs *rows.Set, origins []rows.RunRow, start int) packedSet {
	places := rows.Range[uint32](0, rs.Len())
	if !slices.IsSorted(rs.Origins) {
		sort.SliceStable(places, func(a, b int) bool { return rs.Origins[places[a]] < rs.Origins[places[b]] })
	}
	renumbered := make([]rows.ParcelRow, len(places))
	for i, row := range places {
		at, _ := slices.BinarySearch(origins, rs.Origins[row])
		renumbered[i] = rows.ParcelRow(at)
	}
	c := rows.Packed(rs, places, start)
	if a := alongOf(rs); a != nil && (a.keeps != nil || slices.ContainsFunc(a.holds, func(h hold) bool { return h != (hold{}) })) {
		c.Along = a.Pick(places)
	}
	return packedSet{c, renumbered}
}

// partOf is a part of these rows of r.part alone.
func (r *run) partOf(parked []rows.PartRow) *Part {
	own := *r.part
	own.parkedFrom, own.Columns = r.part.enqueued(), r.work.in.columns.Select(rows.As[uint32](parked))
	if own.Rows == nil {
		own.Rows = rows.As[uint32](parked)
		return &own
	}
	own.Rows = make([]uint32, len(parked))
	for i, row := range parked {
		own.Rows[i] = uint32(r.part.place(row))
	}
	return &own
}
