package scheduler

import (
	"slices"

	"github.com/kisgrid/kisgrid/internal/bitset"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// A row that kills whatever runs it must end, and none that only stood beside it may. What a worker ran when it died, nobody
// can say for sure: what had ended may not have been told. So the first death counts against all that may have been under
// way, which costs these rows little: from then on their worker announces them, and waits until that has arrived, before it
// runs them. A second death counts only against rows that were announced. After it a row runs with nothing beside it in its
// worker, or beside calls alone that have long been under way without harm, so that the third is proof.

// poison is how many deaths a row may survive.
const survivableDeaths = 2

// unheard is how many parts of a workerFlow, beyond the newest one that was answered, may have begun: those that its lanes run, and
// those that ended without being told. Should a death be the fault of one further behind, the next one gets closer.
const mayHaveBegun = 128

// announce notes which rows run, as far as the worker tells.
func (p *Part) announce(ranges []batch.Range, runs bool) {
	p.each(ranges, func(i uint32) {
		if p.running == nil {
			p.running = bitset.New(p.Len())
		}
		if runs {
			p.running.Add(i)
		} else {
			p.running.Remove(i)
		}
	})
}

// blame says, for the parts of a workerFlow in their order, in which segments the rest of each goes on after its worker is gone.
type blame struct {
	died      bool // only that counts
	diedAlone bool // a part ran with nothing beside it
	begun     int  // parts that may have begun although they are newer than what was answered
}

// ranAlone reports whether a part that runs with nothing beside it was running.
func (w *worker) ranAlone() bool {
	return slices.ContainsFunc(w.suspects, func(p *Part) bool { return p.isRunning() })
}

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

// runs reports whether a row that was announced runs.
func (p *Part) isRunning() bool {
	found := false
	if p.running != nil {
		p.eachOpen(func(i uint32) { found = found || p.running.Has(i) })
	}
	return found
}

// blameAnnounced divides the rest of a part into what ran and what did not.
func (p *Part) blameAnnounced(rest segment) []segment {
	if p.running == nil {
		return []segment{rest}
	}
	var ran, waited []uint32
	p.eachOpen(func(i uint32) {
		if p.running.Has(i) {
			ran = append(ran, p.Row(i))
		} else {
			waited = append(waited, p.Row(i))
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
