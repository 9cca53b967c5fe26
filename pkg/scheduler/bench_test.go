package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

// bench is a scheduler with ready workers that have unlimited credit.
type bench struct {
	s       *scheduler.Scheduler
	now     time.Time
	keys    [][]uint64 // of the batches, one after the other
	ends    []uint32
	batches int
	sent    []scheduler.Send
}

func newBench(workers, flows, rows int) *bench {
	m := &bench{s: scheduler.New(scheduler.Config{}), now: time.Unix(0, 0)}
	for f := range flows {
		m.step(scheduler.FlowSwitched{Flow: flowName(f), Revision: 1})
	}
	for w := range workers {
		m.join(w, flows)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 64 {
		keys := make([]uint64, rows)
		for i := range keys {
			keys[i] = rnd.Uint64()
		}
		m.keys = append(m.keys, keys)
	}
	for i := range rows {
		m.ends = append(m.ends, uint32(50*(i+1)))
	}
	return m
}

func flowName(f int) string   { return fmt.Sprintf("flow-%d", f) }
func workerName(w int) string { return fmt.Sprintf("worker-%d", w) }

func (m *bench) step(e scheduler.Event) {
	for _, a := range m.s.Step(e, m.now) {
		if send, ok := a.(scheduler.Send); ok {
			m.sent = append(m.sent, send)
		}
	}
}

func (m *bench) join(w, flows int) {
	m.step(scheduler.WorkerConnected{Worker: workerName(w), Name: workerName(w)})
	for f := range flows {
		m.step(scheduler.WorkerReady{Worker: workerName(w), Flow: flowName(f), Revision: 1})
		m.step(scheduler.Credited{Worker: workerName(w), Flow: flowName(f), Rows: 1 << 40, Bytes: 1 << 50})
	}
}

// submit brings the next batch in.
func (m *bench) submit(flow string, sharded bool) {
	m.batches++
	b := &scheduler.Batch{Flow: flow, Revision: 1, Ends: m.ends}
	if sharded {
		b.Keys = m.keys[m.batches%len(m.keys)]
	}
	m.step(scheduler.Submitted{Batch: b})
}

// answer ends the first n parts that were sent, each with a message, and one for credit.
func (m *bench) answer(n int) {
	for _, send := range m.sent[:n] {
		m.step(scheduler.Answered{Worker: send.Worker, Part: send.Part.Number, Last: true})
		m.step(scheduler.Credited{Worker: send.Worker, Flow: send.Part.Batch.Flow, Rows: 1, Bytes: 1})
	}
	m.sent = m.sent[:copy(m.sent, m.sent[n:])]
}

// BenchmarkStep sends batches of 1,000 rows and answers their parts, with two parts unanswered per worker all the time. An operation is one part with its two messages back;
// ns/part is its share of the batch's step, ns/message the cost of one message.
func BenchmarkStep(b *testing.B) {
	for _, c := range []struct {
		workers, flows int
		sharded        bool
	}{{2, 1, true}, {100, 1, true}, {1000, 1, true}, {1000, 64, true}, {2, 1, false}, {1000, 1, false}} {
		kind := "sharded"
		if !c.sharded {
			kind = "whole"
		}
		b.Run(fmt.Sprintf("%s/workers=%d/flows=%d", kind, c.workers, c.flows), func(b *testing.B) {
			m := newBench(c.workers, c.flows, 1000)
			b.ReportAllocs()
			for len(m.sent) < 2*c.workers {
				m.submit(flowName(m.batches%c.flows), c.sharded)
			}
			var parts int
			var submitting, answering time.Duration
			b.ResetTimer()
			for parts < b.N {
				busy := len(m.sent)
				began := time.Now()
				for range 64 {
					m.submit(flowName(m.batches%c.flows), c.sharded)
				}
				parts += len(m.sent) - busy
				submitted := time.Now()
				m.answer(len(m.sent) - busy)
				submitting += submitted.Sub(began)
				answering += time.Since(submitted)
			}
			b.StopTimer()
			b.ReportMetric(float64(submitting.Nanoseconds())/float64(parts), "ns/part")
			b.ReportMetric(float64(answering.Nanoseconds())/float64(2*parts), "ns/message")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(parts), "ns/op")
		})
	}
}

// BenchmarkMembership lets one worker join 1,000, drain, and go, in all flows. Loaded: a million rows are unanswered.
func BenchmarkMembership(b *testing.B) {
	const workers = 1000
	for _, c := range []struct{ flows, batches int }{{1, 0}, {1, 1000}, {64, 0}, {64, 1000}} {
		b.Run(fmt.Sprintf("workers=%d/flows=%d/unanswered=%d", workers, c.flows, c.batches*1000), func(b *testing.B) {
			m := newBench(workers, c.flows, 1000)
			for i := range c.batches {
				m.submit(flowName(i%c.flows), true)
			}
			var join, drain, gone time.Duration
			n := 0
			for b.Loop() {
				w := workers + n
				n++
				began := time.Now()
				m.join(w, c.flows)
				joined := time.Now()
				m.step(scheduler.WorkerDraining{Worker: workerName(n)})
				drained := time.Now()
				m.step(scheduler.WorkerGone{Worker: workerName(n)})
				join += joined.Sub(began)
				drain += drained.Sub(joined)
				gone += time.Since(drained)
			}
			b.ReportMetric(join.Seconds()*1000/float64(n), "ms/join")
			b.ReportMetric(drain.Seconds()*1000/float64(n), "ms/drain")
			b.ReportMetric(gone.Seconds()*1000/float64(n), "ms/gone")
		})
	}
}
