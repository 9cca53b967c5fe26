package scheduler_test

import (
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

var (
	simRows         = flag.Int("sim.rows", 5_000, "rows to submit")
	simWorkers      = flag.Int("sim.workers", 8, "workers; joins and losses keep their number between a half and three halves of it")
	simCoordinators = flag.Int("sim.coordinators", 2, "coordinators, each with clients of its own")
	simSeed         = flag.Uint64("sim.seed", 0, "seed of the run; 0: a few fixed ones")
	simCheck        = flag.Int("sim.check", 500, "steps of a coordinator from one full check to the next")
	simFault        = flag.Duration("sim.fault", 5*time.Millisecond, "virtual time from one fault to the next, on average")
	simSlice        = flag.Int("sim.slice", 0, "work of one Step; 0: for every other seed a little only, so that most goes on in further Steps")
	simTwice        = flag.Bool("sim.twice", true, "run each seed twice and compare the actions")
)

// TestSim runs coordinators, workers and clients in virtual time, with everything that happens to a cluster, and checks the
// promises: one outcome for each row, first executions in order, nothing to a worker that is not ready, no slot that moves
// without need, windows kept, and an end to all waiting.
func TestSim(t *testing.T) {
	seeds := []uint64{1, 2}
	if *simSeed != 0 {
		seeds = []uint64{*simSeed}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Logf("again: go test ./pkg/scheduler -run TestSim -sim.seed=%d -sim.rows=%d -sim.workers=%d -sim.coordinators=%d -sim.fault=%s",
				seed, *simRows, *simWorkers, *simCoordinators, *simFault)
			began := time.Now()
			digest := simulate(t, seed, nil)
			t.Logf("in %s", time.Since(began).Round(time.Millisecond))
			if *simTwice && simulate(t, seed, nil) != digest {
				t.Error("the same events gave other actions the second time")
			}
		})
	}
}

// simulate runs one seed. On a breach it runs it again, and tells the history of the key.
func simulate(t *testing.T, seed uint64, of *breach) (digest uint64) {
	slice := *simSlice
	if slice == 0 && seed%2 == 0 {
		slice = 1 << (seed % 13)
	}
	s := &sim{t: t, cluster: newCluster(t, seed, *simCoordinators, scheduler.Config{
		HandOver: 500 * time.Millisecond, NoWorker: 3 * time.Second, Slice: slice,
	})}
	defer func() {
		switch b := recover().(type) {
		case nil:
		case breach:
			if of == nil {
				simulate(t, seed, &b)
			}
			t.Fatalf("after %s: %s", s.now, b.message)
		default:
			panic(b)
		}
	}()
	if of != nil {
		s.cluster.trace = func(h *keyHistory, format string, a ...any) {
			if h.key == of.history.key && h.stream.name == of.history.stream.name {
				t.Logf("%12s  %s", s.now, fmt.Sprintf(format, a...))
			}
		}
	}
	s.run()
	if of == nil && testing.Verbose() {
		s.report()
	}
	for _, k := range s.cluster.coordinators {
		digest = digest*31 + k.digest
	}
	return digest
}

// sim drives a cluster in virtual time.
type sim struct {
	t       *testing.T
	cluster *cluster
	now     time.Duration
	tick    time.Duration
	agenda  agenda
	count   uint64
	streams []*stream
	recent  []*submission // some of the last
	rows    int           // submitted
	names   int
	zipf    *rand.Zipf
	faults  map[string]int
}

type entry struct {
	at    time.Duration
	count uint64
	do    func()
}

// agenda is the things that are to happen: a heap, the next one on top.
type agenda []entry

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].count < a[j].count
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(entry)) }
func (a *agenda) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	(*a)[last] = entry{}
	*a = (*a)[:last]
	return e
}

func (s *sim) after(d time.Duration, do func()) {
	s.count++
	heap.Push(&s.agenda, entry{s.now + d, s.count, do})
}

// between draws a duration.
func (s *sim) between(from, to time.Duration) time.Duration {
	return from + time.Duration(s.cluster.rnd.Int64N(int64(to-from)))
}

