package flowexec

import (
	"cmp"
	"slices"
)

// This file takes the rows of a run through a stretch of its flow in rounds: each key has one input row in a round, with all rows
// that come of it, and its next one begins when the round is over. So a row finds in connectors all that the rows before it have
// saved, and nothing of those behind it, however rows are cut into batches. Rows of different keys go together.
//
// A row that parks in its round keeps the rest of its key back, which parks behind it. Between two rounds the run looks what else is to
// go on elsewhere or later, and parks that: keys whose slots are recalled, and all keys when the run holds enough.

// maxRounds bounds the rounds of one run: each leaves lists behind that live as long as the run. The rest goes on as a run of its own.
const maxRounds = 4096

// turns is a stretch that rows of the run are in. It belongs to the run's goroutine.
type turns struct {
	in      stretch
	sets    []*rowset         // the rows as they came to the stretch
	steps   []int             // which step each of the sets waits for
	numbers map[uint64]uint32 // the place of each key in keys, while rows are shared out
	keys    []turn            // the keys that have rows which have not begun
	chosen  []rowAt           // used again for each round
	rounds  int
	began   int   // input rows that have
	made    int64 // bytes, about, that functions have made in all rounds; counted where the run is bounded
	parked  int   // groups that the run had parked when it last looked
}

// turn is one key's rows that have not begun, by their origins. first and n are its first origin and the number of rows.
type turn struct {
	key      uint64
	first, n uint32
	rows     []rowAt
}

// rowAt is a row of one of several rowsets.
type rowAt struct{ set, row uint32 }

func (t *turns) origin(at rowAt) uint32 { return t.sets[at.set].origin[at.row] }

// inTurn is asked before the run goes on at a step, the earliest that rows wait for. False: other rows wait now, since a round
// began or a stretch has ended.
func (r *run) inTurn(step int) bool {
	t := r.turns
	switch {
	case t == nil:
		in, ok := r.plan.stretchOf(step)
		if !ok {
			return true
		}
		return !r.beginTurns(in)
	case step <= t.in.last:
		return true
	case len(t.keys) > 0:
		r.beginRound()
	default:
		r.endTurns()
	}
	return false
}

// beginTurns begins a stretch with all rows that wait in it. It reports whether a round has begun: where no key has two input rows
// they just go on.
func (r *run) beginTurns(in stretch) (rounds bool) {
	t := &r.x.turns
	t.reset()
	t.in, r.turns = in, t
	rows := 0
	for k := in.first; k <= in.last; k++ {
		for _, rs := range r.waiting[k] {
			if rs.len() > 0 {
				t.sets, t.steps = append(t.sets, rs), append(t.steps, k)
				rows += rs.len()
			}
		}
	}
	if !r.findKeys(t) {
		t.keys = t.keys[:0]
		return false
	}
	for k := in.first; k <= in.last; k++ {
		r.waiting[k] = slices.DeleteFunc(r.waiting[k], func(rs *rowset) bool { return rs.len() > 0 })
	}
	all := make([]rowAt, rows)
	for i := range t.keys {
		key := &t.keys[i]
		key.rows, all = all[:0:key.n], all[key.n:]
	}
	for set, rs := range t.sets {
		for i, origin := range rs.origin {
			key := &t.keys[t.numbers[r.key(origin)]]
			key.rows = append(key.rows, rowAt{uint32(set), uint32(i)})
		}
	}
	if len(t.sets) > 1 {
		for _, key := range t.keys {
			slices.SortStableFunc(key.rows, func(a, b rowAt) int { return cmp.Compare(t.origin(a), t.origin(b)) })
		}
	}
	r.beginRound()
	return true
}

// findKeys lists the keys of the rows, in the order in which they first come. It reports whether one has several input rows: otherwise
// there are no turns to take.
func (r *run) findKeys(t *turns) (several bool) {
	for _, rs := range t.sets {
		for _, origin := range rs.origin {
			key := r.key(origin)
			place, known := t.numbers[key]
			if !known {
				place = uint32(len(t.keys))
				t.numbers[key] = place
				t.keys = append(t.keys, turn{key: key, first: origin})
			}
			t.keys[place].n++
			several = several || t.keys[place].first != origin
		}
	}
	return several
}

// reset forgets the rows, and keeps the lists unless they are large.
func (t *turns) reset() {
	const most = 1 << 12
	if len(t.numbers) > most || t.numbers == nil {
		*t = turns{numbers: make(map[uint64]uint32)}
		return
	}
	clear(t.numbers)
	clear(t.sets)
	clear(t.keys[:cap(t.keys)])
	*t = turns{sets: t.sets[:0], steps: t.steps[:0], numbers: t.numbers, keys: t.keys[:0], chosen: t.chosen[:0]}
}

