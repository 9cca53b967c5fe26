package coordinator

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/leader"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// fleet is the goroutine that owns this coordinator's knowledge of workers and of flows. The state is in two structs: the roster has the
// workers, the flow table has the flows. The goroutine, run, alone touches them; other goroutines hand it functions with ask and wait.
// After each change the goroutine publishes a snapshot on the board, which every goroutine may read.
type fleet struct {
	log    hclog.Logger
	board  *flowstate.Board
	roster *roster
	flows  *flowTable
	paused map[string]cluster.Control // the flows that are paused, by name; replaced, never changed

	requests chan func()   // functions that run is to call
	done     chan struct{} // closed when run has returned
	// leaderNews holds a token when something has changed that the leader decides by. The leader takes the token.
	leaderNews chan struct{}
	// followed is the statuses of flows that leaders have written, as this coordinator follows them in etcd; nil until they are listed. Any
	// goroutine may read it.
	followed atomic.Pointer[cluster.State]
}

// newFleet makes a fleet without workers and flows, and starts no goroutine. s are the settings of the connections to workers that it will
// make.
func newFleet(s *peerSettings, store *cluster.Store, log hclog.Logger) *fleet {
	f := &fleet{
		log: log, board: s.board,
		requests: make(chan func(), 64), done: make(chan struct{}), leaderNews: make(chan struct{}, 1),
	}
	f.roster = &roster{id: s.coordinator, store: store, board: s.board, log: log, settings: s, members: map[string]*member{}}
	f.flows = newFlowTable(f.roster, s, log)
	f.flows.later, f.flows.publish = f.later, f.publish
	return f
}

// run calls the functions that other goroutines hand in with ask and wait, until ctx is done. Then it waits until the goroutines of the
// roster have ended.
func (f *fleet) run(ctx context.Context) {
	defer close(f.done)
	look := time.NewTicker(reachCheckInterval)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			f.checkReach(ctx)
		case <-ctx.Done():
			f.roster.peers.Wait()
			f.flows.stopTimers()
			f.roster.removals.Wait()
			return
		case request := <-f.requests:
			request()
		}
	}
}

// ask queues g, so that the goroutine run calls it, and does not wait for that. It blocks while the queue is full. It returns false, and g
// is not called, if ctx is done or the fleet has ended first.
func (f *fleet) ask(ctx context.Context, g func()) bool {
	select {
	case f.requests <- g:
		return true
	case <-ctx.Done():
	case <-f.done:
	}
	return false
}

// wait queues g, so that the goroutine run calls it, and blocks until g has returned. If wait returns false, because ctx is done or the
// fleet has ended, g may still run later.
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

// later queues g after a time, so that the goroutine run calls it, unless the returned timer is stopped or ctx is done before.
func (f *fleet) later(ctx context.Context, after time.Duration, g func()) *time.Timer {
	return time.AfterFunc(after, func() { f.ask(ctx, g) })
}

// tellLeader wakes the leader, if this coordinator leads, so that it looks at all flows again.
func (f *fleet) tellLeader() {
	select {
	case f.leaderNews <- struct{}{}:
	default:
	}
}

// publish puts a new snapshot on the board: the flows as they are, and which workers this coordinator reaches. Flows that have not changed
// are shared with the snapshot before.
func (f *fleet) publish() {
	before := f.board.Load()
	now := &flowstate.Snapshot{Reachability: f.roster.surveyReach(), Flows: f.flows.shown(before.Flows), Paused: f.paused}
	if before.CutOff != now.CutOff {
		pointCutOff.Hit()
		f.log.Warn("this coordinator now reaches enough workers to take batches, or no longer does", "cut_off", now.CutOff,
			"reached", now.Sessions, "not_reached", len(now.Unreachable), "lost", now.Lost)
	}
	f.board.Publish(now)
}

// setWorkers is called with all workers that are registered in etcd, by id. It begins to dial new ones, and closes the connections to those
// that left. The connections end when ctx is done.
func (f *fleet) setWorkers(ctx context.Context, workers map[string]cluster.Worker) {
	f.roster.setWorkers(ctx, workers, f)
	f.tellLeader()
	f.publish()
}