func (s *sim) run() {
	g := s.cluster
	s.faults, s.tick = map[string]int{}, 20*time.Millisecond
	s.zipf = rand.NewZipf(g.rnd, 1.1, 8, 10_000)
	g.pushed, g.queued = s.pushed, s.begin
	g.parked = func(l *lane, slot uint16) {
		s.after(s.between(time.Millisecond, 300*time.Millisecond), func() { l.wake(slot) })
	}
	for _, k := range g.coordinators {
		k.behind = func() {
			if !k.goesOn {
				k.goesOn = true
				s.after(s.between(0, 50*time.Microsecond), func() {
					k.goesOn = false
					k.step(scheduler.Continue{})
				})
			}
		}
	}
	flows := []*flowModel{g.flow("orders", true), g.flow("totals", true), g.flow("reports", false)}
	for range *simWorkers {
		s.join()
	}
	for _, k := range g.coordinators {
		k.checkEvery = *simCheck
		s.every(s.tick, func() { k.step(scheduler.Tick{}) })
		for i := range max(2, *simWorkers/16) * len(flows) {
			s.client(k, flows[i%len(flows)])
		}
	}
	s.every(*simFault, func() {
		if s.rows < *simRows {
			s.after(s.between(0, 2**simFault), s.fault)
		}
	})
	deadline := time.Duration(0)
	for !s.done() {
		e := heap.Pop(&s.agenda).(entry)
		s.now = e.at
		for _, k := range g.coordinators {
			k.now = time.Unix(0, 0).Add(s.now)
		}
		e.do()
		switch {
		case s.rows < *simRows:
		case deadline == 0:
			deadline = s.now + 2*time.Minute
			g.faults = false
			s.join()
		case s.now > deadline:
			s.hang()
		}
	}
	for _, k := range g.coordinators {
		for k.s.Behind() {
			k.step(scheduler.Continue{})
		}
		k.check()
		if n := k.s.InFlight(); n != 0 {
			s.t.Fatalf("%d rows are in flight at the end", n)
		}
	}
}

func (s *sim) every(d time.Duration, do func()) {
	s.after(d, func() {
		do()
		s.every(d, do)
	})
}

func (s *sim) done() bool {
	if s.rows < *simRows {
		return false
	}
	for _, m := range s.streams {
		if m.inFlight > 0 {
			return false
		}
	}
	return true
}

// hang reports what still waits when everything should have ended.
func (s *sim) hang() {
	for _, k := range s.cluster.coordinators {
		for b, sub := range k.live {
			s.t.Errorf("%s: a batch of %s with %d rows has %d without outcome for ever", k.name, b.Flow, b.Rows(), sub.open)
		}
		k.check()
	}
	s.t.FailNow()
}

// client submits batches of one flow, some at a time.
func (s *sim) client(k *coordinator, f *flowModel) {
	g := s.cluster
	m := g.stream(k, f)
	s.streams = append(s.streams, m)
	submit := func() {
		for m.inFlight < 8 && s.rows < *simRows {
			keys := make([]uint64, 1+g.rnd.IntN(1<<g.rnd.IntN(9)))
			for i := range keys {
				keys[i] = s.zipf.Uint64() * 0x9e3779b97f4a7c15 >> 20
			}
			s.rows += len(keys)
			kills := g.chance(0.002)
			sub := m.submit(keys, func(b *scheduler.Batch) {
				if g.chance(0.02) {
					d := s.between(5*time.Millisecond, 500*time.Millisecond)
					b.Deadline = k.now.Add(d)
					s.after(d+s.tick, func() {
						if k.live[b] != nil {
							k.fatalf("a batch is not over, and its deadline was at %s", b.Deadline)
						}
					})
				}
				if kills {
					s.faults["poison"]++
					b.Owner.(*submission).kills = g.rnd.IntN(len(keys))
				}
				for i := range keys {
					if g.chance(0.001) {
						b.Ended = append(b.Ended, batch.RowOutcome{Row: uint32(i), Outcome: batch.Dead, Code: batch.CodeMissingShardKey})
					}
				}
			})
			s.recent = append(s.recent, sub)
			if len(s.recent) > 64 {
				s.recent = s.recent[1:]
			}
		}
	}
	m.answered = func() { s.after(s.between(0, 5*time.Millisecond), submit) }
	s.after(s.between(0, 50*time.Millisecond), submit)
}

// pushed delivers a message after a while.
func (s *sim) pushed(e *session, toWorker bool) {
	way := 0
	if toWorker {
		way = 1
	}
	took := s.between(50*time.Microsecond, time.Millisecond)
	if s.cluster.chance(0.002) {
		took = 100 * time.Millisecond
	}
	epoch := e.epoch
	e.due[way] = max(e.due[way], s.now+took)
	s.after(e.due[way]-s.now, func() {
		if e.up && e.epoch == epoch {
			e.deliver(toWorker)
		}
	})
}

// begin lets a lane run.
func (s *sim) begin(l *lane) {
	if l.running != nil || !l.begin() {
		return
	}
	run := l.running
	if sub := run.of.owner(); slices.ContainsFunc(run.rows, func(i uint32) bool { return int(run.of.Row(i)) == sub.kills }) {
		s.after(s.between(0, 100*time.Microsecond), func() {
			if n := l.node; l.running == run && !n.dead {
				s.crash(n)
				s.join()
			}
		})
		return
	}
	took := time.Duration(float64(len(run.rows)) * l.node.slow * float64(s.between(200*time.Microsecond, 3*time.Millisecond)))
	s.after(took, func() {
		if l.running == run {
			l.finish()
			s.begin(l)
		}
	})
}

