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

// survivableDeaths is how many deaths of workers a row may survive. A row with more of them is dead, with CodePoison.
const survivableDeaths = 2

// mayHaveBegun is how many parts of a worker flow, beyond the newest one of which a row was answered, may have begun: parts
// that lanes run, and parts that ended without the coordinator being told. If a row further behind is to blame for a death,
// it is nearer at the next one.
const mayHaveBegun = 128

// announce notes rows that run, or, with runs false, rows that stopped running, as the worker tells.
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
	died      bool // the worker died; other ends count against nobody
	diedAlone bool // a row ran that must have nothing beside it
	// begun counts parts that may have begun, although they are newer than the newest answered one.
	begun int
}

// ranAlone reports whether a row was running that has nothing running beside it, because two deaths count against it.
func (w *worker) ranAlone() bool {
	return slices.ContainsFunc(w.suspects, func(p *Part) bool { return p.isRunning() })
}

// segmentsOf divides the open rows of a part by how many deaths of workers count against them, this death included.
func (b *blame) segmentsOf(p *Part) []segment {
	g := p.rest()
	switch {
	case !b.died || b.diedAlone && p.Deaths < survivableDeaths:
	case p.Deaths > 0:
		return p.blameAnnounced(g)
	case p.Number <= p.workerFlow.newestAnswered:
		g.deaths++
	case b.begun < mayHaveBegun:
		b.begun++
		g.deaths++
	}
	return []segment{g}
}

// isRunning reports whether an open row of the part was announced and runs.
func (p *Part) isRunning() bool {
	found := false
	if p.running != nil {
		p.eachOpen(func(i partRow) { found = found || p.running.Has(uint32(i)) })
	}
	return found
}

// blameAnnounced divides the open rows of a part into those that ran, which get one death more, and those that did not.
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
		return []segment{rest}
	case len(waited) == 0:
		rest.deaths++
		return []segment{rest}
	}
	return []segment{{rest.batch, ran, p.Deaths + 1}, {rest.batch, waited, p.Deaths}}
}
