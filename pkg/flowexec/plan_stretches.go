package flowexec

import (
	"slices"

	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// stretch is a part of a flow, from the step first to the step last, in which the rows of one key go one after the other (run_turns.go). A
// stretch reaches from the first step to the last step that uses one connector, if several do and one of them saves. So a row finds there
// the things that earlier rows of its key have saved.
//
// Functions with Go code may send rows back by jumps, whose destinations are not known when the flow is compiled. A row that came back
// into the stretch would come behind rows that were submitted later. So a stretch reaches at least to the last function with Go code
// before the next Batch or FaaS function.
type stretch struct{ first, last int }

// findStretches sets p.stretches. A flow without a shard key has none. A stretch ends before a function that gets many rows in one call
// (Batch and FaaS), which are never part of a stretch.
func (p *Plan) findStretches() {
	if p.unsharded {
		return
	}
	for from := 0; from < len(p.steps); {
		to := from
		for to < len(p.steps) && !p.steps[to].form.Whole() {
			to++
		}
		p.stretches = append(p.stretches, stretchesOf(p.steps[from:to])...)
		from = to + 1
	}
}

// stretchesOf returns the stretches in some neighbouring steps of a flow, in their order. Stretches that overlap become one.
func stretchesOf(steps []*step) []stretch {
	type use struct {
		first, last int
		saves       bool
	}
	uses := make(map[*definition.Connector]*use)
	var found []stretch
	lastCode := -1
	for _, s := range steps {
		if s.code != nil {
			lastCode = s.Index
		}
		if s.form != kis.FormSave && s.form != kis.FormLoad {
			continue
		}
		u := uses[s.connector]
		if u == nil {
			u = &use{first: s.Index}
			uses[s.connector] = u
		}
		u.last, u.saves = s.Index, u.saves || s.form == kis.FormSave
	}
	for _, u := range uses {
		if u.saves && u.first < u.last {
			found = append(found, stretch{u.first, max(u.last, lastCode)})
		}
	}
	slices.SortFunc(found, func(a, b stretch) int { return a.first - b.first })
	apart := found[:0]
	for _, s := range found {
		if n := len(apart); n > 0 && s.first <= apart[n-1].last {
			apart[n-1].last = max(apart[n-1].last, s.last)
		} else {
			apart = append(apart, s)
		}
	}
	return apart
}

// stretchOf returns the stretch that a step is in. The bool is false if the step is in none.
func (p *Plan) stretchOf(step int) (stretch, bool) {
	for _, s := range p.stretches {
		if s.first <= step && step <= s.last {
			return s, true
		}
	}
	return stretch{}, false
}
