package coordinator

import (
	"cmp"
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// switchPatience bounds how long new batches stay on the old revision while workers of this coordinator have not
// acknowledged the new one, which all of them did to the leader already.
const switchPatience = 2 * time.Second

// fleet knows the workers and the flows, and sees to it that each capable worker has each flow's definition. One goroutine,
// run, owns its state; others hand it functions to run there.
type fleet struct {
	id           string // the coordinator's
	store        *cluster.Store
	loop         *schedulerLoop
	board        *flowstate.Board
	log          hclog.Logger
	transport    transport.Config
	dial         func(context.Context, cluster.Worker) (net.Conn, error)
	tracer       trace.Tracer // nil where nobody traces
	lease        time.Duration
	limits       batch.Limits // of a batch, and so of a part
	untakenTotal int64        // bytes of all workers' results that clients need not have taken before workers wait for them
	requests     chan func()
	done         chan struct{} // closed when run returned
	// news holds a token when something changed that the leader decides by.
	leaderNews chan struct{}
	// rejections counts revisions that the leader rejected, by flow.
	rejections *prometheus.CounterVec
	// forgets are told of each deleted flow when nothing of it is under way any more: they drop its metrics.
	onFlowDeleted []func(flow string)
	// links and removals are the goroutines of links, dropped ones too, and those that remove keys; run waits for them.
	peerGoroutines, removals sync.WaitGroup

	// peers are all coordinators by id, this one among them, as etcd has them. Each map stays as it is; the follower of etcd
	// replaces it.
	coordinatorsByID atomic.Pointer[map[string]cluster.Coordinator]

	// seen is what leaders have written, as this coordinator follows it; nil until it is listed.
	seen atomic.Pointer[cluster.State]

	// Owned by run.
	members      map[string]*member
	flows        map[string]*flowstate.Flow
	changedFlows map[string]bool                // flows that are not shown as they are; publish shows them
	rollingOut   map[string]*flowstate.Revision // what the leader asks workers to take, by flow
	pending      map[string]*pendingSwitch
	// services are the flows that the scheduler runs.
	scheduled    map[string]*scheduledFlow
	eraseTimers  map[string]*time.Timer // of deleted flows
	countedSince map[string]time.Time   // since when rows are counted, of flows that have a ledger, or may have

	lookups *etcdLookups
}

// member is a worker that has a key in etcd.
type member struct {
	worker          cluster.Worker
	peer            *workerPeer
	dead            bool      // known to be dead, although its key is still there
	sameNameSince   time.Time // since when another one is registered under its name, that came later; zero: there is none
	definitions     byDefinition[definitionAnswer]
	definitionsSent uint64 // how many definitions it was sent
	// renewed are the revisions for which its session began anew, as it knew another one by their number.
	renewed map[definitionKey]bool
}

// verdict is what a worker said of a definition.
type definitionAnswer struct {
	pending bool   // and not answered yet
	sentAs  uint64 // among all that the worker was sent: that which was sent last has the greatest
	errors  []string
	unfit   bool // the errors are only that its build is another
}

// pendingSwitch is an active revision that new batches do not run on yet.
type pendingSwitch struct {
	revision *flowstate.Revision
	timer    *time.Timer
}

func (f *fleet) init() {
	f.requests, f.done, f.leaderNews = make(chan func(), 64), make(chan struct{}), make(chan struct{}, 1)
	f.members, f.flows, f.changedFlows = map[string]*member{}, map[string]*flowstate.Flow{}, map[string]bool{}
	f.rollingOut, f.pending = map[string]*flowstate.Revision{}, map[string]*pendingSwitch{}
	f.scheduled, f.lookups = map[string]*scheduledFlow{}, newEtcdLookups(f.store)
	f.eraseTimers, f.countedSince = map[string]*time.Timer{}, map[string]time.Time{}
}

// run owns the fleet's state until ctx is done, then waits for its links.
func (f *fleet) run(ctx context.Context) {
	defer close(f.done)
	look := time.NewTicker(reachCheckInterval)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			f.checkReach(ctx)
		case <-ctx.Done():
			f.peerGoroutines.Wait()
			for _, p := range f.pending {
				p.timer.Stop()
			}
			for _, t := range f.eraseTimers {
				t.Stop()
			}
			for _, s := range f.scheduled {
				if s.retirement != nil {
					s.retirement.Stop()
				}
			}
			f.removals.Wait()
			return
		case request := <-f.requests:
			request()
		}
	}
}

