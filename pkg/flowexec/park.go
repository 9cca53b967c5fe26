package flowexec

import (
	"encoding/json"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowcopy"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// This file is how rows of a run with keys are set aside. One row parks, because it waits for a retry or for a Load; what
// its key has behind it in the run goes with it, to stay behind it. At the end of the run they are packed into a parcel,
// copied out of their part, and the lane takes them (park_rows.go) until they are to go on, as a run of their own.

// never is a time that does not come.
const never = time.Duration(math.MaxInt64)

// hold is what a parked row takes along. The zero hold is that of a row which is only behind another.
type hold struct {
	// By the clock of the lanes: since when it waits for its Load, or for a connector that is away, and until when. In a Load
	// in KisFlow's shape due is when it parked: it may go on whenever something is saved.
	since, due time.Duration
	attempt    uint32 // the next one; 0: the first
	load       bool   // it waits for its Load until due, else for a retry at due
}

// group is the parked rows of one key in one parcel. There may be as many as rows: each byte counts.
type group struct {
	parcel *parcel
	// due is when it goes on at the latest, want what it waits for until then, in the connector of step; "": nothing else.
	due       time.Duration
	wantedKey string

	// Guarded by lane.mu once the lane has the parcel.
	next *group // behind it in its key's queue

	nextWaiting *group // waits for the same; guarded by watch.mu

	first, n   uint32 // its rows are these of parcel.byKey
	timerIndex int32  // in the lane's alarms, from 1; 0: in none; guarded by lane.mu, as what follows but step
	waiting    bool   // what it waits for has not happened
	state      groupState
	step       uint16
}

// rows are the group's rows of the parcel, ascending.
func (g *group) rows() []uint32 { return g.parcel.byKey[g.first : g.first+g.n] }

func (g *group) key() uint64 { return g.parcel.part.Columns.Keys[g.parcel.byKey[g.first]] }

// connector is the connector that has what the group waits for.
func (g *group) connector() *definition.Connector { return g.parcel.part.Plan.steps[g.step].connector }

// saveWait is how a group waits for any Save: for those after the first ones, and not before early.
type saveWait struct {
	saves uint64
	early time.Duration
}

type groupState uint8

const (
	groupParked groupState = iota
	groupReady
	groupRunning
	groupGone
)

// parcel is what parked rows of one run share. It does not change, but for what lane.mu guards.
type parcel struct {
	lane *lane
	// part is a part of its own, with the columns and places of these rows; rows are their places in the part they came with.
	part *Part
	rows []uint32
	// sets are the rows by the step that they enter next, each in the order of origins, which count in the parcel.
	sets      [][]*rowset
	groups    []group
	saveWaits map[*group]saveWait // those of groups that wait for any Save through the connector of step, too
	asks      map[*group]*ask     // the calls that groups wait for
	byKey     []uint32            // the rows of each group, one group behind the other
	since     time.Duration       // when they parked
	// What has become of other rows of the same origins, and how much time they have used up.
	notDone []batch.RowOutcome
	dead    []batch.DeadRow
	output  batch.Output
	spent   map[uint32]time.Duration

	heldUpBefore int64    // lane.held when the rows were parked
	left         int      // groups that are not gone; guarded by lane.mu
	ready        []*group // guarded by lane.mu
}

// aside is what a run has set aside so far.
type aside struct {
	groups map[uint64]*asideGroup
	sets   [][]*rowset // by step; origins count in the run
}

// asideGroup is a group that is not packed yet.
type asideGroup struct {
	key       uint64
	first     uint32  // the first origin; what has a later one is behind it
	in        *rowset // where it parked: rows of the same origin in there are behind it too
	due       time.Duration
	wantedKey string
	saveWait  *saveWait
	ask       *ask // that it waits for until then; nil: for none
	step      int
	rows      []uint32 // of the parcel, when it is packed
}

// asideRow is a row of the rows under way that is set aside.
type asideRow struct {
	row  uint32
	hold hold
	kept *kept // nil: nothing
}

// key is that of a row of the run.
func (r *run) key(origin uint32) uint64 { return r.work.in.columns.Keys[r.work.row(origin)] }

// park sets row i of the rows under way aside until h is due. Rows of a key park in descending order of their origins, or
// behind each other.
func (r *run) park(i int, h hold) *asideGroup {
	g := r.asideGroup(r.now.origin[i])
	g.first, g.in = r.now.origin[i], r.now
	g.due, g.wantedKey, g.saveWait, g.ask, g.step = h.due, "", nil, nil, r.step.index
	r.setAside(i, h)
	return g
}

// asideGroup finds or makes the group of a row's key.
func (r *run) asideGroup(origin uint32) *asideGroup {
	if r.aside == nil {
		r.aside = &aside{groups: make(map[uint64]*asideGroup), sets: make([][]*rowset, len(r.plan.steps))}
	}
	key := r.key(origin)
	g := r.aside.groups[key]
	if g == nil {
		g = &asideGroup{key: key, due: never, first: origin}
		r.aside.groups[key] = g
	}
	return g
}

// behind reports whether row i of a rowset has to wait for a parked row of its key.
func (r *run) behind(rs *rowset, i int) bool {
	if r.aside == nil || rs.origin[i] == batch.WholeBatch {
		return false
	}
	g := r.aside.groups[r.key(rs.origin[i])]
	return g != nil && (rs.origin[i] > g.first || rs.origin[i] == g.first && rs == g.in)
}

// setAside takes row i out of the rows under way.
func (r *run) setAside(i int, h hold) {
	r.x.aside = append(r.x.aside, asideRow{uint32(i), h, nil})
	r.x.gone = append(r.x.gone, uint32(i))
}

// parkAll sets all rows under way aside but those lost already.
func (r *run) parkAll(h hold) {
	lost := slices.Clip(r.x.gone)
	for i := range r.now.len() {
		if _, gone := slices.BinarySearch(lost, uint32(i)); gone {
			continue
		}
		if r.behind(r.now, i) {
			r.setAside(i, h)
		} else {
			r.park(i, h)
		}
	}
	slices.Sort(r.x.gone)
}

// keepAside notes the rows of rs that were set aside.
func (r *run) keepAside(rs *rowset) {
	if len(r.x.aside) == 0 {
		return
	}
	rows := r.x.words.take(len(r.x.aside))
	holds := make([]hold, len(rows))
	var keeps []*kept
	for i, a := range r.x.aside {
		rows[i], holds[i] = a.row, a.hold
		if a.kept != nil {
			if keeps == nil {
				keeps = make([]*kept, len(rows))
			}
			keeps[i] = a.kept
		}
	}
	sub := r.x.subset(rs, rows, rs.born)
	if came := sub.came(); came != nil {
		for i := range rows {
			if keeps == nil || keeps[i] == nil { // its function is to be called
				sub.vec.Slice().Index(i).Set(came.Slice().Index(i))
			}
		}
	}
	if sub.holds, sub.beside = holds, nil; keeps != nil {
		sub.beside = &beside{keeps: keeps}
	}
	r.aside.sets[r.step.index] = append(r.aside.sets[r.step.index], sub)
	r.x.aside = r.x.aside[:0]
}

// mayEnter sets those of rs aside that are behind parked ones, or whose time has not come.
func (r *run) mayEnter(rs *rowset) *rowset {
	if r.aside == nil && rs.holds == nil || !r.keyed {
		return rs
	}
	now := r.x.lane.lanes.now()
	began := now - r.x.heldUp
	r.chargeKept(rs, now)
	for i := range rs.len() {
		if rs.holdOf(i).load && r.step.form == kis.FormFaaS {
			if i == 0 || rs.origin[i] != rs.origin[i-1] { // the outputs of one row wait together
				r.charge(rs.origin[i], max(0, began-rs.holds[i].due))
			}
			rs.holds[i].due = now
		}
		switch h := rs.holdOf(i); {
		case rs.keptBy(i) != nil: // its step asks for it
		case r.behind(rs, i):
			r.setAside(i, h)
		case !h.load && h.due > now:
			r.park(i, h)
		}
	}
	if len(r.x.gone) == 0 {
		return rs
	}
	r.keepAside(rs)
	kept := r.x.keep(rs, r.x.gone)
	r.x.gone = r.x.gone[:0]
	return kept
}

// holdOf is what row i brought along.
func (rs *rowset) holdOf(i int) hold {
	if rs.holds == nil {
		return hold{}
	}
	return rs.holds[i]
}

// startBehind sets aside the rows that wait for parked ones of earlier runs.
func (r *run) startBehind(rs *rowset) *rowset {
	if len(r.work.blocked) == 0 {
		return rs
	}
	for _, origin := range r.work.blocked {
		r.asideGroup(origin)
	}
	start := r.part.Start
	r.aside.sets[start] = append(r.aside.sets[start], r.x.subset(rs, r.work.blocked, start))
	return r.x.keep(rs, r.work.blocked)
}

// resume puts the rows of a parcel where they go on.
func (r *run) resume(p *parcel) {
	for k, sets := range p.sets {
		for _, rs := range sets {
			var rows, origins []uint32
			for i, origin := range r.work.rows {
				if r.ended(uint32(i)) {
					continue
				}
				at, _ := slices.BinarySearch(rs.origin, origin)
				for ; at < rs.len() && rs.origin[at] == origin; at++ {
					rows, origins = append(rows, uint32(at)), append(origins, uint32(i))
				}
			}
			if len(rows) > 0 {
				r.waiting[k] = append(r.waiting[k], r.x.again(rs, rows, origins))
			}
		}
	}
	for i, origin := range r.work.rows {
		if spent, ok := p.spent[origin]; ok {
			if r.spent == nil {
				r.spent = make(map[uint32]time.Duration)
			}
			r.spent[uint32(i)] = spent
		}
	}
	for _, o := range p.notDone {
		if i, ok := slices.BinarySearch(r.work.rows, o.Row); ok {
			r.ledger.end(uint32(i), o)
		}
	}
	for _, d := range p.dead {
		if i, ok := slices.BinarySearch(r.work.rows, d.Row); ok {
			d.Row = uint32(i)
			r.dead = append(r.dead, d)
		}
	}
}

// ended reports whether an abandoned goroutine is to blame on the row.
func (r *run) ended(origin uint32) bool {
	return r.work.abandoned != nil && slices.ContainsFunc(r.work.abandoned.dead, func(o batch.RowOutcome) bool { return o.Row == origin })
}

// again is rows of a parcel's rowset, with what they were before, for a run in which they have other origins.
func (x *executor) again(rs *rowset, rows, origins []uint32) *rowset {
	if rs == nil {
		return nil
	}
	sub := &rowset{
		born: rs.born, prev: x.again(rs.prev, rows, origins), origin: origins,
		nth: x.words.pick(rs.nth, rows), trip: x.words.pick(rs.trip, rows), path: picked(rs.path, rows),
	}
	if rs.vec != nil {
		sub.vec = x.vectors.like(rs.vec)
		sub.vec.Gather(rs.vec, rows)
		if rowcopy.For(rs.vec.Type()).Deep() {
			sub.vec = copyOf(sub.vec) // a goroutine that is left behind may go on with it
		}
	}
	if rs.holds != nil {
		sub.holds = make([]hold, len(rows))
		for i, row := range rows {
			sub.holds[i] = rs.holds[row]
		}
	}
	if rs.beside != nil {
		sub.beside = rs.beside.subset(rows)
	}
	return sub
}

// copied is rows of a rowset, and what they were before, in memory of their own. start is where the run began.
func copied(rs *rowset, rows, origins []uint32, start int) *rowset {
	c := &rowset{born: rs.born, origin: origins, nth: picked(rs.nth, rows), trip: picked(rs.trip, rows), path: picked(rs.path, rows)}
	if rs.vec == nil {
		c.born = start // it was never anything else
		return c
	}
	c.vec = rs.vec.New()
	c.vec.Gather(rs.vec, rows)
	ownBytes(c.vec)
	prev := rs
	for prev != nil && prev.born >= rs.born {
		if prev.parent != nil {
			rows = picked(prev.parent, rows)
		}
		prev = prev.prev
	}
	if prev != nil {
		c.prev = copied(prev, rows, origins, start)
	}
	return c
}

// ownBytes copies rows that may lie in their part's columns.
func ownBytes(rows kis.Vector) {
	switch v := rows.(type) {
	case *kis.Vec[json.RawMessage]:
		for i, row := range v.Rows {
			v.Rows[i] = slices.Clone(row)
		}
	case *kis.Vec[any]:
		for i, row := range v.Rows {
			if raw, ok := row.(json.RawMessage); ok {
				v.Rows[i] = slices.Clone(raw)
			}
		}
	}
}

// picked is the elements named of a list; nil stays nil.
func picked[T any](list []T, places []uint32) []T {
	if list == nil {
		return nil
	}
	out := make([]T, len(places))
	for i, p := range places {
		out[i] = list[p]
	}
	return out
}

// pack makes a parcel of what was set aside, and leaves in the result, whose rows count in r.part, only what has ended.
func (r *run) pack(result *RunResult) *parcel {
	var origins []uint32
	for _, sets := range r.aside.sets {
		for _, rs := range sets {
			origins = append(origins, rs.origin...)
		}
	}
	slices.Sort(origins)
	origins = slices.Clip(slices.Compact(origins))
	if len(origins) == 0 {
		return nil
	}
	parked := make([]uint32, len(origins)) // the rows as they count in r.part
	for i, origin := range origins {
		parked[i] = r.work.row(origin)
	}
	groups := make([]*asideGroup, 0, len(r.aside.groups))
	p := &parcel{
		lane: r.x.lane, since: r.x.lane.lanes.now(), heldUpBefore: r.x.lane.heldUpTotal.Load(),
		part: r.partOf(parked), rows: parked, sets: make([][]*rowset, len(r.aside.sets)),
	}
	if r.work.from != nil {
		p.rows = picked(r.work.from.rows, parked)
	}
	for i, origin := range origins {
		g := r.aside.groups[p.part.Columns.Keys[i]]
		if g.rows = append(g.rows, uint32(i)); len(g.rows) == 1 {
			groups = append(groups, g)
		}
		if spent, ok := r.spent[origin]; ok {
			if p.spent == nil {
				p.spent = make(map[uint32]time.Duration)
			}
			p.spent[uint32(i)] = spent
		}
	}
	p.groups, p.byKey = make([]group, len(groups)), make([]uint32, 0, len(origins))
	for i, g := range groups {
		p.groups[i] = group{parcel: p, due: g.due, wantedKey: g.wantedKey, step: uint16(g.step), first: uint32(len(p.byKey)), n: uint32(len(g.rows))}
		if g.saveWait != nil {
			if p.saveWaits == nil {
				p.saveWaits = make(map[*group]saveWait)
			}
			p.saveWaits[&p.groups[i]] = *g.saveWait
		}
		if g.ask != nil {
			if p.asks == nil {
				p.asks = make(map[*group]*ask)
			}
			p.asks[&p.groups[i]] = g.ask
		}
		p.byKey = append(p.byKey, g.rows...)
	}
	for k, sets := range r.aside.sets {
		for _, rs := range sets {
			p.sets[k] = append(p.sets[k], packed(rs, origins, r.part.Start))
		}
	}
	result.NotDone, p.notDone = divide(result.NotDone, parked)
	p.dead = r.parkDead(parked)
	result.Output, p.output = divideOutput(result.Output, parked)
	all := result.Rows
	result.Rows = make([]uint32, 0, r.n-len(origins))
	for i := range uint32(r.n) {
		row := i
		if all != nil {
			row = all[i]
		}
		if _, isParked := slices.BinarySearch(parked, row); !isParked {
			result.Rows = append(result.Rows, row)
		}
	}
	return p
}

// packed is a rowset in memory of its own, in the order of its origins, which count in the parcel.
func packed(rs *rowset, origins []uint32, start int) *rowset {
	rows := span(0, rs.len())
	if !slices.IsSorted(rs.origin) {
		sort.SliceStable(rows, func(a, b int) bool { return rs.origin[rows[a]] < rs.origin[rows[b]] })
	}
	renumbered := make([]uint32, len(rows))
	for i, row := range rows {
		at, _ := slices.BinarySearch(origins, rs.origin[row])
		renumbered[i] = uint32(at)
	}
	c := copied(rs, rows, renumbered, start)
	if rs.beside != nil {
		c.beside = rs.beside.subset(rows)
	}
	if c.beside != nil || slices.ContainsFunc(rs.holds, func(h hold) bool { return h != (hold{}) }) {
		c.holds = make([]hold, len(rows))
		for i, row := range rows {
			c.holds[i] = rs.holds[row]
		}
	}
	return c
}

// partOf is a part of these rows of r.part alone.
func (r *run) partOf(rows []uint32) *Part {
	own := *r.part
	own.parkedFrom, own.Columns = r.part.enqueued(), r.work.in.columns.Select(rows)
	if own.Rows == nil {
		own.Rows = rows
		return &own
	}
	own.Rows = make([]uint32, len(rows))
	for i, row := range rows {
		own.Rows[i] = r.part.place(row)
	}
	return &own
}

// entering is how many rows have not entered their step before.
func (rs *rowset) entering() int {
	n := rs.len()
	for i, h := range rs.holds {
		if h != (hold{}) || rs.keptBy(i) != nil {
			n--
		}
	}
	return n
}
