package flowexec

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// laneTable are where the lanes of a flow stand: each has an equal range of the slots. A lane is made when there are rows for it.
//
// When their number changes, most keys get another lane. What has not begun goes there at once. Rows of a key that its old
// lane still runs, or that are parked there, stay; rows behind them wait until the old lane has none of that key.
type laneTable struct {
	mu        sync.RWMutex
	size      int              // guarded by mu
	lanes     map[int]*lane    // guarded by mu: by place
	leaving   []*lane          // guarded by mu: those without a place, which may still have rows
	oldOwners map[uint64]*lane // guarded by mu: the keys that another lane than theirs has
	closed    bool             // guarded by mu: no lane is made any more

	unsettled atomic.Bool // there is somebody in leaves, or a key in away
}

// enqueueKeyed hands a run, counted in or not, to the lanes of its rows. It returns what they do not take.
func (l *Lanes) enqueueKeyed(w *work) (back []*work) {
	p := &l.table
	p.mu.RLock()
	if len(p.oldOwners) == 0 {
		works := w.split(p.size)
		if there := !slices.ContainsFunc(works, func(w placed) bool { return p.lanes[w.place] == nil }); there {
			for _, w := range works {
				if !l.begin() || !p.lanes[w.place].enqueue(w.work) {
					back = append(back, w.work)
				}
			}
			p.mu.RUnlock()
			return back
		}
	}
	p.mu.RUnlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !l.begin() || p.closed {
		return []*work{w}
	}
	return l.route(w)
}

// route places a run that is counted in. It must be called with places.mu held.
func (l *Lanes) route(w *work) (back []*work) {
	p := &l.table
	n := 0
	count := func() {
		if n++; n > 1 {
			l.alsoPending()
		}
	}
	if len(p.oldOwners) > 0 {
		var rest []rows.PartRow
		behind := make(map[*lane][]rows.PartRow)
		for i := range rows.RunRow(w.len()) {
			row := w.row(i)
			if ln := p.oldOwners[w.in.columns.Keys[row]]; ln != nil {
				behind[ln] = append(behind[ln], row)
			} else {
				rest = append(rest, row)
			}
		}
		for ln, held := range behind {
			count()
			ln.waitingForKeys = append(ln.waitingForKeys, &work{part: w.part, in: w.in, rows: held})
		}
		switch {
		case rest == nil:
			return nil
		case len(behind) > 0:
			w = &work{part: w.part, in: w.in, rows: rest}
		}
	}
	for _, w := range w.split(p.size) {
		count()
		if !l.laneAt(w.place).enqueue(w.work) {
			back = append(back, w.work)
		}
	}
	return back
}

// laneAt is the lane of a place; it is made where there is none yet. It must be called with places.mu held.
func (l *Lanes) laneAt(place int) *lane {
	ln := l.table.lanes[place]
	if ln == nil {
		ln = &lane{lanes: l, index: place}
		ln.ready.L = &ln.mu
		l.table.lanes[place] = ln
		l.wg.Add(1)
		ln.start(nil)
	}
	return ln
}

// oneMore makes one more lane, if there may be more.
func (l *Lanes) oneMore() {
	p := &l.table
	p.mu.RLock()
	full := p.closed || len(p.lanes) >= p.size
	p.mu.RUnlock()
	if full {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.lanes) >= p.size {
		return
	}
	place := len(p.lanes)
	for p.lanes[place] != nil { // parts with keys came, too
		place = (place + 1) % p.size
	}
	l.laneAt(place)
}

// all are the lanes that there are.
func (l *Lanes) all() []*lane {
	p := &l.table
	p.mu.RLock()
	defer p.mu.RUnlock()
	all := make([]*lane, 0, len(p.lanes)+len(p.leaving))
	for _, ln := range p.lanes {
		all = append(all, ln)
	}
	return append(all, p.leaving...)
}

// Copies is how many lanes there may be.
func (l *Lanes) Copies() int {
	l.table.mu.RLock()
	defer l.table.mu.RUnlock()
	return l.table.size
}

// Resize changes how many lanes there may be; 0: GOMAXPROCS. What has not begun goes to them at once, so that more of them run beside
// what is under way. A lane whose place is no more ends when what it runs has ended, and what is parked there. Resize does not
// wait for that. It may be called at any time.
func (l *Lanes) Resize(copies int) {
	l.giveBack(l.resize(laneCount(copies)))
}

func (l *Lanes) resize(copies int) (back []*work) {
	p := &l.table
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || copies == p.size {
		return nil
	}
	// First: a lane whose run ends now either has none of its keys any more when it is asked below, or finds this set and turns.
	p.unsettled.Store(true)
	p.size = copies
	var works []*work
	away := make(map[uint64]*lane)
	for place, ln := range p.lanes {
		works = append(works, ln.vacate(place, copies, away)...)
		if place >= copies {
			delete(p.lanes, place)
			p.leaving = append(p.leaving, ln)
		}
	}
	for _, ln := range p.leaving {
		works = append(works, ln.vacate(-1, copies, away)...)
	}
	// In what waits for a key nothing stands before what was queued.
	for _, ln := range append(slices.Collect(maps.Values(p.lanes)), p.leaving...) {
		works = append(works, ln.waitingForKeys...)
		ln.waitingForKeys = nil
	}
	p.oldOwners = away
	for _, w := range works {
		back = append(back, l.route(w)...)
	}
	for n := l.keyless.len(); n > 0 && len(p.lanes) < copies; n-- {
		place := len(p.lanes)
		for p.lanes[place] != nil {
			place = (place + 1) % copies
		}
		l.laneAt(place)
	}
	p.unsettled.Store(len(p.oldOwners) > 0 || len(p.leaving) > 0)
	return back
}

