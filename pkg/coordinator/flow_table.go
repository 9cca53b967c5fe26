package coordinator

import (
	"context"
	"maps"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/scheduler"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// switchPatience bounds how long new batches stay on the old revision while workers of this coordinator have not answered for the new one.
// The workers that were there when the leader asked have all accepted it.
const switchPatience = 2 * time.Second

// flowTable is the flows that this coordinator knows: the status of each in etcd, which revision new batches run on, and which revisions
// workers are sent of them. The fleet's goroutine owns it.
type flowTable struct {
	roster *roster
	loop   *schedulerLoop
	log    hclog.Logger
	lease  time.Duration
	// later makes the fleet's goroutine call g after a time, unless the timer is stopped or ctx is done before.
	later func(ctx context.Context, after time.Duration, g func()) *time.Timer
	// publish puts a new snapshot on the board, with the flows as they are now.
	publish func()
	// onFlowDeleted are called with each deleted flow when nothing of it is under way any more: they drop its metrics.
	onFlowDeleted []func(flow string)

	byName  map[string]*flowstate.Flow // the flows that have a status in etcd
	changed map[string]bool            // flows that have changed since the last snapshot was published
	// rollingOut are the revisions that the leader, on this coordinator, asks workers to take, by flow.
	rollingOut map[string]*flowstate.Revision
	// switching are the active revisions that new batches do not run on yet, by flow.
	switching map[string]*pendingSwitch
	scheduled map[string]*scheduledFlow // the flows that the scheduler runs
	// eraseTimers has, for some deleted flows, the timer after which the flow's traces are erased once more (eraseTraces).
	eraseTimers map[string]*time.Timer
	// countedSince is the time since when the scheduler counts the rows of a flow, by flow. It has all flows for which the scheduler may
	// have a ledger.
	countedSince map[string]time.Time
}

// pendingSwitch is an active revision that new batches do not run on yet.
type pendingSwitch struct {
	revision *flowstate.Revision
	timer    *time.Timer // ends the wait for workers
}

// newFlowTable makes a table without flows. The caller must set later and publish.
func newFlowTable(r *roster, s *peerSettings, log hclog.Logger) *flowTable {
	return &flowTable{
		roster: r, loop: s.loop, log: log, lease: s.lease,
		byName: map[string]*flowstate.Flow{}, changed: map[string]bool{},
		rollingOut: map[string]*flowstate.Revision{}, switching: map[string]*pendingSwitch{}, scheduled: map[string]*scheduledFlow{},
		eraseTimers: map[string]*time.Timer{}, countedSince: map[string]time.Time{},
	}
}

// setFlows is called with the statuses and active revisions of all flows, as the leader has written them to etcd. It begins switches to new
// active revisions, and retires flows that were deleted.
func (t *flowTable) setFlows(ctx context.Context, state cluster.State) {
	there := make(map[string]bool, len(state.Flows))
	marks := state.Marks()
	for i, fl := range state.Flows {
		name := fl.Status.Flow
		there[name] = true
		e := t.byName[name]
		if e == nil {
			if t.countedSince[name].IsZero() {
				t.countedSince[name] = time.Now().UTC()
			}
			e = &flowstate.Flow{Name: name, Since: t.countedSince[name]}
			t.byName[name] = e
		}
		if e.Mark == marks[i] {
			continue
		}
		e.Mark, e.Status = marks[i], fl.Status
		t.changed[name] = true
		switch {
		case fl.Active == nil:
		case e.Active == nil || e.Active.ID() != fl.Active.Name():
			t.beginSwitch(ctx, e, *fl.Active)
		default:
			t.endSwitch(name) // etcd has gone back to the revision that runs
		}
	}
	for name, e := range t.byName {
		if !there[name] {
			delete(t.byName, name)
			t.changed[name] = true
			t.endSwitch(name)
			t.retireLater(ctx, name, e.Revisions)
			t.pruneDefinitions(name)
		}
	}
}

// beginSwitch begins the switch of a flow to a new active revision, h: it sends the revision to the workers. New batches run on it when the
// workers have answered, or after switchPatience. If the revision can't be read, the flow stays on the one before.
func (t *flowTable) beginSwitch(ctx context.Context, e *flowstate.Flow, h cluster.HistoryEntry) {
	if p := t.switching[e.Name]; p != nil && p.revision.ID() == h.Name() {
		return
	}
	r, err := flowstate.FromHistory(h)
	if err != nil {
		t.log.Error("an active revision can't be read; new batches stay on the revision before", "flow", e.Name, "revision", h.Revision, "error", err)
		return
	}
	t.endSwitch(e.Name)
	t.switching[e.Name] = &pendingSwitch{revision: r, timer: t.later(ctx, switchPatience, func() { t.trySwitch(ctx, e.Name, true) })}
	for _, m := range t.roster.members {
		t.sendDefinition(m, r)
	}
	t.trySwitch(ctx, e.Name, false)
}

// endSwitch gives up the switch of a flow to a new revision, if one is under way: new batches stay on the revision that they run on.
func (t *flowTable) endSwitch(flow string) {
	if p := t.switching[flow]; p != nil {
		p.timer.Stop()
		delete(t.switching, flow)
	}
}

// trySwitch ends the flow's switch to a new revision, so that new batches run on that revision, if every worker with a session has answered
// for it or force is true. If no switch is under way, it does nothing.
func (t *flowTable) trySwitch(ctx context.Context, flow string, force bool) {
	p, e := t.switching[flow], t.byName[flow]
	if p == nil || e == nil {
		return
	}
	key := definitionKey{flow, p.revision.ID()}
	for _, m := range t.roster.members {
		if m.definitions[flow][key.revision].pending && m.peer.connected.Load() {
			if !force {
				return
			}
			pointForced.Hit()
		}
	}
	t.endSwitch(flow)
	e.Active = p.revision
	e.Keep(p.revision)
	t.changed[flow] = true
	if e.TakesBatches() {
		t.schedule(ctx, flow, p.revision)
	} else {
		t.log.Info("flow switched off", "flow", flow, "revision", p.revision.Number)
		t.retireLater(ctx, flow, e.Revisions)
	}
	t.pruneDefinitions(flow)
	t.publish()
}

// shown returns the flows for a new snapshot. before has the flows of the snapshot before; flows that have not changed since are shared
// with it, and if none has changed, before itself is returned.
func (t *flowTable) shown(before map[string]*flowstate.Flow) map[string]*flowstate.Flow {
	if len(t.changed) == 0 {
		return before
	}
	now := maps.Clone(before)
	if now == nil {
		now = map[string]*flowstate.Flow{}
	}
	for name := range t.changed {
		if e := t.byName[name]; e != nil {
			shown := *e
			now[name] = &shown
		} else {
			delete(now, name)
		}
	}
	clear(t.changed)
	return now
}

// stopTimers stops the timers of all flows, because the fleet's goroutine is about to end.
func (t *flowTable) stopTimers() {
	for _, p := range t.switching {
		p.timer.Stop()
	}
	for _, timer := range t.eraseTimers {
		timer.Stop()
	}
	for _, s := range t.scheduled {
		if s.retirement != nil {
			s.retirement.Stop()
		}
	}
}

// definitionAnswered notes a worker's answer to the definition of a revision. If the worker accepts the revision and the scheduler runs it,
// the worker gets rows of the flow from now on. If a switch to the revision waits only for this answer, it is made.
func (t *flowTable) definitionAnswered(ctx context.Context, m *member, digest batch.Digest, c *pb.Compiled) {
	lasting := context.WithoutCancel(ctx) // the consequences stand, also when the session has ended by now
	key := definitionKey{c.GetFlow(), batch.Revision{Number: c.GetRevision(), Digest: digest}}
	asked, _ := m.definitions.get(key)
	m.definitions.set(key, definitionAnswer{sentAs: asked.sentAs, errors: c.GetErrors(), unfit: c.GetUnfit()})
	if len(c.GetErrors()) > 0 {
		t.log.Warn("a worker rejects a revision", "worker", m.worker.ID, "flow", c.GetFlow(), "revision", c.GetRevision(), "errors", c.GetErrors())
	} else if s := t.scheduled[key.flow]; s != nil && s.revision.ID() == key.revision {
		m.announceActive(key)
		t.loop.post(ctx, scheduler.WorkerReady{Worker: m.worker.ID, Flow: key.flow, Revision: key.revision.Number, Digest: digest})
	}
	if p := t.switching[key.flow]; p != nil && p.revision.ID() == key.revision {
		t.trySwitch(lasting, key.flow, false)
	}
	t.pruneDefinitions(key.flow)
	if t.byName[key.flow] == nil && t.scheduled[key.flow] == nil {
		t.forgetFlow(lasting, key.flow) // the flow was deleted meanwhile
	}
}
