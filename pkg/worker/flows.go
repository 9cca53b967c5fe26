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
	connectors    *connectorStates
	forgetMetrics func(flow string) // drops the metrics of a flow that is over
	// forgetFunction drops those of a function that a flow has no more; elsewhere: others have it.
	forgetFunctionMetrics func(flow, function, mode string, elsewhere bool)
	metrics               *metrics

	resizing sync.Mutex // held while a flow's lanes change their number, so that the last plan says how many there are

	mu     sync.Mutex
	byName map[string]*flow  // guarded by mu
	plans  map[planKey]*plan // guarded by mu
	// functions counts the plans that have a function, for each flow, and under the name "" for all flows; guarded by mu
	functions map[flowFunction]int

	stopping sync.WaitGroup // lanes that nobody needs any more
}

// flow is one flow's lanes. They start with the first plan, and stop when the last is dropped and its rows have ended. Its
// fields are guarded by the lock of flows.
type flow struct {
	name        string
	lanes       *flowexec.Lanes
	wanted      int  // copies of the revision that a coordinator said last the flow is to run on
	plans       int  // that are in use
	running     int  // parts of which not all rows have ended
	keepMetrics bool // whoever needed a plan last is gone, and did not say that the flow is over
}

// functionOf is a function in a flow.
type flowFunction struct{ flow, function, mode string }

// count counts a plan's functions in (1) or out (-1), and returns those that its flow has no more. The caller holds the lock.
func (f *flows) countFunctions(p *plan, plans int) (gone []flowFunction) {
	for function, mode := range p.compiled.Functions() {
		for _, flow := range []string{p.key.flow, ""} {
			key := flowFunction{flow, function, mode}
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
func (f *flows) addPlan(p *plan) {
	copies := p.compiled.Copies()
	f.resizing.Lock()
	defer f.resizing.Unlock()
	f.mu.Lock()
	of := f.byName[p.key.flow]
	if of == nil {
		of = &flow{name: p.key.flow, wanted: copies, lanes: f.start(p.key.flow, copies)}
		f.byName[of.name] = of
	}
	changed := !p.recalled && of.wanted != copies
	if changed {
		of.wanted = copies
	}
	of.plans++
	p.flow = of
	f.countFunctions(p, 1)
	f.mu.Unlock()
	if changed {
		of.lanes.Resize(copies)
	}
}

// run hands a part to its flow's lanes. It does not block.
func (f *flows) enqueue(flow *flow, part *flowexec.Part) {
	f.mu.Lock()
	flow.running++
	lanes := flow.lanes
	f.mu.Unlock()
	lanes.Enqueue(part)
}

// ran says that all rows of a part have ended. Lanes call it.
func (f *flows) partEnded(flow *flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	flow.running--
	f.retire(flow)
}

// leave says that nobody needs a plan of the flow any more.
func (f *flows) planRemoved(flow *flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	flow.plans--
	f.retire(flow)
}

// retire stops lanes that nobody needs. The caller holds the lock.
func (f *flows) retire(flow *flow) {
	if flow.plans == 0 && flow.running == 0 && f.byName[flow.name] == flow {
		delete(f.byName, flow.name)
		f.stopping.Go(func() {
			flow.lanes.Stop()
			f.mu.Lock() // so that no other lanes start meanwhile
			defer f.mu.Unlock()
			if f.byName[flow.name] == nil && !flow.keepMetrics {
				f.forgetMetrics(flow.name)
			}
		})
	}
}

// stop ends idle lanes, in a goroutine since lanes can't wait for themselves.
func (f *flows) stop(lanes *flowexec.Lanes) { f.stopping.Go(lanes.Stop) }

// release takes back rows that have not begun: those of these slots, nil for all, in parts that belong to whom it is asked
// for. They end as returned, soon.
func (f *flows) handBack(flow *flow, slots []batch.Range, belongs func(*flowexec.Part) bool) {
	f.mu.Lock()
	lanes := flow.lanes
	f.mu.Unlock()
	lanes.Release(slots, belongs)
}

// stopAll cancels what runs, takes back what does not, and waits for the lanes. Nobody may run a part meanwhile.
func (f *flows) stopAll() {
	f.mu.Lock()
	for name, flow := range f.byName {
		delete(f.byName, name)
		f.stop(flow.lanes)
	}
	f.mu.Unlock()
	f.stopping.Wait()
}

// lanesOf are the lanes of a flow; nil: it has none.
func (f *flows) lanesOf(name string) *flowexec.Lanes {
	f.mu.Lock()
	defer f.mu.Unlock()
	if flow := f.byName[name]; flow != nil {
		return flow.lanes
	}
	return nil
}