// ask runs g in the fleet's goroutine; false when ctx or the fleet ended first.
func (f *fleet) ask(ctx context.Context, g func()) bool {
	select {
	case f.requests <- g:
		return true
	case <-ctx.Done():
	case <-f.done:
	}
	return false
}

// wait runs g in the fleet's goroutine and waits for it; false when ctx or the fleet ended first, and g may still run.
func (f *fleet) wait(ctx context.Context, g func()) bool {
	ran := make(chan struct{})
	if !f.ask(ctx, func() { g(); close(ran) }) {
		return false
	}
	select {
	case <-ran:
		return true
	case <-ctx.Done():
	case <-f.done:
	}
	return false
}

// changed tells the leader's side to look again.
func (f *fleet) tellLeader() {
	select {
	case f.leaderNews <- struct{}{}:
	default:
	}
}

// setWorkers takes over who is a member, and dials who is new. ctx bounds the links' lives.
func (f *fleet) setWorkers(ctx context.Context, workers map[string]cluster.Worker) {
	for id, m := range f.members {
		if _, there := workers[id]; !there {
			f.log.Info("worker left", "worker", id)
			f.closePeer(m)
			delete(f.members, id)
		}
	}
	byAge := slices.SortedFunc(maps.Values(workers), func(a, b cluster.Worker) int { return cmp.Compare(a.Created, b.Created) })
	for _, w := range byAge {
		id := w.ID
		if m := f.members[id]; m != nil {
			m.worker = w
			m.peer.address.Store(&w.Address)
			if w.Draining {
				m.peer.draining.Store(true)
			}
			continue
		}
		f.log.Info("worker joined", "worker", id, "address", w.Address)
		f.noteSameName(w)
		m := &member{worker: w, definitions: byDefinition[definitionAnswer]{}, renewed: map[definitionKey]bool{}}
		linkCtx, cancel := context.WithCancelCause(ctx)
		m.peer = &workerPeer{
			worker: w, slotName: f.slotNameFor(w), secret: newSecret(), fleet: f, loop: f.loop, log: f.log.Named("session"), instructions: newQueue[instruction](),
			createdAt: time.Now(), cancel: cancel,
		}
		m.peer.untaken = newUntakenResults(m.peer.instructions.wake)
		m.peer.address.Store(&w.Address)
		f.members[id] = m
		f.peerGoroutines.Go(func() { m.peer.run(linkCtx) })
	}
	f.tellLeader()
	f.publish()
}

// untakenLimit is how many bytes of one worker's results clients need not have taken before it waits for them.
func (f *fleet) untakenLimit() int64 {
	return max(leastUntaken, f.untakenTotal/int64(max(1, f.board.Load().Sessions)))
}

// drop ends a member's link for good.
func (f *fleet) closePeer(m *member) {
	if !m.dead {
		m.dead = true
		m.peer.cancel(errWorkerGone)
	}
}

// bury is called by a link whose worker is proven dead.
func (f *fleet) workerDied(ctx context.Context, k *workerPeer) {
	f.ask(ctx, func() {
		if m := f.members[k.worker.ID]; m != nil {
			m.dead = true
			f.tellLeader()
		}
	})
	f.removeWorkerKey(ctx, k.worker.ID)
}

