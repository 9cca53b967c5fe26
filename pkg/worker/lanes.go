package worker

import (
	"sync"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
)

// flows are the flows of this process, each with its lanes, shared by all coordinators. Its methods may be called by
// several goroutines; nothing is compiled or waited for under its lock.
type flows struct {
	compile func(definitionDocuments) (*flowexec.Plan, error)
	start   func(flow string, copies int) *flowexec.Lanes
	// standings have the connectors of plans opened.
	standings *standings
	forget    func(flow string) // drops the metrics of a flow that is over
	// forgetFunction drops those of a function that a flow has no more; elsewhere: others have it.
	forgetFunction func(flow, function, mode string, elsewhere bool)
	metrics        *metrics

	resizing sync.Mutex // held while a flow's lanes change their number, so that the last plan says how many there are

	mu     sync.Mutex
	byName map[string]*flow  // guarded by mu
	plans  map[planKey]*plan // guarded by mu
	// functions counts the plans that have a function, for each flow, and under the name "" for all flows; guarded by mu
	functions map[functionOf]int

	stopping sync.WaitGroup // lanes that nobody needs any more
}

// flow is one flow's lanes. They start with the first plan, and stop when the last is dropped and its rows have ended. Its
// fields are guarded by the lock of flows.
type flow struct {
	name    string
	lanes   *flowexec.Lanes
	wanted  int  // copies of the revision that a coordinator said last the flow is to run on
	plans   int  // that are in use
	running int  // parts of which not all rows have ended
	lost    bool // whoever needed a plan last is gone, and did not say that the flow is over
}

// functionOf is a function in a flow.
type functionOf struct{ flow, function, mode string }

// count counts a plan's functions in (1) or out (-1), and returns those that its flow has no more. The caller holds the lock.
func (f *flows) count(p *plan, plans int) (gone []functionOf) {
	for function, mode := range p.compiled.Functions() {
		for _, flow := range []string{p.key.flow, ""} {
			key := functionOf{flow, function, mode}
			if f.functions[key] += plans; f.functions[key] > 0 {
				continue
			}
			delete(f.functions, key)
			if flow != "" {
				gone = append(gone, key)
			}
		}
	}
	return gone
}

// join makes the plan one of its flow's, and starts the lanes where it is the first. Where the flow is to run on it, there are
// as many lanes as it says from now on, whatever runs.
func (f *flows) join(p *plan) {
	copies := p.compiled.Copies()
	f.resizing.Lock()
	defer f.resizing.Unlock()
	f.mu.Lock()
	w := f.byName[p.key.flow]
	if w == nil {
		w = &flow{name: p.key.flow, wanted: copies, lanes: f.start(p.key.flow, copies)}
		f.byName[w.name] = w
	}
	changed := !p.recalled && w.wanted != copies
	if changed {
		w.wanted = copies
	}
	w.plans++
	p.flow = w
	f.count(p, 1)
	f.mu.Unlock()
	if changed {
		w.lanes.Resize(copies)
	}
}

// run hands a part to its flow's lanes. It does not block.
func (f *flows) run(w *flow, part *flowexec.Part) {
	f.mu.Lock()
	w.running++
	lanes := w.lanes
	f.mu.Unlock()
	lanes.Enqueue(part)
}

// ran says that all rows of a part have ended. Lanes call it.
func (f *flows) ran(w *flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.running--
	f.retire(w)
}

// leave says that nobody needs a plan of the flow any more.
func (f *flows) leave(w *flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.plans--
	f.retire(w)
}

// retire stops lanes that nobody needs. The caller holds the lock.
func (f *flows) retire(w *flow) {
	if w.plans == 0 && w.running == 0 && f.byName[w.name] == w {
		delete(f.byName, w.name)
		f.stopping.Go(func() {
			w.lanes.Stop()
			f.mu.Lock() // so that no other lanes start meanwhile
			defer f.mu.Unlock()
			if f.byName[w.name] == nil && !w.lost {
				f.forget(w.name)
			}
		})
	}
}

// stop ends idle lanes, in a goroutine since lanes can't wait for themselves.
func (f *flows) stop(lanes *flowexec.Lanes) { f.stopping.Go(lanes.Stop) }

// release takes back rows that have not begun: those of these slots, nil for all, in parts that belong to whom it is asked
// for. They end as returned, soon.
func (f *flows) release(w *flow, slots []batch.Range, belongs func(*flowexec.Part) bool) {
	f.mu.Lock()
	lanes := w.lanes
	f.mu.Unlock()
	lanes.Release(slots, belongs)
}

// all are the flows that have lanes.
func (f *flows) all() []*flow {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]*flow, 0, len(f.byName))
	for _, w := range f.byName {
		all = append(all, w)
	}
	return all
}

// stopAll cancels what runs, takes back what does not, and waits for the lanes. Nobody may run a part meanwhile.
func (f *flows) stopAll() {
	f.mu.Lock()
	for name, w := range f.byName {
		delete(f.byName, name)
		f.stop(w.lanes)
	}
	f.mu.Unlock()
	f.stopping.Wait()
}