// vacate empties the lane's queue, which goes elsewhere, and notes the keys that it has and that are not its own any more. A
// lane without a place ends when it has nothing left.
func (ln *lane) vacate(place, copies int, away map[uint64]*lane) []*work {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	queue := ln.queue
	ln.queue = nil
	note := func(key uint64) {
		if laneOf(key, copies) != place {
			away[key] = ln
		}
	}
	if w := ln.current; w != nil && len(w.in.columns.Keys) > 0 {
		for i := range rows.RunRow(w.len()) {
			note(w.in.columns.Keys[w.row(i)])
		}
	}
	for key := range ln.parked.keys {
		note(key)
	}
	if place < 0 || place >= copies {
		ln.leaving = true
		ln.ready.Signal()
	}
	return queue
}

// settleKeys lets the keys go that the lane does not have any more, and places what waited for them.
func (l *Lanes) settleKeys(ln *lane) {
	if l.table.unsettled.Load() {
		l.giveBack(l.settleKeysOf(ln))
	}
}

func (l *Lanes) settleKeysOf(ln *lane) (back []*work) {
	p := &l.table
	p.mu.Lock()
	defer p.mu.Unlock()
	ln.mu.Lock()
	if ln.current == nil {
		for key, at := range p.oldOwners {
			if at == ln && ln.parked.keys[key] == nil {
				delete(p.oldOwners, key)
			}
		}
	}
	ln.mu.Unlock()
	behind := ln.waitingForKeys
	ln.waitingForKeys = nil
	for _, w := range behind {
		back = append(back, l.route(w)...)
	}
	p.leaving = slices.DeleteFunc(p.leaving, func(ln *lane) bool {
		ln.mu.Lock()
		defer ln.mu.Unlock()
		return ln.closed
	})
	p.unsettled.Store(len(p.oldOwners) > 0 || len(p.leaving) > 0)
	return back
}

// release takes out of all lanes what a Release asks for. Nothing changes its lane meanwhile.
func (l *Lanes) release(c releaseRequest) (lanes []*lane, back []*work, parked []*group) {
	p := &l.table
	p.mu.Lock()
	defer p.mu.Unlock()
	lanes = append(slices.Collect(maps.Values(p.lanes)), p.leaving...)
	for _, ln := range lanes {
		works, groups := ln.release(c)
		back, parked = append(back, works...), append(parked, groups...)
		ln.waitingForKeys, back = l.cut(ln.waitingForKeys, c, back)
	}
	return lanes, back, parked
}

// cut parts queued runs in those that stay and those that go; the latter are appended to back.
func (l *Lanes) cut(queue []*work, c releaseRequest, back []*work) (kept, gone []*work) {
	kept = queue[:0]
	for _, w := range queue {
		stays, goes := w, (*work)(nil)
		if c.includesPart(w.part) {
			stays, goes = w.cut(c)
		}
		if goes != nil {
			back = append(back, goes)
		}
		if stays != nil {
			kept = append(kept, stays)
		}
		if stays != nil && goes != nil {
			l.alsoPending()
		}
	}
	clear(queue[len(kept):])
	return kept, back
}

// closeTable ends the making of lanes. It returns those that there are, and what waits for keys.
func (l *Lanes) closeTable() (lanes []*lane, back []*work) {
	p := &l.table
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	lanes = l.all()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ln := range lanes {
		back = append(back, ln.waitingForKeys...)
		ln.waitingForKeys = nil
	}
	return lanes, back
}

// placed is a run and its place.
type placed struct {
	*work
	place int
}

// splitFew is split where places are few: it counts the rows of each.
func (w *work) splitFew(copies int) []placed {
	keys, n := w.in.columns.Keys, w.len()
	counts := make([]uint32, copies)
	for i := range rows.RunRow(n) {
		counts[laneOf(keys[w.row(i)], copies)]++
	}
	all, at := make([]rows.PartRow, n), make([][]rows.PartRow, copies)
	for place, count := range counts {
		at[place], all = all[:0:count], all[count:]
	}
	for i := range rows.RunRow(n) {
		row := w.row(i)
		place := laneOf(keys[row], copies)
		at[place] = append(at[place], row)
	}
	works := make([]placed, 0, min(n, copies))
	for place, list := range at {
		if len(list) > 0 {
			works = append(works, placed{&work{part: w.part, in: w.in, rows: list}, place})
		}
	}
	return works
}

// split makes a run of the rows of each place.
func (w *work) split(copies int) []placed {
	keys := w.in.columns.Keys
	n := w.len()
	first := laneOf(keys[w.row(0)], copies)
	same := 1
	for same < n && laneOf(keys[w.row(rows.RunRow(same))], copies) == first {
		same++
	}
	if same == n {
		return []placed{{w, first}}
	}
	if copies <= max(n, 64) {
		return w.splitFew(copies)
	}
	// Sorted by place, then row: however many places there are, it costs what the rows cost.
	order := make([]uint64, n)
	for i := range order {
		row := w.row(rows.RunRow(i))
		order[i] = uint64(laneOf(keys[row], copies))<<32 | uint64(row)
	}
	slices.Sort(order)
	list := make([]rows.PartRow, n)
	var works []placed
	for i := 0; i < n; {
		place, from := order[i]>>32, i
		for ; i < n && order[i]>>32 == place; i++ {
			list[i] = rows.PartRow(order[i])
		}
		works = append(works, placed{&work{part: w.part, in: w.in, rows: list[from:i:i]}, int(place)})
	}
	return works
}