func (s *sim) join() {
	s.names++
	n := s.cluster.start(fmt.Sprintf("worker-%d", s.names), 1+s.cluster.rnd.IntN(3))
	for _, k := range s.cluster.coordinators {
		s.connect(k.sessions[n.id], s.between(0, 20*time.Millisecond))
	}
}

func (s *sim) connect(e *session, in time.Duration) {
	s.after(in, func() {
		if !e.node.dead {
			e.connect()
		}
	})
}

// fault lets one thing happen.
func (s *sim) fault() {
	g := s.cluster
	if len(g.nodes) == 0 {
		s.join()
	}
	n := g.nodes[g.rnd.IntN(len(g.nodes))]
	k := g.coordinators[g.rnd.IntN(len(g.coordinators))]
	few, many := len(g.nodes) <= (*simWorkers+1)/2, len(g.nodes) >= *simWorkers*3/2
	happened := func(what string) { s.faults[what]++ }
	switch d := g.rnd.IntN(20); {
	case d < 4 && !many:
		happened("join")
		s.join()
	case d < 6 && !few:
		happened("crash")
		s.crash(n)
	case d < 8 && !few && !n.draining:
		happened("drain")
		n.drain(g.chance(0.5))
		s.after(s.between(0, 5*time.Millisecond), n.tell)
		s.leave(n, s.now+2*time.Second)
	case d < 14:
		happened("cut")
		e := k.sessions[n.id]
		if g.chance(0.5) {
			e.silence()
		}
		s.after(s.between(0, 300*time.Millisecond), func() {
			e.cut()
			if g.chance(0.1) {
				happened("forgotten")
				n.forget(k)
			}
			s.connect(e, s.between(time.Millisecond, time.Second))
		})
	case d < 15:
		happened("given up")
		e := k.sessions[n.id]
		e.cut()
		s.after(s.between(0, time.Second), func() { e.giveUp(false) })
		s.connect(e, s.between(time.Second, 3*time.Second))
	case d < 17:
		happened("slow")
		n.slow = 50
		s.after(s.between(0, 2*time.Second), func() { n.slow = 1 })
	case d < 18:
		happened("switch")
		s.switchFlow(g.flows[g.rnd.IntN(len(g.flows))])
	case len(s.recent) > 0:
		happened("cancel")
		s.recent[g.rnd.IntN(len(s.recent))].cancel()
	}
}

// crash ends a worker; each coordinator hears of it some time later.
func (s *sim) crash(n *node) {
	n.crash()
	for _, k := range s.cluster.coordinators {
		s.after(s.between(0, 200*time.Millisecond), func() { k.sessions[n.id].giveUp(true) })
	}
}

// leave ends a draining worker when it is idle, or at its grace's end.
func (s *sim) leave(n *node, until time.Duration) {
	switch {
	case n.dead:
	case n.idle():
		n.crash()
		for _, k := range s.cluster.coordinators {
			k.sessions[n.id].giveUp(false)
		}
	case s.now > until:
		s.crash(n)
	default:
		s.after(20*time.Millisecond, func() { s.leave(n, until) })
	}
}

// switchFlow activates a new revision, which some workers are late to acknowledge.
func (s *sim) switchFlow(f *flowModel) {
	g := s.cluster
	f.wanted++
	for _, n := range g.nodes {
		if g.chance(0.1) {
			n.lagging[f.name] = true
			s.after(s.between(0, 2*time.Second), func() { n.catchUp(f) })
		}
	}
	for _, e := range g.sessions(true) {
		e.say(message{define: f})
	}
	for _, k := range g.coordinators {
		s.after(s.between(0, 200*time.Millisecond), func() { k.switchTo(f) })
	}
}

func (s *sim) report() {
	steps, poisoned, outcomes := 0, 0, batch.Counts{}
	for _, k := range s.cluster.coordinators {
		steps, poisoned = steps+k.steps, poisoned+k.poisoned
		k.s.Ledgers(func(_ string, l scheduler.Ledger) {
			for o, n := range l.Outcomes {
				outcomes[o] += n
			}
		})
	}
	s.t.Logf("%d rows, %d steps, %s of virtual time; faults: %v; rows that were poison: %d", s.rows, steps, s.now, s.faults, poisoned)
	for o := batch.Done; o <= batch.Failed; o++ {
		s.t.Logf("%10d %s", outcomes[o], o)
	}
}
