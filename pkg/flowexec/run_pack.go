package flowexec

import (
	"slices"
	"sort"
	"time"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// startBehind parks the rows whose keys have rows of earlier runs parked in the lane, and returns the others.
func (r *run) startBehind(rs *rows.Set) *rows.Set {
	if len(r.work.blocked) == 0 {
		return rs
	}
	pointBehind.Hit()
	for _, origin := range r.work.blocked {
		r.parking.group(origin)
	}
	start, behind := r.part.Start, rows.As[uint32](r.work.blocked) // row i of the input is row i of the run
	r.parking.add(r.x.mem.Subset(rs, behind, start), start)
	return r.x.mem.Keep(rs, behind)
}

// resume takes those rows of a parcel into the run that belong to the run's work: they wait for the steps that they enter next,
// with the time that they have spent. It also takes over the outcomes and dead rows that their input rows had before they
// parked.
func (r *run) resume(p *parcel) {
	for k, sets := range p.sets {
		for _, rs := range sets {
			var places []uint32
			var origins []rows.RunRow
			for i, row := range r.work.rows {
				if r.blamed(rows.RunRow(i)) || r.behindFailed(rows.RunRow(i)) {
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
			if r.budgets.spent == nil {
				r.budgets.spent = make(map[rows.RunRow]time.Duration)
			}
			r.budgets.spent[rows.RunRow(i)] = spent
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
			r.letters.rows = append(r.letters.rows, d)
		}
	}
}

// pack copies the rows that have parked into a parcel, and moves the results of their input rows from result to the parcel. It
// returns nil if no rows have parked.
func (r *run) pack(result *RunResult) *parcel {
	var origins []rows.RunRow
	for _, sets := range r.parking.sets {
		for _, rs := range sets {
			origins = append(origins, rs.Origins...)
		}
	}
	slices.Sort(origins)
	origins = slices.Clip(slices.Compact(origins))
	if len(origins) == 0 {
		return nil
	}
	pointParked.Hit()
	parked := make([]rows.PartRow, len(origins)) // the same rows, counted in r.part
	for i, origin := range origins {
		parked[i] = r.work.row(origin)
	}
	groups := make([]*parkingGroup, 0, len(r.parking.groups))
	p := &parcel{
		home: &r.x.lane.parked, since: r.x.lane.lanes.clock.now(), heldUpBefore: r.x.lane.heldUpTotal.Load(),
		part: r.partOf(parked), rows: parked, sets: make([][]packedSet, len(r.parking.sets)),
	}
	if r.work.from != nil {
		p.rows = rows.Pick(r.work.from.rows, parked)
	}
	for i, origin := range origins {
		g := r.parking.groups[p.part.Columns.Keys[i]]
		if g.rows = append(g.rows, rows.ParcelRow(i)); len(g.rows) == 1 {
			groups = append(groups, g)
		}
		if spent, ok := r.budgets.spent[origin]; ok {
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
	for k, sets := range r.parking.sets {
		for _, rs := range sets {
			p.sets[k] = append(p.sets[k], packed(rs, origins, r.part.Start))
		}
	}
	result.NotDone, p.notDone = splitOutcomes(result.NotDone, parked)
	p.dead = r.letters.ofParcel(parked)
	result.Output, p.output = splitOutput(result.Output, parked)
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

// packed copies a set of parked rows into new memory, which outlives the run, in the order of the input rows. origins are all
// input rows that have parked, ascending: a row's place in it is its number in the parcel. start is the step at which the run's
// part begins.
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

// partOf returns a copy of the run's part that has only the parked rows.
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
