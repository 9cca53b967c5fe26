package scheduler_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/keyslot"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

var (
	longBatches = flag.Int("long.batches", 4_000, "batches that wait, or are under way, when something happens to their worker")
	longWorkers = flag.Int("long.workers", 24, "workers")
)

// TestStepsAreShort lets things happen to a worker that has many small batches, under way or queued, and counts what each Step
// does: no more than its slice and little beside. It prints the longest: make sim-steps does it with 1,000 workers.
func TestStepsAreShort(t *testing.T) {
	const rows = 4
	workers := *longWorkers
	newCase := func(t *testing.T, sharded bool, credit int64) *long {
		m := &long{t: t, bench: newBench(0, 1, rows), sharded: sharded}
		for w := range workers {
			m.do(scheduler.WorkerConnected{Worker: workerName(w), Name: workerName(w)})
			m.do(scheduler.WorkerReady{Worker: workerName(w), Flow: flowName(0), Revision: 1})
		}
		m.finish()
		if credit > 0 {
			m.do(scheduler.Credited{Worker: workerName(0), Flow: flowName(0), Rows: credit, Bytes: 1 << 50})
		}
		if sharded {
			m.own(workerName(0))
		}
		for range *longBatches {
			m.submit()
		}
		m.finish()
		m.longest, m.most = 0, 0
		return m
	}
	all := int64(1) << 40
	cases := map[string]struct {
		credit int64
		events func(m *long)
	}{
		"gone":           {all, func(m *long) { m.do(scheduler.WorkerGone{Worker: workerName(0), Died: true}) }},
		"gone, queued":   {8, func(m *long) { m.do(scheduler.WorkerGone{Worker: workerName(0)}) }},
		"drains":         {all, func(m *long) { m.do(scheduler.WorkerDraining{Worker: workerName(0)}) }},
		"drains, queued": {8, func(m *long) { m.do(scheduler.WorkerDraining{Worker: workerName(0)}) }},
		"held for too long": {all, func(m *long) {
			m.do(scheduler.WorkerDraining{Worker: workerName(0)})
			m.finish()
			m.now = m.now.Add(10 * time.Second)
			m.do(scheduler.Tick{})
		}},
		"credit": {0, func(m *long) {
			for w := range workers {
				m.do(scheduler.Credited{Worker: workerName(w), Flow: flowName(0), Rows: all, Bytes: 1 << 50})
			}
		}},
		"resumes": {all, func(m *long) {
			m.do(scheduler.WorkerDisconnected{Worker: workerName(0)})
			m.do(scheduler.WorkerResumed{Worker: workerName(0)})
		}},
		"deadline": {8, func(m *long) {
			m.now = m.now.Add(time.Hour)
			m.do(scheduler.Tick{})
		}},
		"cancelled": {8, func(m *long) {
			for _, b := range m.batchesOf[1:] {
				m.do(scheduler.Cancelled{Batch: b})
			}
			m.do(scheduler.Tick{})
		}},
		"revision": {8, func(m *long) {
			var ready []string
			for w := range workers / 2 {
				ready = append(ready, workerName(2*w+1))
			}
			m.do(scheduler.FlowSwitched{Flow: flowName(0), Revision: 2, Ready: ready})
		}},
		"no worker": {8, func(m *long) {
			m.do(scheduler.FlowSwitched{Flow: flowName(0), Revision: 2})
			m.do(scheduler.WorkerGone{Worker: workerName(0)})
			m.finish()
			m.now = m.now.Add(time.Minute)
			m.do(scheduler.Tick{})
		}},
		"joins": {all, func(m *long) { m.join(workers) }},
		// Somebody asks for the rows of a key, under way or queued, while others come and go.
		"asked":         {all, func(m *long) { m.ask() }},
		"asked, queued": {8, func(m *long) { m.ask() }},
		"asked while it drains": {all, func(m *long) {
			m.do(scheduler.WorkerDraining{Worker: workerName(0)})
			m.ask()
		}},
		"asked without workers": {8, func(m *long) {
			m.do(scheduler.FlowSwitched{Flow: flowName(0), Revision: 2})
			m.do(scheduler.WorkerGone{Worker: workerName(0)})
			m.finish()
			m.ask()
		}},
	}
	for name, c := range cases {
		for _, sharded := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/sharded=%v", name, sharded), func(t *testing.T) {
				m := newCase(t, sharded, c.credit)
				c.events(m)
				steps := m.finish()
				t.Logf("%d batches: the longest step took %s, and did %d units; %d steps followed", *longBatches, m.longest, m.most, steps)
				if limit := scheduler.SliceUnits + scheduler.AtOnceUnits; m.most > limit {
					t.Errorf("a step did %d units of work, over %d", m.most, limit)
				}
			})
		}
	}
}

// long is a scheduler under much load.
type long struct {
	*bench
	t         *testing.T
	sharded   bool
	keys      []uint64
	batchesOf []*scheduler.Batch
	longest   time.Duration
	most      int
}

// own has all batches go to one worker.
func (m *long) own(worker string) {
	owners := m.s.Owners(flowName(0))
	for slot := range keyslot.Count {
		if owners.Of(uint16(slot)) == worker {
			m.keys = append(m.keys, uint64(slot))
		}
	}
}

func (m *long) submit() {
	b := &scheduler.Batch{Flow: flowName(0), Revision: 1, Ends: m.ends, Deadline: m.now.Add(time.Hour)}
	if m.sharded {
		for range m.ends {
			m.batches++
			b.Keys = append(b.Keys, m.keys[m.batches%len(m.keys)])
		}
	}
	m.batchesOf = append(m.batchesOf, b)
	m.do(scheduler.Submitted{Batch: b})
}

func (m *long) join(w int) {
	m.do(scheduler.WorkerConnected{Worker: workerName(w), Name: workerName(w)})
	m.do(scheduler.WorkerReady{Worker: workerName(w), Flow: flowName(0), Revision: 1})
}

func (m *long) do(e scheduler.Event) {
	began := time.Now()
	m.s.Step(e, m.now)
	m.longest = max(m.longest, time.Since(began))
	m.most = max(m.most, m.s.Spent())
}

// ask asks for the rows of a key that many batches have.
func (m *long) ask() {
	q := &scheduler.Search{Flow: flowName(0), Most: 10}
	if m.sharded {
		q.Key = m.keys[0]
	}
	m.do(scheduler.Asked{Search: q})
	steps := m.finish()
	want := 0
	for _, b := range m.batchesOf {
		for _, key := range b.Keys {
			if key == q.Key {
				want++
			}
		}
	}
	found := 0
	for _, n := range q.Counts {
		found += n
	}
	if found != want || len(q.Rows) != min(10, want) {
		m.t.Errorf("in %d steps %d rows of %d were found, and %d told", steps, found, want, len(q.Rows))
	}
}

// finish lets the scheduler go on until nothing is left to do.
func (m *long) finish() (steps int) {
	for ; m.s.Behind(); steps++ {
		m.do(scheduler.Continue{})
	}
	return steps
}