// setControls is called with all flows that are paused and all workers that are cordoned.
func (f *fleet) setControls(ctx context.Context, c cluster.Controls) {
	f.paused = c.Paused
	f.roster.setCordoned(ctx, c.Cordoned)
	f.publish()
}

// setFlows is called with the statuses and active revisions of all flows, as the leader has written them to etcd.
func (f *fleet) setFlows(ctx context.Context, state cluster.State) {
	f.flows.setFlows(ctx, state)
	f.publish()
}

// sessionBegan is called by a peer when its session begins. kept are the revisions that the worker may still have from the sessions before.
func (f *fleet) sessionBegan(ctx context.Context, p *workerPeer, kept []definitionKey) {
	f.ask(ctx, func() {
		m := f.roster.memberOf(p)
		if m == nil {
			return
		}
		f.flows.sessionBegan(m, kept)
		f.tellLeader()
		f.publish()
	})
}

// peerChanged is called by a peer when its session has ended, its worker can't be reached, or its connectors have changed.
func (f *fleet) peerChanged(ctx context.Context) {
	f.ask(ctx, func() {
		f.tellLeader()
		f.publish()
	})
}

// definitionAnswered is called by a peer when its worker has answered whether it can run a revision. digest is the revision's
// digest. c is the worker's answer; it names the flow and the revision's number.
func (f *fleet) definitionAnswered(ctx context.Context, p *workerPeer, digest batch.Digest, c *pb.Compiled) {
	f.ask(ctx, func() {
		if m := f.roster.memberOf(p); m != nil {
			f.flows.definitionAnswered(ctx, m, digest, c)
			f.tellLeader()
		}
	})
}

// workerDied is called by a peer whose worker is proven dead. It blocks until the worker's key is removed from etcd, or ctx is done.
func (f *fleet) workerDied(ctx context.Context, p *workerPeer) {
	f.ask(ctx, func() {
		if m := f.roster.members[p.worker.ID]; m != nil {
			m.dead = true
			f.tellLeader()
		}
	})
	f.roster.removeWorkerKey(ctx, p.worker.ID)
}

// checkReach publishes a new snapshot if the reachability of workers has changed. It also removes workers whose name a newer worker has
// taken over (removeSuperseded).
func (f *fleet) checkReach(ctx context.Context) {
	f.roster.removeSuperseded(ctx)
	if now, was := f.roster.surveyReach(), f.board.Load(); now.CutOff != was.CutOff || now.OthersReachMore != was.OthersReachMore || now.Sessions != was.Sessions ||
		!slices.Equal(now.Unreachable, was.Unreachable) || !slices.Equal(now.SharingName, was.SharingName) {
		f.publish()
	}
}

// cutOff reports whether this coordinator leaves its clients to other coordinators, because it can't reach most workers. Then it does not
// take unreachable workers for lost: the fault is likely on its own side. It also returns false if ctx is done or the fleet has ended.
func (f *fleet) cutOff(ctx context.Context) bool {
	cut := false
	return f.wait(ctx, func() {
		f.publish()
		cut = f.board.Load().CutOff
	}) && cut
}

// Cordoned returns the workers that are cordoned, by name; nil when ctx is done or the fleet has ended.
func (f *fleet) Cordoned(ctx context.Context) map[string]cluster.Control {
	var all map[string]cluster.Control
	if !f.wait(ctx, func() { all = f.roster.cordoned }) {
		return nil
	}
	return all
}

// cordonedWorkers returns the ids of the registered workers that are cordoned, and since when each is; nil when ctx is done or the fleet has
// ended.
func (f *fleet) cordonedWorkers(ctx context.Context) map[string]time.Time {
	var all map[string]time.Time
	if !f.wait(ctx, func() {
		for id, m := range f.roster.members {
			if !m.dead && m.peer.cordoned.Load() {
				if all == nil {
					all = map[string]time.Time{}
				}
				all[id] = f.roster.cordoned[m.worker.Name].At
			}
		}
	}) {
		return nil // all may still be written to
	}
	return all
}

