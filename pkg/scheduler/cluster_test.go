package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
)

// cluster is a model of coordinators, workers and clients without time: the test that drives it decides what happens next. Only the
// schedulers are real.
type cluster struct {
	t            tester
	rnd          *rand.Rand
	coordinators []*coordinator
	nodes        []*node // those that live
	started      int     // nodes so far
	flows        []*flowModel

	// What a driver that keeps time wants to know. Set before use.
	queued func(*lane)                                  // the lane may begin something
	pushed func(s *session, toWorker bool)              // a message is on its way
	parked func(l *lane, slot uint16)                   // wake is to be called some time
	trace  func(k *keyHistory, format string, a ...any) // nil: nobody listens
	faults bool                                         // functions park rows, and end some otherwise than done
}

// flowModel is a flow, the same for all coordinators.
type flowModel struct {
	name    string
	sharded bool
	wanted  int64
}

// coordinator is a scheduler in its shell, with its sessions.
type coordinator struct {
	*shell
	cluster  *cluster
	sessions map[string]*session // by node
	goesOn   bool                // a Continue is on its way
}

// session is the connection between one coordinator and one worker, from one handshake to the next.
type session struct {
	coordinator *coordinator
	node        *node
	up          bool
	silent      bool // nothing arrives any more
	met         bool // an earlier session may be resumed
	received    uint64
	epoch       int              // counts sessions
	due         [2]time.Duration // when the last message of each direction arrives; for a driver that keeps time
	toWorker    []message
	toShell     []message
}

// message is one message of a session: one field is set, and acknowledged where it goes to a worker.
type message struct {
	part         *scheduler.Part
	release      *scheduler.Release
	define       *flowModel
	acknowledged uint64

	number uint64 // of the result
	waited bool   // the worker waits for its acknowledgement
	event  scheduler.Event
}

func newCluster(t tester, seed uint64, coordinators int, c scheduler.Config) *cluster {
	g := &cluster{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)),
		queued: func(*lane) {}, pushed: func(*session, bool) {}, parked: func(*lane, uint16) {}, faults: true,
	}
	for i := range coordinators {
		k := &coordinator{shell: newShell(t, c), cluster: g, sessions: map[string]*session{}}
		k.name = fmt.Sprintf("coordinator %d", i)
		k.send, k.release, k.ended = k.sendPart, k.sendRelease, k.rowEnded
		g.coordinators = append(g.coordinators, k)
	}
	return g
}

func (g *cluster) chance(p float64) bool { return g.rnd.Float64() < p }

// flow adds a flow and makes its first revision the active one.
func (g *cluster) flow(name string, sharded bool) *flowModel {
	f := &flowModel{name: name, sharded: sharded, wanted: 1}
	g.flows = append(g.flows, f)
	for _, k := range g.coordinators {
		k.step(scheduler.FlowSwitched{Flow: name, Revision: 1})
	}
	return f
}

// start starts a worker. It is connected to nobody yet.
func (g *cluster) start(name string, lanes int) *node {
	g.started++
	n := &node{
		cluster: g, id: fmt.Sprintf("%s-%d", name, g.started), name: name, slow: 1,
		ties: map[*coordinator]*tie{}, lanes: map[string][]*lane{}, lagging: map[string]bool{},
	}
	for _, f := range g.flows {
		for range lanes {
			n.lanes[f.name] = append(n.lanes[f.name], &lane{node: n, flow: f, parked: map[uint16][]work{}})
		}
	}
	g.nodes = append(g.nodes, n)
	for _, k := range g.coordinators {
		k.sessions[n.id] = &session{coordinator: k, node: n}
	}
	return n
}

// connect is a handshake.
func (s *session) connect() {
	k, n := s.coordinator, s.node
	if s.up || n.dead {
		return
	}
	s.epoch++
	s.toWorker, s.toShell = nil, nil
	t := n.ties[k]
	resumed := s.met && t != nil
	if !resumed {
		if s.met {
			k.step(scheduler.WorkerGone{Worker: n.id})
		}
		n.reset(k)
		t = n.ties[k]
		s.received = 0
	}
	s.up, s.silent, s.met, t.session = true, false, true, s
	t.resume(s.received)
	if resumed {
		k.step(scheduler.WorkerResumed{Worker: n.id, PartsReceived: t.parts})
	} else {
		k.step(scheduler.WorkerConnected{Worker: n.id, Name: n.name})
	}
	for _, f := range k.cluster.flows {
		s.say(message{define: f})
	}
}

