package scheduler

import (
	"slices"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// A row that kills each worker which runs it must end, or it would kill them all. A row that only ran beside it must not end with it.
// Nobody can say for sure which rows a worker ran when it died, since it may not have told which ones had ended. So each death counts
// against fewer rows than the one before:
//
//	deaths of the row   how it runs                                        the next death counts against it
//	0                   beside others                                      if it may have been running
//	1                   its worker announces it first                      if it was announced, and had neither ended nor parked
//	2                   announced, and the worker runs nothing beside it   in the same case; then it is dead, with CodePoison
//
// To announce a row, the worker tells the coordinator and waits until that has arrived before it runs the row. With two deaths a row
// runs alone, except beside calls that have been running for long without harm. So its third death proves that the row is to blame.
// When a worker dies while a row runs alone in it, that counts against no row with fewer deaths.

// survivableDeaths is how many workers may die while a row runs before the row counts as the cause. A row with more deaths is
// dead, with CodePoison.
const survivableDeaths = 2

// mayHaveBegun is the number of a worker flow's parts, after the newest part of which a row was answered, that count as
// possibly begun when the worker dies: lanes may run them, or they ended without the coordinator being told. Parts after these
// count as not begun. If one of them was to blame nevertheless, it is among the first parts when the next worker dies.
const mayHaveBegun = 128

// announce notes what the worker says of the rows in the ranges: they are about to run (runs is true), or they stopped running
// (runs is false).
func (p *Part) announce(ranges []batch.Range, runs bool) {
	p.each(ranges, func(i partRow) {
		if p.running == nil {
			p.running = bitset.New(p.Len())
		}
		if runs {
			p.running.Add(uint32(i))
		} else {
			p.running.Remove(uint32(i))
		}
	})
}

// blame decides, for the parts of a worker flow whose worker is gone, which of their open rows the death counts against.
// segmentsOf is called for each part in the order in which the parts were sent. The states of a row, by the deaths that
// count against it:
//
//	0 deaths: runs beside others
//	   │ its worker died, and the row may have been running
//	   ▼
//	1 death: is announced before it runs
//	   │ its worker died while the row was running
//	   ▼
//	2 deaths: is announced, and runs alone
//	   │ its worker died while the row was running
//	   ▼
//	dead, with CodePoison
type blame struct {
	died      bool // the worker died without having been asked to end; otherwise its end counts against no row
	diedAlone bool // a row was running that must have nothing beside it, so only rows like it can be to blame
	// begun counts the parts, up to mayHaveBegun, against which the death counts although they are newer than the newest part
	// of which a row was answered.
	begun int
}

// ranAlone reports whether the worker is running a row that must have nothing beside it, because two deaths count against it.
func (w *worker) ranAlone() bool {
	return slices.ContainsFunc(w.suspects, func(p *Part) bool { return p.isRunning() })
}

// segmentsOf returns the open rows of a part as one or two segments, whose rows have the same number of deaths, the death of
// the part's worker included.
func (b *blame) segmentsOf(p *Part) []segment {
	g := p.rest()
	switch {
	case !b.died || b.diedAlone && p.Deaths < survivableDeaths:
	case p.Deaths > 0:
		return p.blameAnnounced(g)
	case p.Number <= p.workerFlow.newestAnswered:
		pointDeath.Hit()
		g.deaths++
	case b.begun < mayHaveBegun:
		pointDeathUnseen.Hit()
		b.begun++
		g.deaths++
	}
	return []segment{g}
}

// isRunning reports whether an open row of the part was announced and has not parked since.
func (p *Part) isRunning() bool {
	found := false
	if p.running != nil {
		p.eachOpen(func(i partRow) { found = found || p.running.Has(uint32(i)) })
	}
	return found
}

// blameAnnounced divides the open rows of a part, which are in rest, into the rows that were announced and were running, which
// get one death more, and the other rows.
func (p *Part) blameAnnounced(rest segment) []segment {
	if p.running == nil {
		return []segment{rest}
	}
	var ran, waited []uint32
	p.eachOpen(func(i partRow) {
		if p.running.Has(uint32(i)) {
			ran = append(ran, p.row(i))
		} else {
			waited = append(waited, p.row(i))
		}
	})
	switch {
	case len(ran) == 0:
		pointSpared.Hit()
		return []segment{rest}
	case len(waited) == 0:
		pointAllAnnounced.Hit()
		rest.deaths++
		return []segment{rest}
	}
	pointAnnounced.Hit()
	return []segment{{rest.batch, ran, p.Deaths + 1}, {rest.batch, waited, p.Deaths}}
}
