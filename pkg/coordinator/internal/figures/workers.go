package figures

import (
	"time"

	"github.com/kisgrid/kisgrid/internal/sketch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// function is one function of a flow, in all workers.
type function struct {
	rows, runs, errors, retries uint64
	*recorded                        // nil while the function does not run, and where there is no memory
	without                     bool // recorded is nil because there is no memory
}

// recorded is the recent steps and the history of a function.
type recorded struct {
	recent [recentSteps]growth // growth in the last fine steps, the one under way first
	coarse growth              // growth in the coarse step under way
	fine   ring[functionStep]
	hour   ring[functionStep]
}

// functionName names a function in a flow.
type functionName struct{ flow, function string }

// processes are the processes of workers. The Book's lock guards it.
type processes struct {
	by       map[uint64]*process // by the number that the process has drawn
	sessions uint64              // number of the last session
}

// process is one process of a worker. It may have several ids, one after the other, and sessions.
type process struct {
	worker  string // the id that it has, or had
	session uint64 // the session in which it told something last; 0 means that this session has ended
	ended   time.Time
	last    map[functionName]*lastTotals // nil after it was forgotten
	window  *pb.WorkerWindow
}

// lastTotals are the totals of a function that a process has told last.
type lastTotals struct {
	session                     uint64 // in which they were told
	count                       uint32
	rows, runs, errors, retries uint64
	first                       uint32
	times                       []uint64 // from bucket first on
}

// BeginSession returns the number of a session with a worker that has just begun.
func (b *Book) BeginSession() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.processes.sessions++
	return b.processes.sessions
}

// EndSession notes that a session has ended. The rows that its worker has parked are not counted until it is back.
func (b *Book) EndSession(now time.Time, session uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for number, p := range b.processes.by {
		if p.session != session {
			continue
		}
		p.session, p.ended, p.window = 0, now, nil
		for _, f := range b.flows {
			delete(f.waiting, number)
		}
	}
}

// maxForgotten is how many processes are remembered after their totals were forgotten.
const maxForgotten = 4096

// forget forgets the totals of processes that had no session for long. Only their numbers stay: should one come back after all, its totals
// are not added once more.
func (p *processes) forget(now time.Time) {
	for _, one := range p.by {
		if one.session == 0 && now.Sub(one.ended) > idleFor {
			one.last = nil
		}
	}
	for number, one := range p.by {
		if len(p.by) <= maxForgotten {
			break
		}
		if one.last == nil {
			delete(p.by, number)
		}
	}
}

// Worker takes figures that the worker with the id has told in a session.
func (b *Book) Worker(now time.Time, session uint64, worker string, m *pb.WorkerFigures) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.processes.by[m.GetProcess()]
	returns := p != nil && p.last == nil
	if p == nil {
		p = &process{}
		b.processes.by[m.GetProcess()] = p
	}
	if p.last == nil {
		p.last = map[functionName]*lastTotals{}
	}
	p.worker, p.session = worker, session
	if w := m.GetWindow(); w != nil {
		p.window = w
	}
	for _, t := range m.GetFunctions() {
		if f := b.flow(t.GetFlow()); f != nil && len(t.GetTimes()) <= sketch.Buckets && t.GetFirstTime() <= sketch.Buckets-uint32(len(t.GetTimes())) {
			b.function(now, f, p, session, t, returns)
		}
	}
	for _, s := range m.GetFlows() {
		f := b.flow(s.GetFlow())
		switch {
		case f == nil:
		case s.GetLanes() == 0:
			delete(f.waiting, m.GetProcess())
		default:
			if f.waiting == nil {
				f.waiting = map[uint64]*pb.FlowFigures{}
			}
			f.waiting[m.GetProcess()] = s
		}
	}
}

// function takes the totals of one function. forgotten says that the process was known before and its totals are not: then nobody can say
// how much of them is counted already, and they only are the ones to which the next are compared. The caller holds mu.
func (b *Book) function(now time.Time, f *flow, p *process, session uint64, t *pb.FunctionFigures, forgotten bool) {
	name := functionName{t.GetFlow(), t.GetFunction()}
	fn := f.functions[name.function]
	if fn == nil {
		if b.functions >= maxNames {
			return
		}
		if f.functions == nil {
			f.functions = map[string]*function{}
		}
		b.functions++
		fn = &function{}
		f.functions[name.function] = fn
	}
	last := p.last[name]
	if last == nil {
		last = &lastTotals{}
		p.last[name] = last
	}
	rated := last.session == session
	grown, runs := last.growth(t)
	*last = lastTotals{session, t.GetCount(), t.GetRows(), t.GetRuns(), t.GetErrors(), t.GetRetries(), t.GetFirstTime(), t.GetTimes()}
	if forgotten {
		return
	}
	f.changed = now
	fn.rows, fn.runs, fn.errors, fn.retries = fn.rows+grown.rows, fn.runs+runs, fn.errors+grown.errors, fn.retries+grown.retries
	if !rated || fn.recorded == nil && !b.recordFunction(fn) {
		return
	}
	fn.recent[0].add(&grown)
	fn.coarse.add(&grown)
}

// growth returns by how much totals have grown since these. Totals that have begun anew, or are less than before, are all growth.
func (l *lastTotals) growth(t *pb.FunctionFigures) (grown growth, runs uint64) {
	was := *l
	if was.count != t.GetCount() || t.GetRows() < was.rows || t.GetRuns() < was.runs || t.GetErrors() < was.errors || t.GetRetries() < was.retries {
		was = lastTotals{}
	}
	grown.rows, grown.errors, grown.retries = t.GetRows()-was.rows, t.GetErrors()-was.errors, t.GetRetries()-was.retries
	for i, n := range t.GetTimes() {
		bucket := int(t.GetFirstTime()) + i
		var before uint64
		if at := bucket - int(was.first); at >= 0 && at < len(was.times) {
			before = was.times[at]
		}
		grown.times[bucket] = clamp(n - min(before, n))
	}
	return grown, t.GetRuns() - was.runs
}

// recordFunction begins the history of a function, and reports whether there was room. The caller holds mu.
func (b *Book) recordFunction(fn *function) bool {
	if !b.room(functionBytes, &fn.without) {
		return false
	}
	fn.recorded = &recorded{}
	fn.fine.start(resolutions[fine].steps, b.current[fine])
	fn.hour.start(resolutions[coarse].steps, b.current[coarse])
	return true
}