// beginRound has each key's next input row wait where it came to the stretch.
func (r *run) beginRound() {
	t := r.turns
	t.chosen = t.chosen[:0]
	if r.parkTurns(); len(t.keys) == 0 {
		return
	}
	left := t.keys[:0]
	for _, key := range t.keys {
		n, origin := 1, t.origin(key.rows[0])
		for n < len(key.rows) && t.origin(key.rows[n]) == origin {
			n++
		}
		t.chosen = append(t.chosen, key.rows[:n]...)
		t.began++
		if key.rows = key.rows[n:]; len(key.rows) > 0 {
			left = append(left, key)
		}
	}
	clear(t.keys[len(left):])
	t.keys = left
	t.rounds++
	r.pick(t.chosen, r.waiting)
}

// pick appends rows of the stretch to the lists of the steps that they wait for.
func (r *run) pick(rows []rowAt, steps [][]*rowset) {
	t := r.turns
	slices.SortFunc(rows, func(a, b rowAt) int { return cmp.Or(cmp.Compare(a.set, b.set), cmp.Compare(a.row, b.row)) })
	for i := 0; i < len(rows); {
		set, n := rows[i].set, i
		for ; n < len(rows) && rows[n].set == set; n++ {
		}
		rs := t.sets[set]
		if n-i < rs.len() {
			places := r.x.words.take(n - i)
			for k := range places {
				places[k] = rows[i+k].row
			}
			rs = r.x.subset(rs, places, rs.born)
		}
		steps[t.steps[set]] = append(steps[t.steps[set]], rs)
		i = n
	}
}

// parkTurns sets the rows of keys aside that do not go on in this run: those behind a parked row, and those whose slot is recalled,
// all of them when the run holds enough. The latter two wait for nothing: they go on, or back, when the run has ended.
func (r *run) parkTurns() {
	t, lanes := r.turns, r.x.lane.lanes
	recalls := r.x.lane.pendingReleases()
	full := t.rounds >= maxRounds || lanes.config.RunBytes > 0 && t.made >= lanes.config.RunBytes
	var groups map[uint64]*asideGroup
	if r.aside != nil && len(r.aside.groups) != t.parked {
		groups = r.aside.groups
	}
	if !full && len(recalls) == 0 && groups == nil {
		return
	}
	left := t.keys[:0]
	for _, key := range t.keys {
		first := t.origin(key.rows[0])
		g := groups[key.key]
		switch {
		case g != nil && first > g.first:
		case full, slices.ContainsFunc(recalls, func(c releaseRequest) bool { return c.includesKey(key.key) && c.includesPart(r.part) }):
			r.asideGroup(first)
		default:
			left = append(left, key)
			continue
		}
		t.chosen = append(t.chosen, key.rows...)
	}
	clear(t.keys[len(left):])
	if t.keys = left; len(t.chosen) > 0 {
		r.pick(t.chosen, r.aside.sets)
		t.chosen = t.chosen[:0]
	}
	if full && t.rounds < maxRounds {
		r.x.lane.resumeLimit.Store(int32(t.began))
	}
	if r.aside != nil {
		t.parked = len(r.aside.groups)
	}
}

// noteMade counts what a function has made of the rows under way in a round.
func (r *run) noteMade(s *step) {
	if r.turns != nil && r.x.lane.lanes.config.RunBytes > 0 {
		r.turns.made += s.weigher.weigh(r.x.frame.Out, 0, r.x.frame.Out.Len())
	}
}

// endTurns leaves the stretch: rows that came out of it in different rounds go on together.
func (r *run) endTurns() {
	t := r.turns
	r.turns = nil
	if t.rounds < 2 {
		return
	}
	for k := t.in.last + 1; k < len(r.waiting); k++ {
		r.waiting[k] = r.x.join(r.waiting[k])
	}
}

// forgoTurns has all rows of the stretch wait that have not begun, since the run ends.
func (r *run) forgoTurns() {
	t := r.turns
	if t == nil {
		return
	}
	t.chosen = t.chosen[:0]
	for _, key := range t.keys {
		t.chosen = append(t.chosen, key.rows...)
	}
	t.keys = nil
	r.pick(t.chosen, r.waiting)
}

