package flowexec

import (
	"cmp"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// splitOutcomes splits the outcomes of a run into those of rows that have ended, and those of rows that have parked. parked are the parked
// rows, ascending, by their numbers in the part. The outcomes in held have the rows' numbers in the parcel: their places in parked.
func splitOutcomes(all []batch.RowOutcome, parked []rows.PartRow) (ended, held []batch.RowOutcome) {
	for _, o := range all {
		if at, ok := slices.BinarySearch(parked, rows.PartRow(o.Row)); ok {
			o.Row = uint32(at)
			held = append(held, o)
		} else {
			ended = append(ended, o)
		}
	}
	return ended, held
}

// splitOutput splits the output of a run into that of rows that have ended, and that of rows that have parked. parked are the parked rows,
// ascending, by their numbers in the part. The origins in held are the rows' numbers in the parcel. An input row parks although it has
// output when other rows that were made of it park.
func splitOutput(all batch.Output, parked []rows.PartRow) (ended, held batch.Output) {
	var stay, rest []uint32
	for i, origin := range all.Origins {
		if at, ok := slices.BinarySearch(parked, rows.PartRow(origin)); ok {
			rest = append(rest, uint32(i))
			held.Origins = append(held.Origins, uint32(at))
		} else {
			stay = append(stay, uint32(i))
			ended.Origins = append(ended.Origins, origin)
		}
	}
	if len(rest) == 0 {
		return all, batch.Output{}
	}
	ended.Rows, held.Rows = all.Rows.Select(stay), all.Rows.Select(rest)
	return ended, held
}

// addEarlier adds the output that rows had before they parked to the result of the run in which they went on. of are the rows of that run,
// ascending. All row numbers, also those in the result, are numbers in the parcel.
func (p *parcel) addEarlier(result *RunResult, of []rows.PartRow) {
	var places []uint32
	for i, origin := range p.output.Origins {
		if _, ok := slices.BinarySearch(of, rows.PartRow(origin)); ok {
			places = append(places, uint32(i))
		}
	}
	if len(places) == 0 {
		return
	}
	all := batch.Output{Rows: p.output.Rows.Select(places), Origins: rows.Pick(p.output.Origins, places)}
	for i, origin := range result.Output.Origins {
		all.Rows.Append(result.Output.Rows.Row(i))
		all.Origins = append(all.Origins, origin)
	}
	all.Rows.Encoding = cmp.Or(result.Output.Rows.Encoding, all.Rows.Encoding)
	order := rows.Range[uint32](0, len(all.Origins))
	slices.SortStableFunc(order, func(a, b uint32) int { return cmp.Compare(all.Origins[a], all.Origins[b]) })
	result.Output = batch.Output{Rows: all.Rows.Select(order), Origins: rows.Pick(all.Origins, order)}
}

// returned makes the RunResult that gives back the rows of the groups: they are in Rows and in Returned.
func (p *parcel) returned(groups []*group) RunResult {
	var all []uint32
	for _, g := range groups {
		for _, row := range g.rows() {
			all = append(all, uint32(p.rows[row]))
		}
	}
	slices.Sort(all)
	return RunResult{Part: p.part.enqueued(), Rows: all, Returned: slices.Clone(all)}
}

// groupsByParcel returns the groups of each parcel.
func groupsByParcel(groups []*group) map[*parcel][]*group {
	by := make(map[*parcel][]*group)
	for _, g := range groups {
		by[g.parcel] = append(by[g.parcel], g)
	}
	return by
}

// groupRows returns the rows of groups of one parcel, ascending.
func groupRows(groups []*group) []rows.ParcelRow {
	var all []rows.ParcelRow
	for _, g := range groups {
		all = append(all, g.rows()...)
	}
	slices.Sort(all)
	return all
}

// renumber turns the rows of a result, which count in the parcel, into rows of the part that Enqueue was given.
func (p *parcel) renumber(result *RunResult) {
	result.Rows = rows.As[uint32](rows.Pick(p.rows, result.Rows))
	for i := range result.NotDone {
		result.NotDone[i].Row = uint32(p.rows[result.NotDone[i].Row])
	}
	for i := range result.Dead {
		result.Dead[i].Row = uint32(p.rows[result.Dead[i].Row])
	}
	for i, origin := range result.Output.Origins {
		result.Output.Origins[i] = uint32(p.rows[origin])
	}
}
