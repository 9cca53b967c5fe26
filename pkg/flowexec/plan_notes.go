package flowexec

import (
	"fmt"

	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Notes returns the places in the flow where the values that rows find in a connector may depend on how rows are cut into batches. They are
// no mistakes. A flow without a shard key has none. This method finds those that the functions' forms show; definition.Set.Notes finds the
// others. Each note is document:line: key: text.
func (p *Plan) Notes() (notes []string) {
	if p.unsharded {
		return nil
	}
	tell := func(s *step, format string, args ...any) {
		m := definition.Mistake{
			Document: p.bundle.Flow.Document.String(), Line: p.bundle.Flow.Functions[s.Index].Line, Key: fmt.Sprintf("flows[%d].fname", s.Index),
			Problem: s.Name + " " + fmt.Sprintf(format, args...),
		}
		notes = append(notes, m.Error())
	}
	type uses struct {
		first, last int
		n           int
		saves       bool
	}
	of := make(map[*definition.Connector]*uses)
	for _, s := range p.steps {
		if s.connector == nil {
			continue
		}
		u := of[s.connector]
		if u == nil {
			u = &uses{first: s.Index}
			of[s.connector] = u
		}
		u.last, u.n, u.saves = s.Index, u.n+1, u.saves || s.mode == definition.ModeSave
	}
	for _, s := range p.steps {
		switch u := of[s.connector]; {
		case s.connector == nil:
		case s.form.Whole() && u.saves && u.n > 1:
			tell(s, "uses connector %s, as other steps do, and gets many rows at once: what rows find there depends on how they are cut "+
				"into batches", s.connector.Name)
		case !s.form.Whole() && s.form != kis.FormSave && s.form != kis.FormLoad:
			tell(s, "has connector %s: what it does with that by hand is outside of all promises, and depends on how rows are cut into "+
				"batches", s.connector.Name)
		}
		if !s.form.Whole() {
			continue
		}
		for _, other := range p.steps { // the map of has no order
			if u := of[other.connector]; other.connector != nil && other.Index == u.first && u.saves && u.first < s.Index && s.Index < u.last &&
				other.connector != s.connector {
				tell(s, "stands between steps that use connector %s, and gets many rows at once: what rows find there depends on how they "+
					"are cut into batches", other.connector.Name)
			}
		}
	}
	return notes
}
