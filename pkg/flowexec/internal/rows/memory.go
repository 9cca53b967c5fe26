package rows

import (
	"reflect"
	"sync"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Memory hands out the Sets of one run, their lists of numbers and their vectors. All of these may be used until Reset, which takes them back
// at once and uses their memory for the next run, so that a run allocates next to nothing. The zero Memory is ready for use. It belongs to
// the goroutine of one lane.
type Memory struct {
	sets    sets
	numbers numbers
	vectors vectors
}

// Reset takes back everything that was handed out. The caller must make sure that nobody uses any of it any more.
func (m *Memory) Reset() {
	m.numbers.reset()
	m.vectors.reset()
	m.sets.reset()
}

// New returns an empty Set.
func (m *Memory) New() *Set { return m.sets.take() }

// Numbers returns a list of n zeros.
func (m *Memory) Numbers(n int) []uint32 { return m.numbers.take(n) }

// Pick returns a new list of the elements of list at the given places. For a nil list it returns nil.
func (m *Memory) Pick(list, places []uint32) []uint32 {
	if list == nil {
		return nil
	}
	picked := m.numbers.take(len(places))
	for i, p := range places {
		picked[i] = list[p]
	}
	return picked
}

// origins does the same as Pick, for a list of origins.
func (m *Memory) origins(list []RunRow, places []uint32) []RunRow {
	return As[RunRow](m.Pick(As[uint32](list), places))
}

// Lend returns an empty vector of a kind: one that is free, or if there is none, the result of fresh.
func (m *Memory) Lend(kind Kind, fresh func() kis.Vector) kis.Vector {
	return m.vectors.lend(kind, fresh)
}

// Like returns an empty vector of the same kind as v.
func (m *Memory) Like(v kis.Vector) kis.Vector { return m.vectors.lend(KindOf(v), v.New) }

// sets hands out empty Sets, out of one chunk of memory as far as that suffices.
type sets struct {
	chunk []Set
	used  int
}

// take returns an empty Set.
func (s *sets) take() *Set {
	if s.chunk == nil {
		s.chunk = make([]Set, 16)
	}
	if s.used == len(s.chunk) {
		return new(Set)
	}
	s.used++
	return &s.chunk[s.used-1]
}

// reset takes back all Sets, and empties those in the chunk.
func (s *sets) reset() {
	clear(s.chunk[:s.used])
	s.used = 0
}

// numbers hands out lists of zeros, out of one chunk of memory as far as that suffices.
type numbers struct {
	chunk []uint32
	used  int
	spare int // how many numbers were handed out that did not fit into chunk
}

// maxNumbers is the largest length of numbers.chunk, the memory that is kept from run to run for lists: 2^18 numbers, or 1 MiB.
const maxNumbers = 1 << 18

// take returns a list of n zeros.
func (w *numbers) take(n int) []uint32 {
	if w.used+n > len(w.chunk) {
		w.spare += n
		return make([]uint32, n)
	}
	list := w.chunk[w.used : w.used+n : w.used+n]
	w.used += n
	clear(list)
	return list
}

// reset takes back all lists. If some did not fit into the chunk, it makes a larger chunk for the next run.
func (w *numbers) reset() {
	if size := min(w.used+w.spare, maxNumbers); size > len(w.chunk) {
		w.chunk = make([]uint32, size)
	}
	w.used, w.spare = 0, 0
}

// vectors lends vectors. Free ones lie in pools that all lanes share, where they may be as large as the largest runs were: the garbage
// collector takes those that nobody has used for a while.
type vectors struct {
	pools []vectorPool // those that were needed so far
	lent  []lentVector
}

// lentVector is a vector that is lent until the next reset.
type lentVector struct {
	vector kis.Vector
	free   *sync.Pool // where the vector goes back to
}

// vectorPool is the pool of free vectors of one kind.
type vectorPool struct {
	kind Kind
	free *sync.Pool // of kis.Vector
}

// vectorPools has the pools of free vectors that all lanes share: it maps a Kind to a *sync.Pool.
var vectorPools sync.Map

// Kind says which vectors can take each other's rows: those with the same type of row and the same type of vector.
type Kind struct{ Row, Vector reflect.Type }

// KindOf returns the kind of a vector.
func KindOf(v kis.Vector) Kind { return Kind{v.Type(), reflect.TypeOf(v)} }

// pool returns the pool of free vectors of a kind, and makes it if there is none.
func (p *vectors) pool(kind Kind) *sync.Pool {
	for _, pool := range p.pools {
		if pool.kind == kind {
			return pool.free
		}
	}
	free, _ := vectorPools.LoadOrStore(kind, new(sync.Pool))
	p.pools = append(p.pools, vectorPool{kind, free.(*sync.Pool)})
	return free.(*sync.Pool)
}

// lend returns a free vector of a kind, or if there is none, the result of fresh.
func (p *vectors) lend(kind Kind, fresh func() kis.Vector) kis.Vector {
	free := p.pool(kind)
	v, ok := free.Get().(kis.Vector)
	if !ok {
		v = fresh()
	}
	p.lent = append(p.lent, lentVector{v, free})
	return v
}

// reset takes back all vectors that were lent, and empties them, so that they keep nothing in memory that rows point to.
func (p *vectors) reset() {
	for i, l := range p.lent {
		p.lent[i] = lentVector{}
		l.vector.Reset(0)
		l.free.Put(l.vector)
	}
	p.lent = p.lent[:0]
}