// cut ends a session; messages on their way are lost.
func (s *session) cut() {
	if !s.up {
		return
	}
	s.up = false
	s.toWorker, s.toShell = nil, nil
	if t := s.node.ties[s.coordinator]; t != nil {
		t.session = nil
		s.node.stir() // nobody waits for what was announced
	}
	s.coordinator.step(scheduler.WorkerDisconnected{Worker: s.node.id})
}

// silence loses all messages of a session, those on their way included, until the session is cut. Neither side notices.
func (s *session) silence() { s.silent = true }

// giveUp makes a coordinator give a worker up.
func (s *session) giveUp(died bool) {
	s.cut()
	if s.met {
		s.met = false
		s.coordinator.step(scheduler.WorkerGone{Worker: s.node.id, Died: died})
	}
}

// say sends a message to the worker.
func (s *session) say(m message) {
	m.acknowledged = s.received
	s.toWorker = append(s.toWorker, m)
	s.coordinator.cluster.pushed(s, true)
}

// deliver brings the first message of one direction to its receiver.
func (s *session) deliver(toWorker bool) {
	if s.silent {
		return
	}
	if toWorker {
		m := s.toWorker[0]
		s.toWorker = s.toWorker[1:]
		s.node.ties[s.coordinator].hear(m)
		return
	}
	m := s.toShell[0]
	s.toShell = s.toShell[1:]
	if m.number > 0 {
		s.received = m.number
	}
	s.coordinator.step(m.event)
	if m.waited {
		s.say(message{})
	}
}

func (k *coordinator) sendPart(worker string, p *scheduler.Part, _ bool) {
	k.cluster.traceRows(p, nil, "is sent to %s in part %d", worker, p.Number)
	k.sessions[worker].say(message{part: p})
}

func (k *coordinator) sendRelease(worker, flow string, slots []batch.Range) {
	k.sessions[worker].say(message{release: &scheduler.Release{Worker: worker, Flow: flow, Slots: slots}})
}

// A stream is one client's batches of one flow, all to one coordinator.
type stream struct {
	name        string
	coordinator *coordinator
	flow        *flowModel
	keys        map[uint64]*keyHistory
	inFlight    int // batches
	answered    func()
}

// keyHistory is what happened to the rows of one key of one stream, in the order in which they were submitted.
type keyHistory struct {
	stream *stream
	key    uint64
	next   uint32
	// states are those of the rows from first on: rows before it were executed, or are over.
	first  uint32
	states []uint8
}

type rowRef struct {
	history *keyHistory
	at      uint32
}

const (
	executed = 1 << iota
	over
)

func (g *cluster) stream(k *coordinator, f *flowModel) *stream {
	return &stream{name: fmt.Sprintf("%s/%s/%d", k.name, f.name, g.rnd.Uint32()), coordinator: k, flow: f,
		keys: map[uint64]*keyHistory{}, answered: func() {}}
}

// submit sends a batch of rows with these keys; the flow's revision is the active one.
func (m *stream) submit(keys []uint64, change func(*scheduler.Batch)) *submission {
	sub := &submission{of: m, kills: -1}
	b := &sub.Batch
	*b = scheduler.Batch{Flow: m.flow.name, Revision: m.coordinator.active[m.flow.name], Owner: sub, Ends: make([]uint32, len(keys))}
	sub.killed = make([]int, len(keys))
	end := uint32(0)
	for i := range keys {
		end += 50
		b.Ends[i] = end
	}
	if m.flow.sharded {
		b.Keys = keys
		sub.refs = make([]rowRef, len(keys))
		for i, key := range keys {
			h := m.keys[key]
			if h == nil {
				h = &keyHistory{stream: m, key: key}
				m.keys[key] = h
			}
			sub.refs[i] = rowRef{h, h.next}
			h.next++
			h.states = append(h.states, 0)
			if m.coordinator.cluster.trace != nil {
				m.coordinator.cluster.trace(h, "row %d is submitted", sub.refs[i].at)
			}
		}
	}
	if change != nil {
		change(b)
	}
	m.inFlight++
	m.coordinator.step(scheduler.Submitted{Batch: b})
	return sub
}

