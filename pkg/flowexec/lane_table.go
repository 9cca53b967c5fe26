package flowexec

import (
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// laneTable has the lanes of a flow by their place. There are size places, each with an equal range of the slots. The lane of a place is
// made when there are rows for it.
//
// When Resize changes the size, most keys get another lane:
//
//  1. Work that has not begun goes to the new lanes at once.
//  2. Rows of a key that run in the old lane, or are parked there, stay there. Until these have ended the old lane is the key's old owner,
//     and later rows of the key wait in the old lane's waitingForKeys.
//  3. A lane that has no place any more is leaving: it closes when it has nothing left.
//
// Locks: laneTable.mu is taken before lane.mu.
type laneTable struct {
	mu        sync.RWMutex
	size      int              // how many places there are; guarded by mu
	lanes     map[int]*lane    // the lane of each place that has one; guarded by mu
	leaving   []*lane          // lanes without a place, which may still have rows; guarded by mu
	oldOwners map[uint64]*lane // the old owner of each key that has one; guarded by mu
	closed    bool             // says that no more lanes are made; guarded by mu

	// unsettled says that there are lanes in leaving, or keys in oldOwners. It is set under mu, and read without it.
	unsettled atomic.Bool
}

// enqueueKeyed cuts work with keys by lane, and queues each piece in the lane of its rows. It returns the works that could not be queued,
// for the caller to give back. All of them are counted in pending, those that are returned too.
func (l *Lanes) enqueueKeyed(w *work) (back []*work) {
	t := &l.table
	t.mu.RLock()
	if len(t.oldOwners) == 0 {
		works := w.split(t.size)
		if there := !slices.ContainsFunc(works, func(w placedWork) bool { return t.lanes[w.place] == nil }); there {
			for _, w := range works {
				if !l.pending.begin() || !t.lanes[w.place].enqueue(w.work) {
					back = append(back, w.work)
				}
			}
			t.mu.RUnlock()
			return back
		}
	}
	t.mu.RUnlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !l.pending.begin() || t.closed {
		return []*work{w}
	}
	return l.route(w)
}

// route puts work into the queues of the lanes of its rows, and makes these lanes if they are missing. Rows whose key has an old owner go
// into that lane's waitingForKeys instead. The work is counted in pending already. route returns the works that closed lanes did not take.
// The caller holds laneTable.mu for writing.
func (l *Lanes) route(w *work) (back []*work) {
	t := &l.table
	n := 0
	count := func() { // the first one is counted already
		if n++; n > 1 {
			l.pending.more()
		}
	}
	if len(t.oldOwners) > 0 {
		var rest []rows.PartRow
		held := make(map[*lane][]rows.PartRow)
		for i := range rows.RunRow(w.len()) {
			row := w.row(i)
			if ln := t.oldOwners[w.in.columns.Keys[row]]; ln != nil {
				held[ln] = append(held[ln], row)
			} else {
				rest = append(rest, row)
			}
		}
		for ln, list := range held {
			count()
			ln.waitingForKeys = append(ln.waitingForKeys, w.some(list))
		}
		switch {
		case rest == nil:
			return nil
		case len(held) > 0:
			w = w.some(rest)
		}
	}
	for _, w := range w.split(t.size) {
		count()
		if !l.laneAt(w.place).enqueue(w.work) {
			back = append(back, w.work)
		}
	}
	return back
}

// laneAt returns the lane of a place, and makes it if it is missing. The caller holds laneTable.mu for writing.
func (l *Lanes) laneAt(place int) *lane {
	ln := l.table.lanes[place]
	if ln == nil {
		ln = newLane(l, place)
		l.table.lanes[place] = ln
		l.wg.Add(1)
		ln.start(nil)
	}
	return ln
}

// isFull reports whether no more lanes may be made: all places have one, or the table is closed. The caller holds mu.
func (t *laneTable) isFull() bool { return t.closed || len(t.lanes) >= t.size }

// freePlace returns a place that has no lane. It is not always the next one, because rows with keys make lanes at any place. The table is
// not full, and the caller holds mu.
func (t *laneTable) freePlace() int {
	place := len(t.lanes)
	for t.lanes[place] != nil {
		place = (place + 1) % t.size
	}
	return place
}

// startOneMore starts one more lane, for a part without keys, if the table is not full.
func (l *Lanes) startOneMore() {
	t := &l.table
	t.mu.RLock()
	full := t.isFull()
	t.mu.RUnlock()
	if full {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.isFull() {
		l.laneAt(t.freePlace())
	}
}

// all returns all lanes, also those that are leaving.
func (l *Lanes) all() []*lane {
	l.table.mu.RLock()
	defer l.table.mu.RUnlock()
	return l.table.all()
}

// all returns all lanes, also those that are leaving. The caller holds mu.
func (t *laneTable) all() []*lane {
	all := make([]*lane, 0, len(t.lanes)+len(t.leaving))
	for _, ln := range t.lanes {
		all = append(all, ln)
	}
	return append(all, t.leaving...)
}

// Copies returns how many lanes there may be.
func (l *Lanes) Copies() int {
	l.table.mu.RLock()
	defer l.table.mu.RUnlock()
	return l.table.size
}

// Resize changes how many lanes there may be; 0 or less means GOMAXPROCS. Rows that have not begun go to the new lanes at once, so that
// these work beside the runs that are under way. A lane that has no place any more ends when its run has ended, and the rows that are
// parked there; Resize does not wait for that. Resize may be called at any time.
func (l *Lanes) Resize(copies int) {
	l.pending.giveBack(l.resize(laneCount(copies)))
}

// laneCount returns the number of lanes that a configuration's number stands for: 0 or less means GOMAXPROCS, and any other number stands
// for itself.
func laneCount(copies int) int {
	if copies <= 0 {
		return runtime.GOMAXPROCS(0)
	}
	return copies
}

// resize changes how many lanes there may be to size, and moves queued work to the lanes where it belongs then. It returns the works that
// closed lanes did not take, for the caller to give back.
func (l *Lanes) resize(size int) (back []*work) {
	t := &l.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || size == t.size {
		return nil
	}
	// unsettled is set before vacate looks at the lanes: a lane whose run ends meanwhile is either asked after its run has ended, or finds
	// unsettled set (lane.pick) and settles its keys.
	t.unsettled.Store(true)
	t.size = size
	var works []*work
	oldOwners := make(map[uint64]*lane)
	for place, ln := range t.lanes {
		works = append(works, ln.vacate(place, size, oldOwners)...)
		if place >= size {
			delete(t.lanes, place)
			t.leaving = append(t.leaving, ln)
		}
	}
	for _, ln := range t.leaving {
		works = append(works, ln.vacate(-1, size, oldOwners)...)
	}
	// A key has rows either in a queue or in waitingForKeys, not in both, so that the order of rows stays.
	for _, ln := range append(slices.Collect(maps.Values(t.lanes)), t.leaving...) {
		works = append(works, ln.waitingForKeys...)
		ln.waitingForKeys = nil
	}
	if len(oldOwners) > 0 {
		pointOldOwner.Hit()
	}
	t.oldOwners = oldOwners
	for _, w := range works {
		back = append(back, l.route(w)...)
	}
	for n := l.keyless.len(); n > 0 && len(t.lanes) < size; n-- {
		l.laneAt(t.freePlace())
	}
	t.unsettled.Store(len(t.oldOwners) > 0 || len(t.leaving) > 0)
	return back
}

// vacate takes out the lane's queue, which goes to the lanes of the new size. It adds to oldOwners the keys whose rows run or are parked in
// the lane, and that belong to another lane from now on. size is the new number of places, and place is the lane's place, or -1 if it has
// none. A lane without a place below size is leaving from now on.
func (ln *lane) vacate(place, size int, oldOwners map[uint64]*lane) []*work {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	queue := ln.queue
	ln.queue = nil
	note := func(key uint64) {
		if laneOf(key, size) != place {
			oldOwners[key] = ln
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
	if place < 0 || place >= size {
		ln.leaving = true
		ln.changed.Signal()
	}
	return queue
}

// settleKeys is called when rows have ended in a lane, or were given back. After a Resize the lane may be the old owner of keys: those of
// which it has no rows any more get their new lane, and the work that waited for them is queued there.
func (l *Lanes) settleKeys(ln *lane) {
	if l.table.unsettled.Load() {
		l.pending.giveBack(l.settleKeysOf(ln))
	}
}

// settleKeysOf does the work of settleKeys, under the table's lock: it takes keys that the lane has no rows of out of oldOwners, and queues
// the works of waitingForKeys. It also drops closed lanes from leaving. It returns the works that closed lanes did not take, for the caller
// to give back.
func (l *Lanes) settleKeysOf(ln *lane) (back []*work) {
	t := &l.table
	t.mu.Lock()
	defer t.mu.Unlock()
	ln.mu.Lock()
	if ln.current == nil {
		for key, owner := range t.oldOwners {
			if owner == ln && ln.parked.keys[key] == nil {
				delete(t.oldOwners, key)
			}
		}
	}
	ln.mu.Unlock()
	waiting := ln.waitingForKeys
	ln.waitingForKeys = nil
	for _, w := range waiting {
		pointCaughtUp.Hit()
		back = append(back, l.route(w)...)
	}
	t.leaving = slices.DeleteFunc(t.leaving, func(ln *lane) bool {
		ln.mu.Lock()
		defer ln.mu.Unlock()
		return ln.closed
	})
	t.unsettled.Store(len(t.oldOwners) > 0 || len(t.leaving) > 0)
	return back
}

// release takes the rows that a Release asks for out of all lanes. It returns all lanes, and the works and groups to give back. It holds
// the table's lock for writing, so that no work changes its lane meanwhile.
func (l *Lanes) release(c releaseRequest) (lanes []*lane, back []*work, parked []*group) {
	t := &l.table
	t.mu.Lock()
	defer t.mu.Unlock()
	lanes = t.all()
	for _, ln := range lanes {
		works, groups := ln.release(c)
		back, parked = append(back, works...), append(parked, groups...)
		ln.waitingForKeys, back = l.pending.cut(ln.waitingForKeys, c, back)
	}
	return lanes, back, parked
}

// closeTable closes the table, so that no more lanes are made. It returns all lanes, and takes out and returns the works that wait for keys
// of old owners.
func (l *Lanes) closeTable() (lanes []*lane, back []*work) {
	t := &l.table
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	lanes = t.all()
	for _, ln := range lanes {
		back = append(back, ln.waitingForKeys...)
		ln.waitingForKeys = nil
	}
	return lanes, back
}
