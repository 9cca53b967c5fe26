package flowexec

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// Stage says where a row is that has not ended.
type Stage string

// The stages of a row.
const (
	// Running means that the row is in a run that its lane executes.
	Running Stage = "running"
	// Entering means that the lane has taken the row and waits in Part.Enter, for memory or for its turn to run alone.
	Entering Stage = "entering"
	// Parked means that the row was set aside until something happens; Location.Wait says which thing.
	Parked Stage = "parked"
	// Queued means that the row waits for its lane.
	Queued Stage = "lane"
)

// Wait is the kind of thing that a parked row waits for.
type Wait string

// The kinds of things that rows wait for.
const (
	// ForOrder means that the row waits for earlier rows of its key.
	ForOrder Wait = "order"
	// ForRetry means that the row waits for the time of its function's next attempt.
	ForRetry Wait = "retry"
	// ForKey means that the row waits until a key is saved.
	ForKey Wait = "key"
	// ForSave means that the row waits until something is saved through its connector, or for the time of its next attempt.
	ForSave Wait = "save"
	// ForStore means that the row waits for its connector's answer, or for the time of the next call to a store that could not be reached.
	ForStore Wait = "store"
	// ForTurn means that the row waits only for its lane: its wait for something else is over.
	ForTurn Wait = "turn"
)

// Location is the place of one row on its way through the lanes, and the thing that it waits for.
type Location struct {
	// Part is the part that Enqueue was given. Row is the row's number in that part.
	Part  *Part
	Row   uint32
	Stage Stage
	// Lane is the number of the row's lane, from 0.
	Lane int
	// Function is the name of the function that the row is parked in, or that its run calls now. It is empty if there is none.
	Function string
	// Rows is how many rows are in the same run, if the row is Running or Entering.
	Rows int
	// Wait is set for parked rows. Connector, Key and Attempt say more where they apply: the connector, the whole key in it, and the number
	// of the next attempt.
	Wait           Wait
	Connector, Key string
	Attempt        uint32
	// Since is when the row came to this stage. The zero value means when its part came.
	Since time.Time
	// Due is when the wait ends at the latest. The zero value means that this is open.
	Due time.Time
}

// StageCount is a key of the map in which Locate counts rows.
type StageCount struct {
	Stage Stage
	// Mine is what the function mine, which Locate is given, says of the rows' parts.
	Mine bool
}

// Locate finds the rows with a shard key that have not ended, for somebody who asks why the key does not move. key is the key's hash. The
// rows that others wait for come first. Locate returns at most limit locations, and in counts the number of all rows of the key. mine
// reports whether a part belongs to the caller, for StageCount.Mine; it must not call the lanes.
//
// Locate may be called at any time. It finds parked rows by their key. It copies the list of queued works under the lane's lock, and looks
// through their rows afterwards.
func (l *Lanes) Locate(key uint64, limit int, mine func(*Part) bool) (found []Location, counts map[StageCount]int) {
	t := &l.table
	q := locator{key: key, limit: limit, mine: mine, start: l.clock.start, counts: map[StageCount]int{}}
	t.mu.RLock()
	var works []work
	lanes := []*lane{t.oldOwners[key], t.lanes[laneOf(key, t.size)]} // an old owner has the older rows
	for i, ln := range lanes {
		if ln == nil || i == 1 && ln == lanes[0] {
			continue
		}
		works = append(works, q.look(ln)...)
		for _, w := range ln.waitingForKeys {
			works = append(works, *w)
		}
	}
	t.mu.RUnlock()
	for i := range works {
		q.addRun(&works[i], Location{Stage: Queued, Lane: laneOf(key, l.Copies())})
	}
	return q.found, q.counts
}

// locator gathers the locations of the rows of one key, for one call of Locate.
type locator struct {
	key    uint64
	limit  int
	mine   func(*Part) bool
	start  time.Time // when the lanes' clock was started
	found  []Location
	counts map[StageCount]int
}

// look adds those rows of the key that run in a lane or are parked there. It returns copies of all works that are queued in the lane,
// whatever their keys.
func (q *locator) look(ln *lane) (queued []work) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if w := ln.current; w != nil {
		at := Location{Stage: Running, Lane: ln.index, Rows: w.len(), Since: q.start.Add(ln.currentSince)}
		if ln.entering.Load() {
			at.Stage = Entering
		} else if ln.exec != nil {
			at.Function = ln.exec.calling()
		}
		q.addRun(w, at)
	}
	ahead := len(q.counts) > 0
	for g := ln.parked.keys[q.key]; g != nil; g = g.next {
		if g.state == groupParked || g.state == groupReady {
			q.addParked(g, ln.index, ahead)
			ahead = true
		}
	}
	for _, w := range ln.queue {
		queued = append(queued, *w)
	}
	return queued
}

// addRun adds those rows of a work that have the key. at is the location of all of them; addRun fills in the part and the row.
func (q *locator) addRun(w *work, at Location) {
	keys := w.in.columns.Keys
	if len(keys) == 0 {
		return
	}
	at.Part = w.part.enqueued()
	for i := range rows.RunRow(w.len()) {
		row := w.row(i)
		if keys[row] != q.key {
			continue
		}
		if at.Row = uint32(row); w.from != nil {
			at.Row = uint32(w.from.rows[row])
		}
		q.add(at)
	}
}

// add counts the row of a location by its stage, and appends the location to found unless there are limit already.
func (q *locator) add(at Location) {
	q.counts[StageCount{at.Stage, q.mine(at.Part)}]++
	if len(q.found) < q.limit {
		q.found = append(q.found, at)
	}
}

// addParked adds the rows of a parked group of the key. lane is the lane's number. ahead says that there are earlier rows of the key. If
// there are none, the group's first row waits for something, and the others wait for it. The caller holds lane.mu.
func (q *locator) addParked(g *group, lane int, ahead bool) {
	p := g.parcel
	s := p.part.Plan.steps[g.step]
	for i, row := range g.rows() {
		at := Location{
			Part: p.part.enqueued(), Row: uint32(p.rows[row]), Stage: Parked, Lane: lane, Function: s.Name, Since: q.start.Add(p.since), Wait: ForOrder,
		}
		if i == 0 && !ahead {
			q.addWait(&at, g, s)
		}
		q.add(at)
	}
}

// addWait sets the fields of a location that say what its row waits for: Wait, Connector, Key, Attempt and Due. The row is the first one
// of the group g, which is the first group of its key, and s is the group's step. The caller holds lane.mu.
func (q *locator) addWait(at *Location, g *group, s *step) {
	p := g.parcel
	if g.state == groupReady || !g.waiting {
		at.Wait = ForTurn
		return
	}
	if g.due != never {
		at.Due = q.start.Add(g.due)
	}
	_, hears := p.saveWaits[g]
	h, keeps := g.hold()
	switch {
	case g.wantedKey != "":
		at.Wait, at.Key = ForKey, s.connector.Key+g.wantedKey
	case hears:
		at.Wait = ForSave
	case p.asks[g] != nil || keeps:
		at.Wait = ForStore
	default:
		at.Wait, at.Attempt = ForRetry, max(h.attempt, 1)
	}
	if s.connector != nil && at.Wait != ForRetry {
		at.Connector = s.connector.Name
	}
}