// cancel tells the coordinator that nobody waits for the batch.
func (s *submission) cancel() { s.of.coordinator.step(scheduler.Cancelled{Batch: &s.Batch}) }

// execute notes that a worker ran a row, which must not be before the key's rows that were submitted before.
func (s *submission) execute(n *node, row uint32) {
	if s.refs == nil {
		s.runs++
		return
	}
	ref := s.refs[row]
	h := ref.history
	if trace := n.cluster.trace; trace != nil {
		trace(h, "row %d is executed by %s", ref.at, n.id)
	}
	switch {
	case ref.at < h.first: // once more
	case h.states[ref.at-h.first] != 0:
	case ref.at > h.first:
		panic(breach{h, fmt.Sprintf("worker %s executed row %d of key %#x of stream %s first, and row %d was not executed yet",
			n.id, ref.at, h.key, h.stream.name, h.first)})
	default:
		h.set(ref.at, executed)
	}
}

// breach is a broken promise to a key.
type breach struct {
	history *keyHistory
	message string
}

func (h *keyHistory) set(at uint32, state uint8) {
	if at < h.first {
		return
	}
	h.states[at-h.first] |= state
	n := 0
	for n < len(h.states) && h.states[n] != 0 {
		n++
	}
	h.states = h.states[n:]
	h.first += uint32(n)
}

// rowEnded checks that a row which is done was executed.
func (k *coordinator) rowEnded(sub *submission, row uint32, outcome batch.Outcome) {
	if sub.refs == nil {
		if outcome == batch.Done && sub.runs == 0 {
			k.fatalf("a whole batch is done, and nobody executed it")
		}
	} else {
		ref := sub.refs[row]
		if trace := k.cluster.trace; trace != nil {
			trace(ref.history, "row %d is %s", ref.at, outcome)
		}
		if h := ref.history; outcome == batch.Done && ref.at >= h.first && h.states[ref.at-h.first]&executed == 0 {
			panic(breach{h, fmt.Sprintf("row %d of key %#x of stream %s is done, and nobody executed it", ref.at, h.key, h.stream.name)})
		}
		ref.history.set(ref.at, over)
	}
	if sub.open == 0 {
		sub.of.inFlight--
		sub.of.answered()
	}
}

// traceRows tells what happens to rows of a part; nil: all.
func (g *cluster) traceRows(p *scheduler.Part, rows []uint32, format string, a ...any) {
	refs := p.Batch.Owner.(*submission).refs
	if g.trace == nil || refs == nil {
		return
	}
	for i := range uint32(p.Len()) {
		if rows == nil || slices.Contains(rows, i) {
			ref := refs[p.Row(i)]
			g.trace(ref.history, "row %d "+format, append([]any{ref.at}, a...)...)
		}
	}
}

// sessions lists the sessions that are up, or not.
func (g *cluster) sessions(up bool) []*session {
	var all []*session
	for _, k := range g.coordinators {
		for _, n := range g.nodes {
			if s := k.sessions[n.id]; s.up == up {
				all = append(all, s)
			}
		}
	}
	return all
}

// remove forgets a node that is dead.
func (g *cluster) remove(n *node) {
	g.nodes = slices.DeleteFunc(g.nodes, func(m *node) bool { return m == n })
}

// switchTo makes a new revision of the flow the active one for a coordinator.
func (k *coordinator) switchTo(f *flowModel) {
	var ready []string
	for _, n := range k.cluster.nodes {
		if !n.lagging[f.name] && k.sessions[n.id].up {
			ready = append(ready, n.id)
		}
	}
	k.step(scheduler.FlowSwitched{Flow: f.name, Revision: f.wanted, Ready: ready})
}
