package scheduler_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

// TestAnyOrderOfEvents lets rapid decide what happens next to a small cluster without time: it finds, and shrinks, orders of
// events that break a promise. The whole state is checked after each.
func TestAnyOrderOfEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(map[string]func(*rapid.T){
			"":           func(*rapid.T) { m.check() },
			"submit":     m.submit,
			"cancel":     m.cancel,
			"start":      m.start,
			"connect":    m.connect,
			"cut":        m.cut,
			"forget":     m.forget,
			"give up":    m.giveUp,
			"crash":      m.crash,
			"bury":       m.bury,
			"drain":      m.drain,
			"leave":      m.leave,
			"cordon":     m.cordon,
			"deliver":    m.deliver,
			"begin":      m.begin,
			"finish":     m.finish,
			"wake":       m.wake,
			"tell":       m.tell,
			"switch":     m.switchFlow,
			"catch up":   m.catchUp,
			"time":       m.time,
			"much work":  m.work,
			"all arrive": m.arrive,
			"go on":      m.goOn,
		})
		m.settle()
	})
}

// machine drives a cluster by what rapid draws.
type machine struct {
	*cluster
	t       *rapid.T
	streams []*stream
	recent  []*submission
	dead    []*session // of workers that crashed, and are not given up yet
	parks   []parking
}

type parking struct {
	lane *lane
	slot uint16
}

func newMachine(t *rapid.T) *machine {
	seed := rapid.Uint64().Draw(t, "seed")
	m := &machine{t: t, cluster: newCluster(t, seed, rapid.IntRange(1, 2).Draw(t, "coordinators"),
		scheduler.Config{Slice: rapid.SampledFrom([]int{1, 30, 200, 100_000}).Draw(t, "slice")})}
	m.parked = func(l *lane, slot uint16) { m.parks = append(m.parks, parking{l, slot}) }
	for _, f := range []*flowModel{m.flow("orders", true), m.flow("reports", false)} {
		for _, k := range m.coordinators {
			m.streams = append(m.streams, m.stream(k, f), m.stream(k, f))
		}
	}
	m.start(t)
	return m
}

// goOn lets the schedulers go on with work that earlier steps left.
func (m *machine) goOn(*rapid.T) {
	for _, k := range m.coordinators {
		k.step(scheduler.Continue{})
	}
}

func (m *machine) check() {
	for _, k := range m.coordinators {
		k.check()
	}
}

// pick draws one of the given values; an action without any is skipped.
func pick[E any](t *rapid.T, name string, all []E) E {
	if len(all) == 0 {
		t.Skip("no " + name)
	}
	return all[rapid.IntRange(0, len(all)-1).Draw(t, name)]
}

func (m *machine) submit(t *rapid.T) {
	s := pick(t, "stream", m.streams)
	keys := rapid.SliceOfN(rapid.Uint64Range(0, 11), 1, 12).Draw(t, "keys")
	for i := range keys {
		keys[i] *= 5461 // all over the slots
	}
	deadline := rapid.IntRange(0, 20).Draw(t, "deadline")
	m.recent = append(m.recent, s.submit(keys, func(b *scheduler.Batch) {
		if deadline == 1 {
			b.Deadline = s.coordinator.now.Add(2 * time.Second)
		}
	}))
}

func (m *machine) cancel(t *rapid.T) { pick(t, "batch", m.recent).cancel() }

func (m *machine) start(t *rapid.T) {
	if len(m.nodes) > 4 {
		t.Skip("enough workers")
	}
	name := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name")
	n := m.cluster.start(name, 1+len(m.nodes)%2)
	for _, k := range m.coordinators {
		k.sessions[n.id].connect()
	}
}

func (m *machine) connect(t *rapid.T) { pick(t, "session", m.sessions(false)).connect() }

func (m *machine) cut(t *rapid.T) { pick(t, "session", m.sessions(true)).cut() }

func (m *machine) forget(t *rapid.T) {
	s := pick(t, "session", m.sessions(false))
	s.node.forget(s.coordinator)
}

func (m *machine) giveUp(t *rapid.T) {
	pick(t, "session", m.sessions(rapid.Bool().Draw(t, "up"))).giveUp(false)
}

func (m *machine) crash(t *rapid.T) { m.end(pick(t, "worker", m.nodes)) }

func (m *machine) end(n *node) {
	n.crash()
	for _, k := range m.coordinators {
		m.dead = append(m.dead, k.sessions[n.id])
	}
}

