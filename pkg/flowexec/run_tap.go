package flowexec

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// tapping copies rows of a run for the taps of its flow. A row is copied when it enters a function, since the function may change it. The copy is
// complete when the row has left the function. Nothing is copied, and the tapping of a run is nil, while a flow has no taps.
//
// The rows are followed by their lineage: each Set says of which rows of an earlier Set its rows were made. It belongs to the run's goroutine.
type tapping struct {
	run     *run
	taps    []*Tap
	entered *rows.Set         // the rows that entered the function under way; nil between functions, and if no tap copies any of them
	halted  *batch.RowOutcome // the outcome with which the run has ended in this function; nil if it goes on
	views   []tapView         // the taps that copy rows of the function under way
	broken  bool              // a method has panicked, so nothing more is copied in this run
}

// survive is deferred in the methods that runs call. If a tap panics, the run goes on without taps.
func (t *tapping) survive() {
	panicked := recover()
	if panicked == nil {
		return
	}
	t.entered, t.broken = nil, true
	lanes := t.run.x.lane.lanes
	lanes.config.Logger.Error("a tap panicked, and its run goes on without: please report this", "flow", lanes.config.Flow,
		"function", t.run.st.step.Name, "panic", fmt.Sprintf("a %T", panicked), "stack", string(debug.Stack()))
}

// tapView has the rows that one tap copies at the function under way, by their places in tapping.entered, ascending.
type tapView struct {
	tap   *Tap
	rows  []tapCopy
	spent time.Duration
}

// tapCopy is the copy of a row: place is its place in tapping.entered.
type tapCopy struct {
	place uint32
	*TappedRow
}

// enter copies some of the rows of rs, which are about to enter step s.
func (t *tapping) enter(s *step, rs *rows.Set) {
	t.entered, t.halted, t.views = nil, nil, t.views[:0]
	if rs.Len() == 0 || t.broken {
		return
	}
	defer t.survive()
	for _, tap := range t.taps {
		if tap.Function != "" && tap.Function != s.Name {
			continue
		}
		var places []uint32
		n := rs.Len()
		var began time.Time
		if tap.Key != nil {
			began = time.Now()
			places = t.withKey(rs, *tap.Key)
			n = len(places)
		}
		copies := 0
		if n > 0 {
			copies = min(tap.Admit(n), n, maxTappedRows)
		}
		if copies > 0 {
			if began.IsZero() {
				began = time.Now()
			}
			t.entered = rs
			t.views = append(t.views, tapView{tap: tap, rows: t.copyRows(s, rs, tap, spread(places, n, copies))})
		}
		if began.IsZero() {
			continue
		}
		if spent := time.Since(began); copies > 0 {
			t.views[len(t.views)-1].spent = spent
		} else {
			tap.Spent(spent)
		}
	}
}

// withKey returns the places of the rows of rs whose shard key has a hash.
func (t *tapping) withKey(rs *rows.Set, key uint64) (places []uint32) {
	keys := t.run.work.in.columns.Keys
	if len(keys) == 0 {
		return nil
	}
	for i, origin := range rs.Origins {
		if origin != rows.WholeBatch && keys[t.run.work.row(origin)] == key {
			places = append(places, uint32(i))
		}
	}
	return places
}

// spread chooses so many of n places, evenly and from a random one on, and returns them in ascending order. nil places mean all from 0 to n-1.
func spread(places []uint32, n, copies int) []uint32 {
	chosen := make([]uint32, copies)
	first := 0
	if copies < n {
		first = rand.IntN(n) //nolint:gosec // it only chooses which rows are shown
	}
	for k := range chosen {
		at := (first + k*n/copies) % n
		if places != nil {
			chosen[k] = places[at]
		} else {
			chosen[k] = uint32(at)
		}
	}
	slices.Sort(chosen)
	return chosen
}

// copyRows copies the rows of rs at the given places.
func (t *tapping) copyRows(s *step, rs *rows.Set, tap *Tap, places []uint32) []tapCopy {
	r := t.run
	use, now := uint32(slices.Index(r.plan.places[s.Name], s.Index)), time.Now()
	copies := make([]tapCopy, len(places))
	for k, place := range places {
		i := int(place)
		row := &TappedRow{
			Function: s.Name, Use: use, Revision: r.plan.revision, Batch: r.part.Batch, Row: batch.WholeBatch,
			Path: rows.At(rs.Paths, i), Visit: rows.At(rs.Trips, i), At: now,
		}
		if origin := rs.Origins[i]; origin != rows.WholeBatch {
			row.Row = uint32(r.part.place(r.work.row(origin)))
		}
		text, ok := r.x.reader.Shown(&s.Input, rs, i)
		row.Before = tappedText(text, ok, tap.RowBytes)
		copies[k] = tapCopy{place, row}
	}
	return copies
}

// tappedText returns a copy of a row with limit bytes at most. ok is false if the row can't be shown.
func tappedText(text []byte, ok bool, limit int) TappedText {
	if !ok {
		return TappedText{Withheld: true}
	}
	return TappedText{Data: bytes.Clone(text[:min(len(text), limit)]), Size: len(text)}
}

// queued copies rows that go on from the function under way to a step, or out of the flow: those that were made of rows which are copied.
func (t *tapping) queued(rs *rows.Set, step int) {
	if t.entered == nil || rs.Len() == 0 {
		return
	}
	defer t.survive()
	for v := range t.views {
		view := &t.views[v]
		began := time.Now()
		t.noteAfter(view, rs, step)
		view.spent += time.Since(began)
	}
}

