package flowexec

import (
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
)

// This file tells where the rows of one key stand, for somebody who asks why the key does not move. What is parked is found by its
// key; what is queued is looked through without holding up the lane.

// Stage is how far a row has come that has not ended.
type Stage string

// The stages of a row.
const (
	// Running: it is in a run that its lane executes.
	Running Stage = "running"
	// Entering: its lane has taken it, and waits for leave to run it: for room for what functions make, or to run alone.
	Entering Stage = "entering"
	// Parked: it was set aside; Wait says what for.
	Parked Stage = "parked"
	// Queued: it waits for its lane.
	Queued Stage = "lane"
)

// Wait is what a parked row waits for.
type Wait string

// What rows wait for.
const (
	// ForOrder: for rows of its key that are before it.
	ForOrder Wait = "order"
	// ForRetry: for the time of its function's next attempt.
	ForRetry Wait = "retry"
	// ForKey: for the Save of a key.
	ForKey Wait = "key"
	// ForSave: for any Save through its connector, or the next look at it.
	ForSave Wait = "save"
	// ForStore: for its connector's answer, or for the next try of a connector that is away.
	ForStore Wait = "store"
	// ForTurn: for its lane; what it waited for has happened.
	ForTurn Wait = "turn"
)

// Location is where a row stands.
type Location struct {
	// Part is the part as Enqueue was given it, Row a row of it.
	Part  *Part
	Row   uint32
	Stage Stage
	Lane  int
	// Function is the one that the row is parked in, or that its run calls now; empty: none.
	Function string
	// Rows is how many rows its run has, where it is Running or Entering.
	Rows int
	// Wait, and what it is about: the connector, the whole key in it, and the number of the attempt to come; zero where there is none.
	Wait           Wait
	Connector, Key string
	Attempt        uint32
	// Since is when it came to this stage; zero: when its part came. Due is until when it waits; zero: that is open.
	Since, Due time.Time
}

// StageCount is rows in one stage, of parts that mine says yes to, or of the others.
type StageCount struct {
	Stage Stage
	Mine  bool
}

// Locate tells where the rows with the key stand, those first that others wait for, at most so many, and how many there are in
// each stage. It may be called at any time, and holds up a lane no longer than it takes to copy its queue's list. mine must not
// call the lanes.
func (l *Lanes) Locate(key uint64, most int, mine func(*Part) bool) (stands []Location, counts map[StageCount]int) {
	p := &l.table
	q := locator{key: key, limit: most, mine: mine, counts: map[StageCount]int{}}
	p.mu.RLock()
	var works []work
	lanes := []*lane{p.oldOwners[key], p.lanes[laneOf(key, p.size)]} // who has rows of it that are older comes first
	for i, ln := range lanes {
		if ln == nil || i == 1 && ln == lanes[0] {
			continue
		}
		works = append(works, q.look(ln)...)
		for _, w := range ln.waitingForKeys {
			works = append(works, *w)
		}
	}
	p.mu.RUnlock()
	for i := range works {
		q.addRun(&works[i], Location{Stage: Queued, Lane: laneOf(key, l.Copies())})
	}
	return q.found, q.counts
}

// locator gathers where the rows of a key stand.
type locator struct {
	key    uint64
	limit  int
	mine   func(*Part) bool
	found  []Location
	counts map[StageCount]int
}

// look looks at what the lane runs and what is parked there, and returns what is queued.
func (q *locator) look(ln *lane) (queued []work) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if w := ln.current; w != nil {
		at := Location{Stage: Running, Lane: ln.index, Rows: w.len(), Since: ln.lanes.began.Add(ln.currentSince)}
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
			q.addParked(g, ahead)
			ahead = true
		}
	}
	for _, w := range ln.queue {
		queued = append(queued, *w)
	}
	return queued
}

// calling is the function that the executor calls now; empty: none.
func (x *executor) calling() string {
	x.guard.mu.Lock()
	defer x.guard.mu.Unlock()
	if !x.guard.calling || x.guard.step == nil {
		return ""
	}
	return x.guard.step.name
}

// addRun adds the rows of a run that have the key.
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

func (q *locator) add(at Location) {
	q.counts[StageCount{at.Stage, q.mine(at.Part)}]++
	if len(q.found) < q.limit {
		q.found = append(q.found, at)
	}
}

// addParked adds the rows of a parked group. The first one waits for something; the others are behind it, and so are all where rows
// of the key are ahead. The caller holds lane.mu.
func (q *locator) addParked(g *group, ahead bool) {
	p := g.parcel
	s := p.part.Plan.steps[g.step]
	began := p.lane.lanes.began
	for i, row := range g.rows() {
		at := Location{
			Part: p.part.enqueued(), Row: uint32(p.rows[row]), Stage: Parked, Lane: p.lane.index, Function: s.name, Since: began.Add(p.since), Wait: ForOrder,
		}
		if i == 0 && !ahead {
			g.waitsFor(&at)
		}
		q.add(at)
	}
}

// waitsFor says what a group waits for that is the first of its key. The caller holds lane.mu.
func (g *group) waitsFor(at *Location) {
	p := g.parcel
	if g.state == groupReady || !g.waiting {
		at.Wait = ForTurn
		return
	}
	if g.due != never {
		at.Due = p.lane.lanes.began.Add(g.due)
	}
	s := p.part.Plan.steps[g.step]
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

// hold is what the group's first row took along, and whether its function has run and its connector is to be asked.
func (g *group) hold() (h hold, keeps bool) {
	first := g.rows()[0]
	for _, packed := range g.parcel.sets[g.step] {
		if i, ok := slices.BinarySearch(packed.origins, first); ok {
			return holdOf(packed.set, i), keptOf(packed.set, i) != nil
		}
	}
	return hold{}, false
}

// BatchRow is the place in the batch of a row of a part that Enqueue was given.
func (p *Part) BatchRow(row uint32) uint32 { return uint32(p.place(rows.PartRow(row))) }
