package flowexec

import (
	"slices"

	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// stretch is steps of a flow, both ends included, through which the rows of one key go one after the other (run_turns.go): from the
// first to the last step that uses a connector, where several do and one of them saves.
//
// Functions with code may send their rows back, and nobody knows where to before they do. A row that came back into the stretch
// would come behind rows that were submitted later, so a stretch goes on to the last function with code.
type stretch struct{ first, last int }

// findStretches finds those of a flow with a shard key. Functions that get many rows at once get them as they do elsewhere: a
// stretch ends before such a step.
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

// stretchesOf finds those of neighbouring steps, in order; none has a step of another.
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

// stretchOf is the stretch that has a step; false: none has.
func (p *Plan) stretchOf(step int) (stretch, bool) {
	for _, s := range p.stretches {
		if s.first <= step && step <= s.last {
			return s, true
		}
	}
	return stretch{}, false
}