// noteAfter does the work of queued for one tap.
func (t *tapping) noteAfter(view *tapView, rs *rows.Set, step int) {
	if rs.Prev == nil && rs != t.entered && rs.Origins[0] == rows.WholeBatch && rs.Born > t.run.st.step.Index {
		for k, c := range view.rows {
			if c.OfBatch = true; k == 0 {
				for i := range rs.Len() {
					t.addAfter(view, c, rs, i)
				}
			}
		}
		return
	}
	t.eachMade(view, rs, func(c tapCopy, i int) {
		if c.Became == "" && step == t.run.st.step.Index+1 {
			c.Became = Passed
		}
		t.addAfter(view, c, rs, i)
	})
}

// addAfter appends row i of rs to the rows that go on in place of a copied one.
func (t *tapping) addAfter(view *tapView, c tapCopy, rs *rows.Set, i int) {
	if len(c.After) == maxTappedAfter {
		c.More++
		return
	}
	text, ok := t.run.x.reader.Shown(&t.run.st.step.Input, rs, i)
	c.After = append(c.After, tappedText(text, ok, view.tap.RowBytes))
}

// eachMade calls f for each row of rs that was made of a copied row, or is one, with its place in rs. The rows of a copied row come one after the
// other, in the order in which they were made.
func (t *tapping) eachMade(view *tapView, rs *rows.Set, f func(c tapCopy, i int)) {
	var chain []*rows.Set // from rs back to the Set before which the rows entered
	at := rs
	for ; at != nil && at != t.entered; at = at.Prev {
		chain = append(chain, at)
	}
	if at == nil {
		return
	}
	type made struct{ copy, place uint32 }
	found := make([]made, len(view.rows))
	for k, c := range view.rows {
		found[k] = made{uint32(k), c.place}
	}
	for _, set := range slices.Backward(chain) {
		if set.Parents == nil {
			continue
		}
		var next []made
		if slices.IsSorted(set.Parents) {
			for _, m := range found {
				i, _ := slices.BinarySearch(set.Parents, m.place)
				for ; i < len(set.Parents) && set.Parents[i] == m.place; i++ {
					next = append(next, made{m.copy, uint32(i)})
				}
			}
		} else {
			of := make(map[uint32]uint32, len(found))
			for _, m := range found {
				of[m.place] = m.copy
			}
			for i, p := range set.Parents {
				if k, ok := of[p]; ok {
					next = append(next, made{k, uint32(i)})
				}
			}
			slices.SortStableFunc(next, func(a, b made) int { return cmp.Compare(a.copy, b.copy) })
		}
		found = next
	}
	for _, m := range found {
		f(view.rows[m.copy], int(m.place))
	}
}

// each calls f with the copies of row i of rs: one for each tap that has copied the row, or the row that it was made of.
func (t *tapping) each(rs *rows.Set, i uint32, f func(c tapCopy)) {
	if t.entered == nil {
		return
	}
	defer t.survive()
	for rs != t.entered {
		if rs.Parents != nil {
			i = rs.Parents[i]
		}
		if rs = rs.Prev; rs == nil {
			return
		}
	}
	for v := range t.views {
		list := t.views[v].rows
		if k, ok := slices.BinarySearchFunc(list, i, func(c tapCopy, place uint32) int { return cmp.Compare(c.place, place) }); ok {
			f(list[k])
		}
	}
}

// ends notes that the run ends in the function under way, with the outcome o for all rows that have not ended.
func (t *tapping) ends(o batch.RowOutcome) { t.halted = &o }

// ended notes that row i of rs has ended with o.
func (t *tapping) ended(rs *rows.Set, i uint32, o batch.RowOutcome) {
	t.each(rs, i, func(c tapCopy) { c.Became, c.Outcome = Ended, o })
}

// parked notes that rows of rs were set aside.
func (t *tapping) parked(rs *rows.Set, parked []parkedRow) {
	for _, p := range parked {
		t.each(rs, p.row, func(c tapCopy) { c.Became = Waits })
	}
}

// jumped notes that a row of rs jumps to another function.
func (t *tapping) jumped(rs *rows.Set, row int, to string) {
	t.each(rs, uint32(row), func(c tapCopy) { c.Became, c.To = Jumped, to })
}

// leave shows the copied rows, because the function has done its work with all rows that entered.
func (t *tapping) leave() {
	if t.entered == nil {
		return
	}
	defer t.survive()
	for v := range t.views {
		view := &t.views[v]
		began := time.Now()
		for _, c := range view.rows {
			if c.Became == "" {
				if c.Became = Passed; t.halted != nil && len(c.After) == 0 {
					c.Became, c.Outcome = Ended, *t.halted
				}
			}
			t.show(view, c)
		}
		view.tap.Spent(view.spent + time.Since(began))
	}
	t.entered = nil
	clear(t.views)
}

// show hands a copied row to its tap.
func (t *tapping) show(view *tapView, c tapCopy) {
	if len(c.After) == 1 && !c.OfBatch && !c.Before.Withheld && c.Before.Size == c.After[0].Size && bytes.Equal(c.Before.Data, c.After[0].Data) {
		c.After, c.Unchanged = nil, true
	}
	view.tap.Show(c.TappedRow)
}

// blamed shows the copies of those rows of rs, at the given places, that end with o because the function does not return. The other copied rows
// are not shown: another goroutine goes on with their rows.
func (t *tapping) blamed(rs *rows.Set, places []int, o batch.RowOutcome) {
	if t.entered == nil {
		return
	}
	defer t.survive()
	for _, i := range places {
		if i >= 0 {
			t.ended(rs, uint32(i), o)
		}
	}
	for v := range t.views {
		for _, c := range t.views[v].rows {
			if c.Became == Ended {
				t.show(&t.views[v], c)
			}
		}
	}
	t.entered = nil
}
