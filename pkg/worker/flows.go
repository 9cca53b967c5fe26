package worker

import (
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
)

// flows has every flow of this process with its lanes, and every plan. All coordinators share them. Its methods may be called
// by several goroutines. Nothing is compiled, and nothing blocks, while mu is held.
type flows struct {
	compile       func(definitionDocuments) (*flowexec.Plan, error) // server.compile
	start         func(flow string, copies int) *flowexec.Lanes     // starts the lanes of a flow
	connectors    *connectorStates                                  // opens the connectors of plans
	forgetMetrics func(flow string)                                 // drops the metrics of a flow that has ended
	// forgetFunctionMetrics drops the metrics of a function that its flow does not have any more. elsewhere says that another
	// flow has it.
	forgetFunctionMetrics func(flow, function, mode string, elsewhere bool)
	metrics               *metrics

	resizing sync.Mutex // held while the number of a flow's lanes changes, so that the last plan decides

	mu     sync.Mutex
	byName map[string]*flow  // guarded by mu
	plans  map[planKey]*plan // guarded by mu
	// functions counts the plans that have a function: for each flow, and for all flows under the name "". Guarded by mu.
	functions map[flowFunction]int
	// lost has the flows that have no lanes any more because their last coordinator was lost, with the time of that. Guarded by mu.
	lost map[string]time.Time

	// taps are the taps of each flow, also of flows that have no lanes here. A list does not change. Guarded by mu.
	taps map[string][]*flowexec.Tap

	stopping sync.WaitGroup // goroutines that stop lanes
}

// lostFlowMetrics is how long the metrics of a flow stay after its last coordinator was lost. A coordinator that is back by then defines the
// flow again, and its counters go on. If none does, the flow may have been deleted meanwhile, which nobody would tell this worker.
const lostFlowMetrics = time.Minute

// flow has the lanes of one flow. The lanes start with the first plan of the flow, and stop when its last plan is released and
// all its rows have ended. The fields are guarded by flows.mu.
//
//	addPlan ──► running ──► last plan released ──► last part ended ──► lanes stopped
//	               ▲                 │
//	               └── addPlan ──────┘
type flow struct {
	name    string
	lanes   *flowexec.Lanes // run the parts of the flow
	wanted  int             // number of lanes that the active revision asks for
	plans   int             // plans in use
	running int             // parts that have rows which have not ended
	lost    bool            // the last user of a plan was lost, so the flow may come back
}

// flowFunction names one function in one flow. A function that is used in two modes counts as two. An empty flow means all
// flows.
type flowFunction struct{ flow, function, mode string }

// countFunctions adds plans, which is 1 or -1, to the count of each function of the plan. It returns the functions that the
// flow does not have any more. The caller holds f.mu.
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

// addPlan gives the plan the lanes of its flow, and starts them for the first plan. Where the flow is to run on this plan, the
// number of lanes becomes the plan's, also while rows run.
func (f *flows) addPlan(p *plan) {
	copies := p.compiled.Copies()
	f.resizing.Lock()
	defer f.resizing.Unlock()
	f.mu.Lock()
	of := f.byName[p.key.flow]
	if of == nil {
		of = &flow{name: p.key.flow, wanted: copies, lanes: f.start(p.key.flow, copies)}
		f.byName[of.name] = of
		of.lanes.Watch(f.taps[of.name])
		delete(f.lost, of.name)
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
		pointResized.Hit()
		of.lanes.Resize(copies)
	}
}

// enqueue gives a part to the lanes of its flow. It does not block.
func (f *flows) enqueue(flow *flow, part *flowexec.Part) {
	f.mu.Lock()
	flow.running++
	lanes := flow.lanes
	f.mu.Unlock()
	lanes.Enqueue(part)
}

// partEnded notes that all rows of a part have ended, so that the flow has one running part less. Lanes call it.
func (f *flows) partEnded(flow *flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	flow.running--
	f.retire(flow)
}

// planRemoved notes that a plan of the flow has no user any more, so that the flow has one plan less.
func (f *flows) planRemoved(flow *flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	flow.plans--
	f.retire(flow)
}

// retire stops the lanes of the flow if it has no plan and no part with rows that have not ended. The caller holds f.mu.
func (f *flows) retire(flow *flow) {
	if flow.plans == 0 && flow.running == 0 && f.byName[flow.name] == flow {
		delete(f.byName, flow.name)
		lost := flow.lost
		f.stopping.Go(func() { // the caller may be one of these lanes, and a lane can't wait for itself
			flow.lanes.Stop()
			f.lanesStopped(flow.name, lost)
		})
	}
}

// lanesStopped drops the metrics of a flow whose lanes have stopped, or marks the flow as lost, unless the flow has new lanes. f.mu is held
// until the metrics are gone, so that new lanes of this flow don't lose theirs.
func (f *flows) lanesStopped(flow string, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.byName[flow] != nil:
	case lost:
		f.lost[flow] = time.Now()
	default:
		delete(f.lost, flow)
		f.forgetMetrics(flow)
	}
}

// forgetLost drops the metrics of flows that were lost longer than lostFlowMetrics ago.
func (f *flows) forgetLost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for flow, at := range f.lost {
		if time.Since(at) > lostFlowMetrics {
			delete(f.lost, flow)
			f.forgetMetrics(flow)
		}
	}
}

// handBack makes the flow's lanes return rows that have not begun: rows in the given slots, of the parts for which belongs
// returns true. nil slots mean all slots. The rows soon end as returned, in a RunResult of their part.
func (f *flows) handBack(flow *flow, slots []batch.Range, belongs func(*flowexec.Part) bool) {
	f.mu.Lock()
	lanes := flow.lanes
	f.mu.Unlock()
	lanes.Release(slots, belongs)
}

// stopAll cancels the running rows of all flows, hands back the rows that have not begun, and waits until all lanes have
// stopped. No part may be enqueued meanwhile.
func (f *flows) stopAll() {
	f.mu.Lock()
	for name, flow := range f.byName {
		delete(f.byName, name)
		f.stopping.Go(func() {
			flow.lanes.Stop()
			f.lanesStopped(name, true)
		})
	}
	f.mu.Unlock()
	f.stopping.Wait()
}

// lanesOf returns the lanes of the flow with this name. nil means that the flow has no lanes here.
func (f *flows) lanesOf(name string) *flowexec.Lanes {
	f.mu.Lock()
	defer f.mu.Unlock()
	if flow := f.byName[name]; flow != nil {
		return flow.lanes
	}
	return nil
}
