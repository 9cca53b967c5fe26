package leader

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
)

func (l *leader) reconcileAll(ctx context.Context) error {
	var failed []error
	for _, name := range slices.Sorted(maps.Keys(l.statuses)) {
		if l.desired.Flows[name] == nil {
			l.Fleet.RequestRollouts(ctx, RolloutRequest{Flow: name})
			if err := l.Leadership.DeleteStatus(ctx, name); err != nil {
				failed = append(failed, err)
				continue
			}
			delete(l.statuses, name)
			delete(l.running, name)
			delete(l.countedRejected, name)
			delete(l.toldLenient, name)
			delete(l.earlier, name)
			l.writtenAt[name] = time.Now()
			l.Log.Info("flow deleted", "flow", name)
		}
	}
	return errors.Join(append(failed, l.reconcile(ctx))...)
}

// reconcile takes each flow that is not where it is to be a step nearer.
func (l *leader) reconcile(ctx context.Context) error {
	var steps []*Candidate
	var wishes []RolloutRequest
	for _, name := range slices.Sorted(maps.Keys(l.desired.Flows)) {
		c := l.desired.Flows[name]
		now, known := l.statuses[name]
		runs := l.running[name]
		took := runs.took
		if c.breaksIntake && c.Revision != nil {
			var err error
			if took, err = l.tookEarlier(ctx, name, c, &runs); err != nil {
				return err
			}
			if len(c.intake(took)) == 0 {
				l.tellLenient(name, c)
			}
		}
		if c.Revision != nil && known && now.Wanted == c.number && now.Active == c.number && runs.revision == c.ID() && now.State == c.settled() {
			continue
		}
		c = c.takenIn(took)
		w := RolloutRequest{name, c.Revision}
		if c.Revision != nil && !c.Revision.Enabled {
			w.Revision = nil
		}
		steps, wishes = append(steps, c), append(wishes, w)
	}
	rollouts, ok := l.Fleet.RequestRollouts(ctx, wishes...)
	if !ok {
		return nil // shutting down
	}
	var decisions []cluster.Decision
	var decided []*Candidate
	for i, c := range steps {
		flow := wishes[i].Flow
		d := cluster.Decision{Status: decide(flow, c, rollouts[i], batch.Revision{Number: l.statuses[flow].Active, Digest: l.running[flow].revision.Digest})}
		activates := c.Revision != nil && d.Status.State == c.settled()
		if !activates && !l.isNews(&d.Status) {
			continue
		}
		d.Status.Updated = time.Now().UTC()
		if activates {
			d.Entry = &cluster.HistoryEntry{
				Flow: flow, Revision: c.number, Documents: c.Documents, Accepted: d.Status.Updated, ShardKey: c.Revision.ShardKey, Enabled: c.Revision.Enabled,
			}
		}
		decisions, decided = append(decisions, d), append(decided, c)
	}
	var failed []error
	wishes = nil
	for i, err := range l.Leadership.Decide(ctx, decisions) {
		switch d := decisions[i]; {
		case err != nil:
			failed = append(failed, err)
		case d.Entry != nil:
			l.activated(d.Status, decided[i])
			wishes = append(wishes, RolloutRequest{Flow: d.Status.Flow})
		default:
			l.written(d.Status)
		}
	}
	l.Fleet.RequestRollouts(ctx, wishes...)
	return errors.Join(failed...)
}

// decide is the status that a candidate deserves, now that the workers are so far with it. It switches by making the
// candidate's revision the active one.
func decide(flow string, c *Candidate, r RolloutProgress, active batch.Revision) cluster.FlowStatus {
	next := cluster.FlowStatus{
		Flow: flow, Wanted: c.number, WantedDigest: c.digest, Active: active.Number, ActiveDigest: active.Digest,
		State: cluster.StateRejected, Reasons: c.Reasons,
	}
	activate := func(state string) { next.State, next.Active, next.ActiveDigest = state, c.number, c.digest }
	switch {
	case c.Revision == nil:
		return next
	case !c.Revision.Enabled:
		activate(cluster.StateDisabled)
		return next
	}
	next.Of, next.Applied = len(r.Capable), r.Accepted
	next.Workers = r.verdicts()
	switch {
	case len(r.Capable) == 0 && len(r.Unfit) > 0:
		next.Reasons = ReasonLines(r.Unfit)
	case len(r.Capable) == 0:
		next.State, next.Reasons = cluster.StatePending, PendingReasons(r)
	case len(r.Rejected) > 0:
		next.Reasons = ReasonLines(r.Rejected)
	case len(r.Lagging) > 0:
		next.State, next.Reasons = cluster.StateApplying, []string{NameWorkers(r.Lagging) + " has not answered yet"}
	default:
		activate(cluster.StateActive)
	}
	return next
}

// isNews reports whether a status says something new, progress of a rollout not oftener than once in statusPause.
func (l *leader) isNews(s *cluster.FlowStatus) bool {
	old, known := l.statuses[s.Flow]
	s.Updated = old.Updated
	switch {
	case known && reflect.DeepEqual(old, *s):
		return false
	case known && old.State == s.State && s.State == cluster.StateApplying && time.Since(old.Updated) < statusPause:
		l.passAgainSoon()
		return false
	}
	return true
}

// activated notes that the candidate is the flow's active revision. What is left of its history trim removes.
func (l *leader) activated(s cluster.FlowStatus, c *Candidate) {
	l.statuses[s.Flow], l.running[s.Flow], l.writtenAt[s.Flow] = s, runningOf(c.ID(), c.Documents), s.Updated
	l.Log.Info("flow activated", "flow", s.Flow, "revision", c.ID(), "state", s.State)
}

// written notes that a status was written.
func (l *leader) written(s cluster.FlowStatus) {
	l.statuses[s.Flow], l.writtenAt[s.Flow] = s, s.Updated
	if s.State == cluster.StateRejected && l.countedRejected[s.Flow] != s.WantedRevision() {
		l.countedRejected[s.Flow] = s.WantedRevision()
		l.Rejections.WithLabelValues(s.Flow).Inc()
	}
	if s.State != cluster.StateApplying {
		l.Log.Warn("a flow's documents ask for what does not run", "flow", s.Flow, "state", s.State, "wanted", s.Wanted, "active", s.Active, "reasons", s.Reasons)
	}
}