// Workers returns the live workers that are registered in etcd, by id; nil when ctx is done or the fleet has ended.
func (f *fleet) Workers(ctx context.Context) map[string]cluster.Worker {
	all := map[string]cluster.Worker{}
	if !f.wait(ctx, func() {
		for id, m := range f.roster.members {
			if !m.dead {
				all[id] = m.worker
			}
		}
	}) {
		return nil // all may still be written to
	}
	return all
}

// states returns the number of registered workers in each state of the connection: up, draining, down or lost. Workers that are known to be
// dead are left out. It returns nil if ctx is done or the fleet has ended.
func (f *fleet) states(ctx context.Context) map[string]int {
	all := map[string]int{"up": 0, "draining": 0, "down": 0, "lost": 0}
	if !f.wait(ctx, func() {
		for _, m := range f.roster.members {
			if !m.dead {
				all[m.peer.state()]++
			}
		}
	}) {
		return nil // all may still be written to
	}
	return all
}

// Coordinators returns the coordinators that are registered in etcd, this one included, by id. Any goroutine may call it.
func (f *fleet) Coordinators() map[string]cluster.Coordinator { return f.roster.coordinators() }

// FollowedState returns the statuses of flows that leaders have written, as this coordinator follows them in etcd; nil until they are listed.
func (f *fleet) FollowedState() *cluster.State { return f.followed.Load() }

// flowsPerTurn is the most flows that one function in the fleet's goroutine looks at, so that other functions need not wait for long.
const flowsPerTurn = 32

// Unserved returns, for each of the named flows that no worker can run now, the reasons. A flow is looked at if it takes batches, or if it
// has never run and waits for a worker. A flow that is rejected or being rolled out is not: its status has the reasons. It returns false
// when ctx is done or the fleet has ended.
func (f *fleet) Unserved(ctx context.Context, flows []string) (map[string][]string, bool) {
	all := map[string][]string{}
	for some := range slices.Chunk(flows, flowsPerTurn) {
		found := map[string][]string{}
		if !f.wait(ctx, func() {
			for _, flow := range some {
				if reasons := f.flows.whyUnserved(flow); len(reasons) > 0 {
					found[flow] = reasons
				}
			}
		}) {
			return nil, false // found may still be written to
		}
		maps.Copy(all, found)
	}
	return all, true
}

// RequestRollouts sends each requested revision to every worker that has its functions, and returns how far each rollout is, in the order
// of the requests. The leader calls it again and again until the workers have answered. It returns false when ctx is done or the fleet has
// ended.
func (f *fleet) RequestRollouts(ctx context.Context, requests ...leader.RolloutRequest) ([]leader.RolloutProgress, bool) {
	all := make([]leader.RolloutProgress, 0, len(requests))
	for some := range slices.Chunk(requests, flowsPerTurn) {
		progress := make([]leader.RolloutProgress, len(some))
		if !f.wait(ctx, func() {
			for i, request := range some {
				progress[i] = f.flows.requestRollout(request.Flow, request.Revision)
			}
		}) {
			return nil, false // progress may still be written to
		}
		all = append(all, progress...)
	}
	return all, true
}

// Connectors returns the states of the connectors that the active revisions of flows need, on the workers that run them. If no flow is
// named, it looks at all flows. It returns false if ctx is done or the fleet has ended.
func (f *fleet) Connectors(ctx context.Context, flows ...string) (flowstate.ConnectorReport, bool) {
	var c flowstate.ConnectorReport
	if !f.wait(ctx, func() {
		if len(flows) == 0 {
			flows = slices.Sorted(maps.Keys(f.flows.byName))
		}
		seen := map[string]map[flowstate.ConnectorKey]bool{} // by worker, since flows share connectors
		for _, flow := range flows {
			if e := f.flows.byName[flow]; e.TakesBatches() && len(e.Active.Connectors) > 0 {
				f.roster.reportConnectors(&c, definitionKey{flow, e.Active.ID()}, e.Active.Connectors, seen)
			}
		}
	}) {
		return flowstate.ConnectorReport{}, false // c may still be written to
	}
	for _, all := range [][]flowstate.ConnectorStatus{c.Degraded, c.Opening, c.Unknown} {
		slices.SortFunc(all, func(a, b flowstate.ConnectorStatus) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.Reason, b.Reason))
		})
	}
	return c, true
}