// join puts the rows of several rowsets in the order of their origins, those of one in the order of the sets. Neighbours come into one
// set, with all that they were before, where functions have made them in the same way.
func (x *executor) join(sets []*rowset) []*rowset {
	if len(sets) < 2 {
		return sets
	}
	var kinds, empty []*rowset // of each kind the first set
	var rows []rowAt
	kind := make([]int, len(sets))
	for set, rs := range sets {
		if rs.len() == 0 {
			empty = append(empty, rs)
			continue
		}
		if kind[set] = slices.IndexFunc(kinds, func(first *rowset) bool { return isAlike(first, rs) }); kind[set] < 0 {
			kind[set] = len(kinds)
			kinds = append(kinds, rs)
		}
		for i := range rs.origin {
			rows = append(rows, rowAt{uint32(set), uint32(i)})
		}
	}
	slices.SortStableFunc(rows, func(a, b rowAt) int { return cmp.Compare(sets[a.set].origin[a.row], sets[b.set].origin[b.row]) })
	var joined []*rowset
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && kind[rows[n].set] == kind[rows[0].set] {
			n++
		}
		joined, rows = append(joined, x.joinAlike(sets, rows[:n])), rows[n:]
	}
	return append(joined, empty...)
}

// joinAlike is the rows named of rowsets that are alike.
func (x *executor) joinAlike(sets []*rowset, rows []rowAt) *rowset {
	first := rows[0].set
	if slices.ContainsFunc(rows, func(at rowAt) bool { return at.set != first }) {
		return x.joinRows(sets, rows)
	}
	if len(rows) == sets[first].len() {
		return sets[first]
	}
	places := x.words.take(len(rows))
	for i, at := range rows {
		places[i] = at.row
	}
	return x.subset(sets[first], places, sets[first].born)
}

// isAlike reports whether two rowsets, and all that their rows were before, are of the same steps and types. Rows that bring along what
// they had parked with are like no others.
func isAlike(a, b *rowset) bool {
	if a.holds != nil || a.beside != nil || b.holds != nil || b.beside != nil {
		return a == b
	}
	for a != b {
		if a == nil || b == nil || a.born != b.born || (a.vec == nil) != (b.vec == nil) {
			return false
		}
		if a.vec == nil {
			return true // they were never anything else
		}
		if kindOf(a.vec) != kindOf(b.vec) {
			return false
		}
		a, b = a.before(), b.before()
	}
	return true
}

// before is what the rows were at an earlier step; nil: nothing that is known.
func (rs *rowset) before() *rowset {
	prev := rs.prev
	for prev != nil && prev.born >= rs.born {
		prev = prev.prev
	}
	return prev
}

// joinRows is the rows named of rowsets; those of the rows are alike.
func (x *executor) joinRows(sets []*rowset, rows []rowAt) *rowset {
	first := sets[rows[0].set]
	j := x.sets.take()
	j.born, j.origin = first.born, x.words.take(len(rows))
	for i, at := range rows {
		j.origin[i] = sets[at.set].origin[at.row]
	}
	x.joinLists(j, sets, rows)
	if first.vec == nil {
		return j
	}
	// Several sets may come of one: each is there once.
	all, begins := x.vectors.like(first.vec), make(map[*rowset]uint32)
	var before []*rowset
	places, was := x.words.take(len(rows)), make([]rowAt, len(rows))
	numbers := make(map[*rowset]uint32)
	for i, at := range rows {
		rs, row := sets[at.set], at.row
		begin, known := begins[rs]
		if !known {
			begin = uint32(all.Len())
			begins[rs] = begin
			all.Append(rs.vec)
		}
		places[i] = begin + row
		prev, row := rs.ancestor(row, rs.born-1)
		if prev == nil {
			continue
		}
		number, known := numbers[prev]
		if !known {
			number = uint32(len(before))
			numbers[prev] = number
			before = append(before, prev)
		}
		was[i] = rowAt{number, row}
	}
	j.vec = x.vectors.like(all)
	j.vec.Gather(all, places)
	if before != nil {
		j.prev = x.joinRows(before, was)
	}
	return j
}

// joinLists joins what few rows have.
func (x *executor) joinLists(j *rowset, sets []*rowset, rows []rowAt) {
	for i, a := range rows {
		rs := sets[a.set]
		if trip := at(rs.trip, int(a.row)); trip > 0 {
			if j.trip == nil {
				j.trip = x.words.take(len(rows))
			}
			j.trip[i] = trip
		}
		if path := at(rs.path, int(a.row)); path > 0 {
			if j.path == nil {
				j.path = make([]uint64, len(rows))
			}
			j.path[i] = path
		}
	}
}
