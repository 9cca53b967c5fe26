package figures

import (
	"sync"
	"time"
	"unsafe"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// The kinds of rows that are counted: those that came in, and those that ended, by outcome. The number of an outcome is its kind.
const (
	in    = 0
	kinds = int(batch.Failed) + 1
)

// Counts are numbers of rows of a flow, by kind: place 0 has those that came in, and the others have those with the outcome of that number.
type Counts [kinds]uint64

// inFlight returns how many rows have come in and not ended.
func (c *Counts) inFlight() uint64 {
	var ended uint64
	for _, n := range c[in+1:] {
		ended += n
	}
	return c[in] - min(ended, c[in])
}

// add adds other counts.
func (c *Counts) add(more *Counts) {
	for i, n := range more {
		c[i] += n
	}
}

// countsOf reads counts from a message.
func countsOf(m *pb.RowCounts) Counts {
	return Counts{
		in: m.GetIn(), batch.Done: m.GetDone(), batch.Filtered: m.GetFiltered(), batch.Aborted: m.GetAborted(), batch.Dead: m.GetDead(), batch.Failed: m.GetFailed(),
	}
}

// message makes a message of counts.
func (c *Counts) message() *pb.RowCounts {
	return &pb.RowCounts{
		In: c[in], Done: c[batch.Done], Filtered: c[batch.Filtered], Aborted: c[batch.Aborted], Dead: c[batch.Dead], Failed: c[batch.Failed],
	}
}

// Ledger is what this coordinator's scheduler has counted of one flow. Counts that are less than before mean that it has begun anew.
type Ledger struct {
	Counts Counts
	// Oldest is when the client first submitted the batch without an outcome that came first; zero means that there is none.
	Oldest time.Time
}

const (
	// maxHistory bounds the bytes of all recent steps and rings. Flows and functions beyond have totals, and no rates and no history.
	maxHistory = 12 << 20
	// maxNames bounds how many flows, and how many functions, the Book has. Others are left out.
	maxNames = 20000
	// idleFor is how long the history of a flow is kept that has no rows, and a worker's totals after its last session. No step of the
	// history is older.
	idleFor = time.Hour
)

// Book has the counts of the whole cluster, as one coordinator knows them. Any goroutine may call its methods.
type Book struct {
	id string // of this coordinator

	mu        sync.Mutex // guards everything below
	began     time.Time  // when counting began
	current   [len(resolutions)]int64
	flows     map[string]*flow
	functions int // of all flows
	bytes     int // of recent steps and rings
	without   int // flows and functions that have none although they have rows

	others others
	processes
}

// flow is one flow in the Book. It is kept when the flow is deleted: the counts of one coordinator must never begin anew while it lives.
type flow struct {
	// by has the counts of each coordinator, by id. before has the sum of those that ended so long ago that nobody names them any more.
	by     map[string]*counted
	before Counts
	own    Counts // this coordinator's ledger, as it was when it was read last
	// changed is when a count has changed last.
	changed time.Time

	functions map[string]*function
	waiting   map[uint64]*pb.FlowFigures // what the workers with a session have parked, by process

	recent  *[recentSteps]Counts // growth in the last fine steps, the one under way first; nil while there is none
	without bool                 // recent is nil because there is no memory
	coarse  Counts               // growth in the coarse step under way
	fine    ring[flowStep]
	hour    ring[flowStep]
}

// counted is what one coordinator has counted of a flow.
type counted struct {
	counts Counts
	oldest time.Time // of the rows in flight; zero means that there are none
	mark   uint64    // Book.others.mark when it has changed last
}

// New makes the Book of the coordinator with the id, which begins to count now.
func New(id string, now time.Time) *Book {
	b := &Book{id: id, began: now, flows: map[string]*flow{}}
	for r := range resolutions {
		b.current[r] = resolutions[r].number(now)
	}
	b.others.by, b.processes.by = map[string]*other{}, map[uint64]*process{}
	return b
}

// flow returns the flow of a name, and makes it if the Book has room; nil means that it has none. The caller holds mu.
func (b *Book) flow(name string) *flow {
	f := b.flows[name]
	if f == nil && len(b.flows) < maxNames {
		f = &flow{by: map[string]*counted{}}
		b.flows[name] = f
	}
	return f
}

// of returns what a coordinator has counted of the flow.
func (f *flow) of(coordinator string) *counted {
	c := f.by[coordinator]
	if c == nil {
		c = &counted{}
		f.by[coordinator] = c
	}
	return c
}

// Own is called with the ledgers of this coordinator, by flow, about once a second. The caller must not hand in an older reading behind a
// newer one.
func (b *Book) Own(now time.Time, ledgers map[string]Ledger) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, l := range ledgers {
		f := b.flow(name)
		if f == nil {
			continue
		}
		var grown Counts
		anew := false
		for i, n := range l.Counts {
			anew = anew || n < f.own[i]
		}
		if anew {
			f.own = Counts{}
		}
		for i, n := range l.Counts {
			grown[i] = n - f.own[i]
		}
		f.own = l.Counts
		c := f.of(b.id)
		if grown != (Counts{}) || !c.oldest.Equal(l.Oldest) {
			c.counts.add(&grown)
			c.oldest, c.mark = l.Oldest, b.others.next()
			f.changed = now
			b.grew(f, &grown)
		}
	}
	for name, f := range b.flows {
		if _, there := ledgers[name]; !there {
			f.own = Counts{} // if the flow comes back, it is counted from 0
			if c := f.by[b.id]; c != nil {
				c.oldest = time.Time{}
			}
		}
	}
}

