package flowexec

import (
	"cmp"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rows"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// maxRounds is how many rounds one run has at most, because each round leaves lists behind that live as long as the run. The rows that are left
// then go on as a run of their own.
const maxRounds = 4096

// turns takes the rows of a run through a stretch of its flow in rounds. In a round each key has one input row, with all rows that
// come of it, and the key's next input row begins when the round is over. So a row finds in connectors all that earlier rows of
// its key have saved, and nothing that later ones save, however rows are cut into batches. Rows of different keys go together.
//
// If a row parks in its round, later rows of its key park behind it. Between two rounds the run also parks the rows of keys that are to go on
// elsewhere or later: those that a Release asks for, and all of them when functions have made LanesConfig.RunBytes or there were maxRounds
// rounds.
//
// It belongs to the run's goroutine.
type turns struct {
	run     *run
	active  bool // whether rows are in a stretch; if not, the fields below mean nothing
	in      stretch
	sets    []*rows.Set       // the rows as they waited when the stretch began
	steps   []int             // for each of the sets the step that it waits for
	numbers map[uint64]uint32 // the place of each key in keys; it means nothing once the first round has begun
	keys    []turn            // the keys with rows that have not begun
	chosen  []rows.Ref        // the rows of a round; used again for the next one
	rounds  int
	began   int   // how many input rows have begun
	made    int64 // about how many bytes functions have made in all rounds; counted only if the run is bounded
	parked  int   // how many groups had parked when parkKeys last looked
}

// turn is the rows of one key that have not begun, in the order of their input rows. first is the first input row, n the number of
// rows.
type turn struct {
	key   uint64
	first rows.RunRow
	n     uint32
	rows  []rows.Ref
}

// origin returns the input row that a row of the stretch comes from.
func (t *turns) origin(at rows.Ref) rows.RunRow { return t.sets[at.Set].Origins[at.Row] }

// mayGoOn is called before the run goes on at a step, which is the earliest step that rows wait for. It returns true if the run may take the
// rows of that step through it, and false if it has changed the rows that wait, because a round began or a stretch has ended: then the caller
// looks for the earliest step again.
func (t *turns) mayGoOn(step int) bool {
	switch {
	case !t.active:
		in, ok := t.run.plan.stretchOf(step)
		if !ok {
			return true
		}
		return !t.begin(in)
	case step <= t.in.last:
		return true
	case len(t.keys) > 0:
		t.beginRound()
	default:
		t.end()
	}
	return false
}

// begin begins a stretch with all rows that wait for its steps, and its first round. It returns true if there are rounds, and false if no key
// has two input rows: then the rows just go on.
func (t *turns) begin(in stretch) (rounds bool) {
	t.reset()
	t.in, t.active = in, true
	n := 0
	for k := in.first; k <= in.last; k++ {
		for _, rs := range t.run.waiting[k] {
			if rs.Len() > 0 {
				t.sets, t.steps = append(t.sets, rs), append(t.steps, k)
				n += rs.Len()
			}
		}
	}
	if !t.findKeys() {
		t.keys = t.keys[:0]
		return false
	}
	for k := in.first; k <= in.last; k++ {
		t.run.waiting[k] = slices.DeleteFunc(t.run.waiting[k], func(rs *rows.Set) bool { return rs.Len() > 0 })
	}
	all := make([]rows.Ref, n)
	for i := range t.keys {
		key := &t.keys[i]
		key.rows, all = all[:0:key.n], all[key.n:]
	}
	for set, rs := range t.sets {
		for i, origin := range rs.Origins {
			key := &t.keys[t.numbers[t.run.work.key(origin)]]
			key.rows = append(key.rows, rows.Ref{Set: uint32(set), Row: uint32(i)})
		}
	}
	if len(t.sets) > 1 {
		for _, key := range t.keys {
			slices.SortStableFunc(key.rows, func(a, b rows.Ref) int { return cmp.Compare(t.origin(a), t.origin(b)) })
		}
	}
	t.beginRound()
	return true
}

// findKeys fills keys with the keys of the rows, in the order in which they first come. It reports whether one of the keys has several input
// rows.
func (t *turns) findKeys() (several bool) {
	for _, rs := range t.sets {
		for _, origin := range rs.Origins {
			key := t.run.work.key(origin)
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

// reset forgets the stretch and its rows. It keeps the lists for the next stretch, unless there were more than 4,096 keys.
func (t *turns) reset() {
	const most = 1 << 12
	if len(t.numbers) > most || t.numbers == nil {
		*t = turns{run: t.run, numbers: make(map[uint64]uint32)}
		return
	}
	clear(t.numbers)
	clear(t.sets)
	clear(t.keys[:cap(t.keys)])
	*t = turns{run: t.run, sets: t.sets[:0], steps: t.steps[:0], numbers: t.numbers, keys: t.keys[:0], chosen: t.chosen[:0]}
}

// beginRound has the next input row of each key wait for the step at which it came to the stretch.
func (t *turns) beginRound() {
	t.chosen = t.chosen[:0]
	if t.parkKeys(); len(t.keys) == 0 {
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
	t.pick(t.chosen, t.run.waiting)
}

// pick appends rows of the stretch to the lists in steps: each row to the list of the step that it waits for. The refs in of say which rows;
// pick sorts them.
func (t *turns) pick(of []rows.Ref, steps [][]*rows.Set) {
	slices.SortFunc(of, func(a, b rows.Ref) int { return cmp.Or(cmp.Compare(a.Set, b.Set), cmp.Compare(a.Row, b.Row)) })
	for i := 0; i < len(of); {
		set, n := of[i].Set, i
		for ; n < len(of) && of[n].Set == set; n++ {
		}
		rs := t.sets[set]
		if n-i < rs.Len() {
			places := t.run.x.mem.Numbers(n - i)
			for k := range places {
				places[k] = of[i+k].Row
			}
			rs = t.run.x.mem.Subset(rs, places, rs.Born)
		}
		steps[t.steps[set]] = append(steps[t.steps[set]], rs)
		i = n
	}
}

// parkKeys parks the rows of keys that do not go on in this run: those behind a parked row, those that a Release asks for, and all of them if
// functions have made LanesConfig.RunBytes or there were maxRounds rounds. The latter two wait for nothing: they go on, or go back, when the
// run has ended.
func (t *turns) parkKeys() {
	lanes := t.run.x.lane.lanes
	recalls := t.run.x.lane.parked.pendingReleases()
	full := t.rounds >= maxRounds || lanes.config.RunBytes > 0 && t.made >= lanes.config.RunBytes
	var groups map[uint64]*parkingGroup
	if t.run.parking.any() && len(t.run.parking.groups) != t.parked {
		groups = t.run.parking.groups
	}
	if !full && len(recalls) == 0 && groups == nil {
		return
	}
	if len(recalls) > 0 {
		pointRoundRecalled.Hit()
	}
	left := t.keys[:0]
	for _, key := range t.keys {
		first := t.origin(key.rows[0])
		g := groups[key.key]
		switch {
		case g != nil && first > g.first:
		case full, slices.ContainsFunc(recalls, func(c releaseRequest) bool { return c.includesKey(key.key) && c.includesPart(t.run.part) }):
			t.run.parking.group(first)
		default:
			left = append(left, key)
			continue
		}
		t.chosen = append(t.chosen, key.rows...)
	}
	clear(t.keys[len(left):])
	if t.keys = left; len(t.chosen) > 0 {
		t.pick(t.chosen, t.run.parking.sets)
		t.chosen = t.chosen[:0]
	}
	if full {
		pointRounds.Hit()
	}
	if full && t.rounds < maxRounds {
		t.run.x.lane.resumeLimit.Store(int32(t.began))
	}
	if t.run.parking.any() {
		t.parked = len(t.run.parking.groups)
	}
}

// noteMade adds the bytes of the rows that a function has made to made, if the run is in a stretch and bounded.
func (t *turns) noteMade(s *step, out kis.Vector) {
	if t.active && t.run.x.lane.lanes.config.RunBytes > 0 {
		t.made += s.weigher.weigh(out, 0, out.Len())
	}
}

// end leaves the stretch, if the rows are in one. The rows that came out of it in different rounds are joined, so that they go on together.
func (t *turns) end() {
	if !t.active {
		return
	}
	if t.active = false; t.rounds < 2 {
		return
	}
	for k := t.in.last + 1; k < len(t.run.waiting); k++ {
		t.run.waiting[k] = t.run.x.mem.Join(t.run.waiting[k])
	}
}

// forgo gives up the rounds, because the run ends: the rows whose round has not come are added to those that wait for their steps.
func (t *turns) forgo() {
	if !t.active {
		return
	}
	t.chosen = t.chosen[:0]
	for _, key := range t.keys {
		t.chosen = append(t.chosen, key.rows...)
	}
	t.keys = nil
	t.pick(t.chosen, t.run.waiting)
}
