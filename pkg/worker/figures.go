package worker

import (
	"crypto/rand"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kisgrid/kisgrid/internal/sketch"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// figures are the counts of this worker that coordinators are told: what functions did, which rows wait, and how full the worker is. About
// once a second refresh reads the counters and makes a message of each entry that has changed; sessions send those that differ from the
// ones that they have told. Its methods may be called by several goroutines.
//
// An entry has totals since the process started, so that nothing is lost or counted twice when a session breaks, and an entry that is not
// sent because another one replaces it is no loss either.
type figures struct {
	process uint64 // random; names the process to coordinators
	metrics *flowexec.Metrics
	flows   *flows
	budget  *budget

	// version grows with each change. It is read without the lock, so that a session that has told everything finds that out at no cost.
	version atomic.Uint64

	mu        sync.Mutex
	refreshed time.Time                              // guarded by mu: when refresh last looked
	functions map[functionInFlow]*pb.FunctionFigures // guarded by mu; a message does not change once it is here
	states    map[string]*pb.FlowFigures             // guarded by mu: by flow; likewise
	window    *pb.WorkerWindow                       // guarded by mu; likewise
}

// functionInFlow names a function in a flow.
type functionInFlow struct{ flow, function string }

const (
	// figuresEvery is how often the counters are read at most.
	figuresEvery = time.Second
	// figuresAtOnce bounds one message: so many functions, and so many flows.
	figuresAtOnce = 256
	// keysTold is how many keys of parked rows coordinators are told, for each flow.
	keysTold = 5
)

// newFigures makes the figures of a worker. Nothing is read yet.
func newFigures(metrics *flowexec.Metrics, flows *flows, budget *budget) *figures {
	var random [8]byte
	rand.Read(random[:]) // never fails: see crypto/rand
	return &figures{
		process: binary.LittleEndian.Uint64(random[:]), metrics: metrics, flows: flows, budget: budget,
		functions: map[functionInFlow]*pb.FunctionFigures{}, states: map[string]*pb.FlowFigures{},
	}
}

// refresh reads the counters, unless they were read less than figuresEvery ago, and reports whether anything has changed.
func (f *figures) refresh(now time.Time) (changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.refreshed.IsZero() && now.Sub(f.refreshed) < figuresEvery-figuresEvery/10 {
		return false
	}
	f.refreshed = now
	seen := make(map[functionInFlow]bool, len(f.functions))
	f.metrics.FunctionTotals(func(t *flowexec.FunctionTotals) {
		name := functionInFlow{t.Flow, t.Function}
		seen[name] = true
		if was := f.functions[name]; was == nil || !sameTotals(was, t) {
			f.functions[name], changed = functionFigures(t), true
		}
	})
	maps.DeleteFunc(f.functions, func(name functionInFlow, _ *pb.FunctionFigures) bool { return !seen[name] })
	states := f.flows.waiting(keysTold)
	for flow, state := range states {
		if was := f.states[flow]; was != nil && proto.Equal(was, state) {
			states[flow] = was
		} else {
			changed = true
		}
	}
	changed = changed || len(states) < len(f.states)
	f.states = states
	if w := f.budget.window(); !proto.Equal(w, f.window) {
		f.window, changed = w, true
	}
	if changed {
		f.version.Add(1)
	}
	return changed
}

// sameTotals reports whether a message has these totals.
func sameTotals(m *pb.FunctionFigures, t *flowexec.FunctionTotals) bool {
	return m.GetCount() == t.Count && m.GetRows() == t.Rows && m.GetErrors() == t.Errors && m.GetRetries() == t.Retries && m.GetRuns() == runsOf(t)
}

// runsOf returns how many runs the totals have counted.
func runsOf(t *flowexec.FunctionTotals) (runs uint64) {
	for _, n := range t.Times {
		runs += n
	}
	return runs
}

// functionFigures makes the message of a function's totals.
func functionFigures(t *flowexec.FunctionTotals) *pb.FunctionFigures {
	m := &pb.FunctionFigures{
		Flow: t.Flow, Function: t.Function, Count: t.Count, Rows: t.Rows, Runs: runsOf(t), Errors: t.Errors, Retries: t.Retries,
	}
	first, end := 0, sketch.Buckets
	for first < end && t.Times[first] == 0 {
		first++
	}
	for end > first && t.Times[end-1] == 0 {
		end--
	}
	m.FirstTime, m.Times = uint32(first), slices.Clone(t.Times[first:end])
	return m
}

// waiting returns, for each flow that has lanes, how many these are and which rows are parked.
func (f *flows) waiting(keys int) map[string]*pb.FlowFigures {
	f.mu.Lock()
	lanes := make(map[string]*flowexec.Lanes, len(f.byName))
	for name, flow := range f.byName {
		lanes[name] = flow.lanes
	}
	f.mu.Unlock()
	all := make(map[string]*pb.FlowFigures, len(lanes))
	for name, l := range lanes {
		w := l.Waiting(keys)
		m := &pb.FlowFigures{Flow: name, Lanes: uint32(l.Copies()), ParkedRows: uint64(w.Rows), ParkedKeys: uint64(w.Keys)}
		for _, k := range w.Most {
			m.Keys = append(m.Keys, &pb.ParkedKey{Key: k.Key, Rows: uint64(k.Rows)})
		}
		all[name] = m
	}
	return all
}

// window returns how much of the budget is used.
func (b *budget) window() *pb.WorkerWindow {
	s := b.sums()
	granted := most(s.used.minus(s.held), amount{})
	held := most(s.held, amount{})
	return &pb.WorkerWindow{
		HeldRows: uint64(held.rows), HeldBytes: uint64(held.bytes), GrantedRows: uint64(granted.rows), GrantedBytes: uint64(granted.bytes),
		LimitRows: uint64(b.total.rows), LimitBytes: uint64(b.total.bytes),
	}
}

// toldFigures is what one session has told its coordinator. The peer's lock guards it.
type toldFigures struct {
	wanted    bool   // the coordinator takes figures
	version   uint64 // figures.version when everything was told
	functions map[functionInFlow]*pb.FunctionFigures
	states    map[string]*pb.FlowFigures
	window    *pb.WorkerWindow
}

// changesSince returns the next message with entries that differ from those in told, and notes them there; nil if there are none, or if
// the coordinator takes no figures. If there are more than one message can have, the next call returns more.
func (f *figures) changesSince(told *toldFigures) *pb.WorkerFigures {
	version := f.version.Load()
	if !told.wanted || told.version == version {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if told.functions == nil {
		told.functions, told.states = map[functionInFlow]*pb.FunctionFigures{}, map[string]*pb.FlowFigures{}
	}
	m := &pb.WorkerFigures{Process: f.process}
	for name, now := range f.functions {
		if told.functions[name] == now {
			continue
		}
		if len(m.GetFunctions()) == figuresAtOnce {
			return m
		}
		told.functions[name], m.Functions = now, append(m.GetFunctions(), now)
	}
	for name, now := range f.states {
		if told.states[name] == now {
			continue
		}
		if len(m.GetFlows()) == figuresAtOnce {
			return m
		}
		told.states[name], m.Flows = now, append(m.GetFlows(), now)
	}
	for name := range told.states {
		if f.states[name] == nil {
			if len(m.GetFlows()) == figuresAtOnce {
				return m
			}
			delete(told.states, name)
			m.Flows = append(m.GetFlows(), &pb.FlowFigures{Flow: name})
		}
	}
	maps.DeleteFunc(told.functions, func(name functionInFlow, _ *pb.FunctionFigures) bool { return f.functions[name] == nil })
	if told.window != f.window {
		told.window, m.Window = f.window, f.window
	}
	told.version = version
	if len(m.GetFunctions()) == 0 && len(m.GetFlows()) == 0 && m.GetWindow() == nil {
		return nil
	}
	return m
}