// remove deletes a dead worker's key, so that other coordinators need not find out for themselves. It tries until that is
// done: should the process live all the same, it comes back under a new id only when its key is gone.
func (f *fleet) removeWorkerKey(ctx context.Context, id string) {
	for told := false; ; told = true {
		err := f.store.RemoveWorker(ctx, id)
		if err == nil {
			return
		}
		if !told && ctx.Err() == nil {
			f.log.Warn("a dead worker's key could not be removed; it is tried again", "worker", id, "error", err)
		}
		if !sleep(ctx, time.Second) {
			return
		}
	}
}

// up is called by a link when its session begins; resumed: the worker still has what it was told before.
func (f *fleet) sessionBegan(ctx context.Context, k *workerPeer, resumed bool) {
	f.ask(ctx, func() {
		m := f.members[k.worker.ID]
		if m == nil || m.peer != k {
			return
		}
		before := m.definitions
		m.definitions = byDefinition[definitionAnswer]{}
		for _, name := range slices.Sorted(maps.Keys(f.scheduled)) {
			f.sendDefinition(m, f.scheduled[name].revision)
		}
		for _, name := range slices.Sorted(maps.Keys(f.pending)) {
			f.sendDefinition(m, f.pending[name].revision)
		}
		for _, name := range slices.Sorted(maps.Keys(f.rollingOut)) {
			f.sendDefinition(m, f.rollingOut[name])
		}
		for flow, revisions := range before {
			for name := range revisions {
				key := definitionKey{flow, name}
				if _, again := m.definitions.get(key); resumed && !again {
					m.peer.instructions.put(instruction{forget: &key}) // rows that need it bring it along
				}
			}
		}
		f.tellLeader()
		f.publish()
	})
}

// down is called by a link when its session has ended.
func (f *fleet) peerChanged(ctx context.Context) {
	f.ask(ctx, func() {
		f.tellLeader()
		f.publish()
	})
}

// define sends a capable member the revision, unless that was done in this session.
func (f *fleet) sendDefinition(m *member, r *flowstate.Revision) {
	if r == nil || !r.Enabled || m.dead || len(m.missingFunctions(r)) > 0 {
		return
	}
	key := definitionKey{r.Message.GetFlow(), r.Id()}
	if _, done := m.definitions.get(key); done || !m.peer.connected.Load() {
		return
	}
	// Should the other revision still be needed in the next session, the sender tells whichever is needed next, again and again.
	if !m.peer.digests.Load() && m.definitions.hasOtherOfNumber(key) && !m.renewed[key] {
		m.renewed[key] = true
		f.log.Info("a revision's number was given again, and this worker's build knows it by number alone: its session begins anew", "worker", m.worker.ID,
			"flow", key.flow, "revision", key.revision)
		m.peer.restartSession()
		return
	}
	m.definitionsSent++
	m.definitions.set(key, definitionAnswer{pending: true, sentAs: m.definitionsSent})
	m.peer.instructions.put(instruction{define: r})
}

// lacks lists the functions of the revision that the worker does not have.
func (m *member) missingFunctions(r *flowstate.Revision) []string {
	var missing []string
	for _, name := range r.Functions {
		if !slices.ContainsFunc(m.worker.Functions, func(f cluster.Function) bool { return f.Name == name }) {
			missing = append(missing, name)
		}
	}
	return missing
}