func (m *machine) bury(t *rapid.T) {
	s := pick(t, "session", m.dead)
	s.giveUp(!s.node.draining)
}

func (m *machine) drain(t *rapid.T) { pick(t, "worker", m.nodes).drain(rapid.Bool().Draw(t, "told")) }

// cordon tells one coordinator that a worker is cordoned, or that it is not any more. Others may never hear of it: a coordinator decides for
// its own rows.
func (m *machine) cordon(t *rapid.T) {
	pick(t, "coordinator", m.coordinators).step(scheduler.WorkerCordoned{Worker: pick(t, "worker", m.nodes).id, Cordoned: rapid.Bool().Draw(t, "cordoned")})
}

// tell says that a worker drains, once more or for the first time.
func (m *machine) tell(t *rapid.T) {
	if n := pick(t, "worker", m.nodes); n.draining {
		n.tell()
	}
}

func (m *machine) leave(t *rapid.T) {
	if n := pick(t, "worker", m.nodes); n.draining && n.idle() {
		m.end(n)
	}
}

func (m *machine) deliver(t *rapid.T) {
	s, toWorker := pick(t, "session", m.sessions(true)), rapid.Bool().Draw(t, "to worker")
	for range rapid.IntRange(1, 5).Draw(t, "messages") {
		if queue := map[bool][]message{true: s.toWorker, false: s.toShell}[toWorker]; len(queue) == 0 {
			return
		}
		s.deliver(toWorker)
	}
}

func (m *machine) lanes() []*lane {
	var all []*lane
	for _, n := range m.nodes {
		for _, f := range m.flows {
			all = append(all, n.lanes[f.name]...)
		}
	}
	return all
}

func (m *machine) begin(t *rapid.T) { pick(t, "lane", m.lanes()).begin() }

func (m *machine) finish(t *rapid.T) { pick(t, "lane", m.lanes()).finish() }

func (m *machine) wake(t *rapid.T) {
	p := pick(t, "parked", m.parks)
	p.lane.wake(p.slot)
}

func (m *machine) switchFlow(t *rapid.T) {
	f := pick(t, "flow", m.flows)
	f.wanted++
	for i, n := range m.nodes {
		n.lagging[f.name] = rapid.Bool().Draw(t, "lags") || i > 3
	}
	for _, k := range m.coordinators {
		k.switchTo(f)
	}
}

func (m *machine) catchUp(t *rapid.T) { pick(t, "worker", m.nodes).catchUp(pick(t, "flow", m.flows)) }

func (m *machine) time(t *rapid.T) {
	m.pass(time.Duration(rapid.IntRange(1, 6000).Draw(t, "milliseconds")) * time.Millisecond)
}

func (m *machine) pass(d time.Duration) {
	for _, k := range m.coordinators {
		k.now = k.now.Add(d)
		k.step(scheduler.Tick{})
	}
}

// arrive delivers the messages on their way, and those that follow from them. It stops at some point, since a worker that drains and has
// not said so gives back all that it is sent.
func (m *machine) arrive(*rapid.T) {
	for _, s := range m.sessions(true) {
		for n := 0; n < 1000 && s.up && len(s.toWorker)+len(s.toShell) > 0; n++ {
			s.deliver(len(s.toWorker) > 0)
		}
	}
}

// work lets each lane do all its work.
func (m *machine) work(*rapid.T) {
	for _, l := range m.lanes() {
		for l.begin() {
			l.finish()
		}
	}
}

// settle ends all faults: then each row must get its outcome.
func (m *machine) settle() {
	m.faults = false
	for _, s := range m.dead {
		s.giveUp(true)
	}
	n := m.cluster.start("last", 1)
	for _, k := range m.coordinators {
		k.sessions[n.id].connect()
	}
	waits := func() bool {
		for _, k := range m.coordinators {
			if k.s.InFlight() > 0 {
				return true
			}
		}
		return false
	}
	for round := 0; waits(); round++ {
		if round == 100 {
			m.check()
			m.t.Fatalf("rows wait for ever")
		}
		for _, s := range m.sessions(false) {
			s.connect()
		}
		for _, n := range m.nodes {
			for _, f := range m.flows {
				n.catchUp(f)
			}
			if n.draining {
				n.tell()
			}
		}
		m.arrive(nil)
		for _, p := range m.parks {
			p.lane.wake(p.slot)
		}
		m.work(nil)
		m.arrive(nil)
		m.pass(time.Second)
		for _, k := range m.coordinators {
			for k.s.Behind() {
				k.step(scheduler.Continue{})
			}
		}
	}
	m.check()
}