// grew notes that counts of a flow have grown just now, for its rates and its history. The caller holds mu.
func (b *Book) grew(f *flow, by *Counts) {
	if *by == (Counts{}) {
		return
	}
	if f.recent == nil && !b.record(f) {
		return
	}
	f.recent[0].add(by)
	f.coarse.add(by)
}

// flowBytes and functionBytes are the bytes of the recent steps and rings of a flow and of a function.
var (
	flowBytes     = int(unsafe.Sizeof([recentSteps]Counts{})) + (resolutions[fine].steps+resolutions[coarse].steps)*int(unsafe.Sizeof(flowStep{}))
	functionBytes = int(unsafe.Sizeof(recorded{})) + (resolutions[fine].steps+resolutions[coarse].steps)*int(unsafe.Sizeof(functionStep{}))
)

// room takes bytes for recent steps and rings, and reports whether there are any left. without is the note of the flow or function that it
// has none. The caller holds mu.
func (b *Book) room(bytes int, without *bool) bool {
	if *without {
		b.without--
	}
	*without = b.bytes+bytes > maxHistory
	if *without {
		b.without++
		return false
	}
	b.bytes += bytes
	return true
}

// record begins the history of a flow, and reports whether there was room. The caller holds mu.
func (b *Book) record(f *flow) bool {
	if !b.room(flowBytes, &f.without) {
		return false
	}
	f.recent = new([recentSteps]Counts)
	f.fine.start(resolutions[fine].steps, b.current[fine])
	f.hour.start(resolutions[coarse].steps, b.current[coarse])
	return true
}

// Tick ends the steps whose time is over. It is called about once a second.
func (b *Book) Tick(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if number := resolutions[fine].number(now); number != b.current[fine] {
		ended := b.current[fine]
		b.current[fine] = number
		for _, f := range b.flows {
			b.endFine(f, ended, number, now)
		}
	}
	if number := resolutions[coarse].number(now); number != b.current[coarse] {
		ended := b.current[coarse]
		b.current[coarse] = number
		for _, f := range b.flows {
			b.endCoarse(f, ended, now)
			if now.Sub(f.changed) > idleFor {
				b.erase(f)
			}
		}
		b.processes.forget(now)
	}
}

// erase frees the history of a flow that has been idle for so long that all its steps are empty. The next row begins another one. The
// caller holds mu.
func (b *Book) erase(f *flow) {
	if f.recent != nil {
		f.recent, f.fine, f.hour = nil, ring[flowStep]{}, ring[flowStep]{}
		b.bytes -= flowBytes
	}
	for _, fn := range f.functions {
		if fn.recorded != nil {
			fn.recorded = nil
			b.bytes -= functionBytes
		}
	}
}

// endFine ends the fine step with the number ended of a flow; the next one is that of the number now. The caller holds mu.
func (b *Book) endFine(f *flow, ended, number int64, now time.Time) {
	skipped := number - ended
	if f.recent != nil {
		f.fine.put(ended, b.flowStep(f, &f.recent[0], now))
		shift(f.recent, skipped)
	}
	for _, fn := range f.functions {
		if fn.recorded != nil {
			fn.fine.put(ended, fn.recent[0].step())
			shift(&fn.recent, skipped)
		}
	}
}

// shift moves recent steps on by so many, and makes place for a new one. The clock may have gone back: then it moves on by one.
func shift[Step any](recent *[recentSteps]Step, by int64) {
	by = max(1, min(by, recentSteps))
	copy(recent[by:], recent[:recentSteps-by])
	clear(recent[:by])
}

// endCoarse ends the coarse step with the number ended of a flow. The caller holds mu.
func (b *Book) endCoarse(f *flow, ended int64, now time.Time) {
	if f.recent != nil {
		f.hour.put(ended, b.flowStep(f, &f.coarse, now))
		f.coarse = Counts{}
	}
	for _, fn := range f.functions {
		if fn.recorded != nil {
			fn.hour.put(ended, fn.coarse.step())
			fn.coarse = growth{}
		}
	}
}

// flowStep makes a step of a flow's history: rows by how much the counts grew in it, and the rest as it is now. The caller holds mu.
func (b *Book) flowStep(f *flow, grown *Counts, now time.Time) flowStep {
	inFlight, oldest := b.waitingRows(f, now)
	parked, _ := f.parked()
	s := flowStep{inFlight: clamp(inFlight), parked: clamp(parked), oldest: float32(oldest.Seconds())}
	for i, n := range grown {
		s.rows[i] = clamp(n)
	}
	return s
}

// waitingRows returns how many rows of a flow have no outcome, in the coordinators that answer, and for how long the oldest one has waited.
// The caller holds mu.
func (b *Book) waitingRows(f *flow, now time.Time) (rows uint64, oldest time.Duration) {
	for id, c := range f.by {
		if id != b.id && !b.others.answers(id) {
			continue
		}
		rows += c.counts.inFlight()
		if !c.oldest.IsZero() {
			oldest = max(oldest, now.Sub(c.oldest))
		}
	}
	return rows, oldest
}

// total returns the counts of all coordinators together.
func (f *flow) total() Counts {
	sum := f.before
	for _, c := range f.by {
		sum.add(&c.counts)
	}
	return sum
}

// parked returns how many rows of the flow are parked in workers, and how many keys these have.
func (f *flow) parked() (rows, keys uint64) {
	for _, w := range f.waiting {
		rows, keys = rows+w.GetParkedRows(), keys+w.GetParkedKeys()
	}
	return rows, keys
}