// compiled is called by a link when its worker answered a definition.
func (f *fleet) definitionAnswered(ctx context.Context, k *workerPeer, digest batch.Digest, c *pb.Compiled) {
	f.ask(ctx, func() {
		m := f.members[k.worker.ID]
		if m == nil || m.peer != k {
			return
		}
		lasting := context.WithoutCancel(ctx) // what follows from it stands, should the session be over by now
		key := definitionKey{c.GetFlow(), batch.Revision{Number: c.GetRevision(), Digest: digest}}
		said, _ := m.definitions.get(key)
		m.definitions.set(key, definitionAnswer{sentAs: said.sentAs, errors: c.GetErrors(), unfit: c.GetUnfit()})
		if len(c.GetErrors()) > 0 {
			f.log.Warn("a worker rejects a revision", "worker", k.worker.ID, "flow", c.GetFlow(), "revision", c.GetRevision(), "errors", c.GetErrors())
		} else if s := f.scheduled[key.flow]; s != nil && s.revision.Id() == key.revision {
			m.announceActive(key)
			f.loop.post(ctx, scheduler.WorkerReady{Worker: k.worker.ID, Flow: key.flow, Revision: key.revision.Number, Digest: digest})
		}
		if p := f.pending[key.flow]; p != nil && p.revision.Id() == key.revision {
			f.trySwitch(lasting, key.flow, false)
		}
		f.pruneDefinitions(key.flow)
		if f.flows[key.flow] == nil && f.scheduled[key.flow] == nil {
			f.forgetFlow(lasting, key.flow) // it was deleted meanwhile
		}
		f.tellLeader()
	})
}

// activate tells a worker that has a revision that new batches run on it, where its build asks for that.
func (m *member) announceActive(key definitionKey) {
	if m.peer.connectors.tellsStates() {
		m.peer.instructions.put(instruction{active: &key})
	}
}

// forget has the worker forget a revision.
func (m *member) forgetDefinition(key definitionKey) {
	m.definitions.remove(key)
	m.peer.instructions.put(instruction{forget: &key})
}

// prune has workers forget the revisions of a flow that batches are no longer likely to name. Should one be named all the
// same, it is sent again. The newest that a worker can run stays with it: it may be about to become active.
func (f *fleet) pruneDefinitions(flow string) {
	e, w, p, s := f.flows[flow], f.rollingOut[flow], f.pending[flow], f.scheduled[flow]
	needed := func(name batch.Revision) bool {
		return e.TakesBatches() && e.Revisions.Find(name) != nil || w != nil && w.Id() == name || p != nil && p.revision.Id() == name ||
			s != nil && (s.revision.Id() == name || s.earlier.Find(name) != nil)
	}
	for _, m := range f.members {
		newest := uint64(0) // of those that it can run, the one that it was sent last
		for _, v := range m.definitions[flow] {
			if !v.pending && len(v.errors) == 0 {
				newest = max(newest, v.sentAs)
			}
		}
		for name, v := range m.definitions[flow] {
			if !v.pending && v.sentAs != newest && !needed(name) {
				m.forgetDefinition(definitionKey{flow, name})
			}
		}
	}
}

// setFlows takes over what the leader decided.
func (f *fleet) setFlows(ctx context.Context, state cluster.State) {
	there := make(map[string]bool, len(state.Flows))
	marks := state.Marks()
	for i, fl := range state.Flows {
		name := fl.Status.Flow
		there[name] = true
		e := f.flows[name]
		if e == nil {
			if f.countedSince[name].IsZero() {
				f.countedSince[name] = time.Now().UTC()
			}
			e = &flowstate.Flow{Name: name, Since: f.countedSince[name]}
			f.flows[name] = e
		}
		if e.Mark == marks[i] {
			continue
		}
		e.Mark, e.Status = marks[i], fl.Status
		f.changedFlows[name] = true
		switch {
		case fl.Active == nil:
		case e.Active == nil || e.Active.Id() != fl.Active.Name():
			f.beginSwitch(ctx, e, *fl.Active)
		default:
			f.endSwitch(name) // etcd has gone back to what runs
		}
	}
	for name, e := range f.flows {
		if !there[name] {
			delete(f.flows, name)
			f.changedFlows[name] = true
			f.endSwitch(name)
			f.scheduleRetirement(ctx, name, e.Revisions)
			f.pruneDefinitions(name)
		}
	}
	f.publish()
}

