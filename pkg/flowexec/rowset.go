package flowexec

import (
	"reflect"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// rowset is rows on their way from one function to the next. It does not change once it is made, so that a row can jump
// back to what it was.
type rowset struct {
	// born is the step that the rows were made for; they may enter later ones too.
	born int
	// prev is what the rows were made from, parent the row of prev for each row; nil: row i from row i. prev is nil for the
	// input, and where lineage was lost.
	prev   *rowset
	parent []uint32
	// origin is the input row of the run behind each row, or batch.WholeBatch.
	origin []uint32
	// nth counts the rows behind which the whole batch stands, trip how often a row has jumped. nil: all 0.
	nth, trip []uint32
	// path tells apart the rows of one origin, or of the batch (run_lineage.go). nil: all 0.
	path []uint64
	// vec holds the rows; nil: they are still as they came in the part's columns.
	vec kis.Vector
	// view is the rows once more, as the type that the last function read.
	view kis.Vector
	// wide is rows that are still as they came, decoded for a later step, and seen which of them are, with their fields.
	wide kis.Vector
	seen []uint32
	// holds are what rows bring along that have parked before this step; nil: nothing.
	holds []hold
	// beside is what few rows have; nil: none of them has any.
	beside *beside
	// forced: the next function is entered even without rows. behind are then the origins that stand behind what it makes.
	forced bool
	viewed int32 // the step that view was made for
	behind []uint32
}

// beside is what rows have beside them in one step.
type beside struct {
	// keeps are what rows had said that wait for their connector; nil: none does.
	keeps []*kept
	// came is a copy of the rows from before the step's function was called, which may change what rows lead to; nil: there is none.
	came kis.Vector
}

// subset is what some of the rows have.
func (b *beside) subset(rows []uint32) *beside {
	sub := &beside{keeps: picked(b.keeps, rows)}
	if b.came != nil {
		sub.came = b.came.New()
		sub.came.Gather(b.came, rows)
	}
	return sub
}

// keptBy is what row i had said to its connector before it parked; nil: nothing.
func (rs *rowset) keptBy(i int) *kept {
	if rs.beside == nil || rs.beside.keeps == nil {
		return nil
	}
	return rs.beside.keeps[i]
}

// came is the rows as they came to the step; nil: they can't have changed.
func (rs *rowset) came() kis.Vector {
	if rs.beside == nil {
		return nil
	}
	return rs.beside.came
}

func (rs *rowset) len() int { return len(rs.origin) }

func at[T uint32 | uint64](list []T, i int) T {
	if list == nil {
		return 0
	}
	return list[i]
}

// ancestor finds the row that row i was when it entered a step before; nil if lineage was lost since.
func (rs *rowset) ancestor(i uint32, step int) (*rowset, uint32) {
	for rs != nil && rs.born > step {
		if rs.parent != nil {
			i = rs.parent[i]
		}
		rs = rs.prev
	}
	return rs, i
}

// input is the run's rows as they came.
func (x *executor) input(n int) *rowset {
	rs := x.sets.take()
	rs.origin = x.words.take(n)
	for i := range rs.origin {
		rs.origin[i] = uint32(i)
	}
	return rs
}

// subset is some rows of a rowset, ascending.
func (x *executor) subset(rs *rowset, rows []uint32, born int) *rowset {
	sub := x.sets.take()
	sub.born, sub.prev, sub.parent = born, rs, rows
	sub.origin = x.words.pick(rs.origin, rows)
	sub.nth, sub.trip, sub.path = x.words.pick(rs.nth, rows), x.words.pick(rs.trip, rows), picked(rs.path, rows)
	if rs.vec != nil {
		sub.vec = x.vectors.like(rs.vec)
		sub.vec.Gather(rs.vec, rows)
	}
	if rs.beside != nil {
		sub.beside = rs.beside.subset(rows)
	}
	if rs.view != nil && rs.view != rs.vec {
		sub.view = x.vectors.like(rs.view)
		sub.view.Gather(rs.view, rows)
		sub.viewed = rs.viewed
	}
	if rs.holds != nil {
		sub.holds = make([]hold, len(rows))
		for i, row := range rows {
			sub.holds[i] = rs.holds[row]
		}
	}
	if rs.wide != nil {
		sub.seen = x.words.pick(rs.seen, rows)
		if sub.wide = sub.view; rs.wide != rs.view {
			sub.wide = x.vectors.like(rs.wide)
			sub.wide.Gather(rs.wide, rows)
		}
	}
	return sub
}

// keep is the rows of a rowset without those gone, which ascend.
func (x *executor) keep(rs *rowset, gone []uint32) *rowset {
	if len(gone) == 0 {
		return rs
	}
	return x.subset(rs, x.without(rs.len(), gone), rs.born)
}

// without lists 0..n-1 without those gone, which ascend.
func (x *executor) without(n int, gone []uint32) []uint32 {
	rows := x.words.take(n)[:0]
	for i := range uint32(n) {
		if len(gone) > 0 && gone[0] == i {
			gone = gone[1:]
			continue
		}
		rows = append(rows, i)
	}
	return rows
}

// next is what a function made of each row of rs but those gone: out has a place for all of them.
func (x *executor) next(rs *rowset, out kis.Vector, gone []uint32, born int) *rowset {
	next := x.sets.take()
	next.born, next.prev, next.vec = born, rs, out
	next.origin, next.nth, next.trip, next.path = rs.origin, rs.nth, rs.trip, rs.path
	if len(gone) > 0 {
		rows := x.without(rs.len(), gone)
		out.Gather(out, rows)
		next.parent, next.origin = rows, x.words.pick(rs.origin, rows)
		next.nth, next.trip, next.path = x.words.pick(rs.nth, rows), x.words.pick(rs.trip, rows), picked(rs.path, rows)
	}
	return next
}

// made is what a function made of rs where each row made names its parent.
func (x *executor) made(rs *rowset, out kis.Vector, parents []uint32, born int) *rowset {
	parents = append(x.words.take(len(parents))[:0], parents...)
	made := x.sets.take()
	made.born, made.prev, made.parent, made.vec = born, rs, parents, out
	made.origin, made.nth, made.trip = x.words.pick(rs.origin, parents), x.words.pick(rs.nth, parents), x.words.pick(rs.trip, parents)
	made.path = x.paths(rs, parents, born-1)
	return made
}

// sets hands out rowsets that live as long as the run.
type sets struct {
	chunk []rowset
	used  int
}

// take is an empty rowset.
func (s *sets) take() *rowset {
	if s.chunk == nil {
		s.chunk = make([]rowset, 16)
	}
	if s.used == len(s.chunk) {
		return new(rowset)
	}
	s.used++
	return &s.chunk[s.used-1]
}

// reset takes all rowsets back.
func (s *sets) reset() {
	clear(s.chunk[:s.used])
	s.used = 0
}

// words hands out lists that live as long as the run.
type words struct {
	chunk []uint32
	used  int
	spare int // what did not fit into chunk
}

// maxWords bounds what an executor keeps from run to run for lists: 1 MiB.
const maxWords = 1 << 18

// take is n zeros.
func (w *words) take(n int) []uint32 {
	if w.used+n > len(w.chunk) {
		w.spare += n
		return make([]uint32, n)
	}
	list := w.chunk[w.used : w.used+n : w.used+n]
	w.used += n
	clear(list)
	return list
}

// pick is the elements named of a list; nil stays nil.
func (w *words) pick(list, places []uint32) []uint32 {
	if list == nil {
		return nil
	}
	picked := w.take(len(places))
	for i, p := range places {
		picked[i] = list[p]
	}
	return picked
}

// reset takes all lists back, and makes room for what did not fit.
func (w *words) reset() {
	if size := min(w.used+w.spare, maxWords); size > len(w.chunk) {
		w.chunk = make([]uint32, size)
	}
	w.used, w.spare = 0, 0
}

// vectors lends vectors for the length of a run. The others lie in pools, where they may be as large as the largest runs: the
// garbage collector takes what was of no use for a while.
type vectors struct {
	pools []vectorPool // that were needed so far
	lent  []lentVector
}

type lentVector struct {
	vector kis.Vector
	free   *sync.Pool // where it goes back
}

type vectorPool struct {
	kind vectorKind
	free *sync.Pool // of kis.Vector
}

// vectorPools are the pools that all executors share: vectorKind → *sync.Pool.
var vectorPools sync.Map

// vectorKind tells vectors apart that can't gather from one another.
type vectorKind struct{ row, vector reflect.Type }

func kindOf(v kis.Vector) vectorKind { return vectorKind{v.Type(), reflect.TypeOf(v)} }

// pool is where vectors of that kind lie.
func (p *vectors) pool(kind vectorKind) *sync.Pool {
	for _, pool := range p.pools {
		if pool.kind == kind {
			return pool.free
		}
	}
	free, _ := vectorPools.LoadOrStore(kind, new(sync.Pool))
	p.pools = append(p.pools, vectorPool{kind, free.(*sync.Pool)})
	return free.(*sync.Pool)
}

// lend is a free vector of that kind, or what fresh makes.
func (p *vectors) lend(kind vectorKind, fresh func() kis.Vector) kis.Vector {
	free := p.pool(kind)
	v, ok := free.Get().(kis.Vector)
	if !ok {
		v = fresh()
	}
	p.lent = append(p.lent, lentVector{v, free})
	return v
}

// like is an empty vector of the same kind.
func (p *vectors) like(v kis.Vector) kis.Vector {
	return p.lend(kindOf(v), v.New)
}

// reset takes all vectors back, emptied of what they point to.
func (p *vectors) reset() {
	for i, l := range p.lent {
		p.lent[i] = lentVector{}
		l.vector.Reset(0)
		l.free.Put(l.vector)
	}
	p.lent = p.lent[:0]
}