// beginSwitch sends an active revision to this coordinator's workers; new batches run on it when they acknowledged it.
func (f *fleet) beginSwitch(ctx context.Context, e *flowstate.Flow, h cluster.HistoryEntry) {
	if p := f.pending[e.Name]; p != nil && p.revision.Id() == h.Name() {
		return
	}
	r, err := flowstate.FromHistory(h)
	if err != nil {
		f.log.Error("an active revision can't be read; the one before stays", "flow", e.Name, "revision", h.Revision, "error", err)
		return
	}
	f.endSwitch(e.Name)
	f.pending[e.Name] = &pendingSwitch{revision: r, timer: time.AfterFunc(switchPatience, func() {
		f.ask(ctx, func() { f.trySwitch(ctx, e.Name, true) })
	})}
	for _, m := range f.members {
		f.sendDefinition(m, r)
	}
	f.trySwitch(ctx, e.Name, false)
}

func (f *fleet) endSwitch(flow string) {
	if p := f.pending[flow]; p != nil {
		p.timer.Stop()
		delete(f.pending, flow)
	}
}

// trySwitch lets new batches run on the pending revision once every connected capable worker answered, or when forced.
func (f *fleet) trySwitch(ctx context.Context, flow string, force bool) {
	p, e := f.pending[flow], f.flows[flow]
	if p == nil || e == nil {
		return
	}
	key := definitionKey{flow, p.revision.Id()}
	for _, m := range f.members {
		if m.definitions[flow][key.revision].pending && m.peer.connected.Load() && !force {
			return
		}
	}
	f.endSwitch(flow)
	e.Active = p.revision
	e.Keep(p.revision)
	f.changedFlows[flow] = true
	if e.TakesBatches() {
		f.schedule(ctx, flow, p.revision)
	} else {
		f.log.Info("flow switched off", "flow", flow, "revision", p.revision.Number)
		f.scheduleRetirement(ctx, flow, e.Revisions)
	}
	f.pruneDefinitions(flow)
	f.publish()
}

// publish shows the flows, and how many sessions are up, as they are now. What has not been touched since is shown as it was.
func (f *fleet) publish() {
	c := &flowstate.Snapshot{Reachability: f.surveyReach(), Flows: f.board.Load().Flows}
	if was := f.board.Load(); was.CutOff != c.CutOff {
		f.log.Warn("this coordinator's reach changed", "cut_off", c.CutOff, "reached", c.Sessions, "not_reached", len(c.Unreachable), "lost", c.Lost)
	}
	if len(f.changedFlows) > 0 {
		if c.Flows = maps.Clone(c.Flows); c.Flows == nil {
			c.Flows = map[string]*flowstate.Flow{}
		}
		for name := range f.changedFlows {
			if e := f.flows[name]; e != nil {
				shown := *e
				c.Flows[name] = &shown
			} else {
				delete(c.Flows, name)
			}
		}
		clear(f.changedFlows)
	}
	f.board.Publish(c)
}

// workers are the live members as etcd has them.
func (f *fleet) Workers(ctx context.Context) map[string]cluster.Worker {
	all := map[string]cluster.Worker{}
	if !f.wait(ctx, func() {
		for id, m := range f.members {
			if !m.dead {
				all[id] = m.worker
			}
		}
	}) {
		return nil // all may still be written to
	}
	return all
}

// states counts the registered workers by the state of the session with them.
func (f *fleet) states(ctx context.Context) map[string]int {
	all := map[string]int{"up": 0, "draining": 0, "down": 0, "lost": 0}
	if !f.wait(ctx, func() {
		for _, m := range f.members {
			if !m.dead {
				all[m.peer.state()]++
			}
		}
	}) {
		return nil // all may still be written to
	}
	return all
}

// coordinators are this one and its peers as etcd has them.
func (f *fleet) Coordinators() map[string]cluster.Coordinator {
	if peers := f.coordinatorsByID.Load(); peers != nil {
		return *peers
	}
	return nil
}
