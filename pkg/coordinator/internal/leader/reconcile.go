package leader

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// reconcileAll ends the rollouts and deletes the statuses of flows whose documents were deleted, and then reconciles all other flows.
func (l *leader) reconcileAll(ctx context.Context) error {
	var failed []error
	kept, err := l.keepDeleted(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(l.statuses)) {
		if l.desired.Flows[name] == nil && !kept[name] {
			l.Fleet.RequestRollouts(ctx, RolloutRequest{Flow: name})
			if err := l.Leadership.DeleteStatus(ctx, name); err != nil {
				failed = append(failed, err)
				continue
			}
			l.direct.deleted(cluster.Key{Kind: definition.KindFlow, Name: name}, l.statuses[name].Wanted, name)
			delete(l.statuses, name)
			delete(l.running, name)
			delete(l.countedRejected, name)
			delete(l.toldLenient, name)
			delete(l.earlier, name)
			l.writtenAt[name] = time.Now()
			pointDeleted.Hit()
			l.Log.Info("flow deleted", "flow", name)
		}
	}
	return errors.Join(append(failed, l.reconcile(ctx))...)
}

// reconcile takes each flow whose status is not settled one step further:
//
//  1. It finds the candidate's documents that are new, and rejects the candidate if one of them breaks a rule of intake, or was written past
//     all coordinators and RefuseDirect is set.
//  2. It asks the workers how far they are with the candidate's revision.
//  3. It decides the flow's status from their answers, and writes it where it has changed.
func (l *leader) reconcile(ctx context.Context) error {
	var steps []*Candidate
	var wishes []RolloutRequest
	direct, err := l.directDocuments(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(l.desired.Flows)) {
		c := l.desired.Flows[name]
		now, known := l.statuses[name]
		runs := l.running[name]
		took := runs.tookIn
		if c.breaksIntake && c.Revision != nil {
			var err error
			if took, err = l.acceptedBefore(ctx, name, c, &runs); err != nil {
				return err
			}
			if len(c.intakeMistakes(took)) == 0 {
				l.logLenient(name, c)
			}
		}
		if c.Revision != nil && known && now.Wanted == c.number && now.Active == c.number && runs.revision == c.ID() && now.State == c.settledState() {
			continue
		}
		c = c.takenIn(took).refused(name, direct)
		w := RolloutRequest{name, c.Revision}
		if c.Revision != nil && !c.Revision.Enabled {
			w.Revision = nil
		}
		steps, wishes = append(steps, c), append(wishes, w)
	}
	rollouts, ok := l.Fleet.RequestRollouts(ctx, wishes...)
	if !ok {
		return nil // the coordinator is shutting down
	}
	var decisions []cluster.Decision
	var decided []*Candidate
	var changed []int64 // the revisions of documents that become active
	for i, c := range steps {
		flow := wishes[i].Flow
		d := cluster.Decision{Status: decide(flow, c, rollouts[i], batch.Revision{Number: l.statuses[flow].Active, Digest: l.running[flow].revision.Digest})}
		activates := c.Revision != nil && d.Status.State == c.settledState()
		if !activates && !l.isWorthWriting(&d.Status) {
			continue
		}
		d.Status.Updated = time.Now().UTC()
		if activates {
			d.Entry = &cluster.HistoryEntry{
				Flow: flow, Revision: c.number, Documents: c.Documents, Accepted: d.Status.Updated, ShardKey: c.Revision.ShardKey, Enabled: c.Revision.Enabled,
			}
			for _, d := range l.changed(flow, c) {
				changed = append(changed, d.Revision)
			}
		}
		decisions, decided = append(decisions, d), append(decided, c)
	}
	authors, err := l.Store.Authors(ctx, changed...)
	if err != nil {
		return err
	}
	for i, d := range decisions {
		if d.Entry != nil {
			d.Entry.Author = authorsOf(l.changed(d.Entry.Flow, decided[i]), authors)
		}
	}
	var failed []error
	wishes = nil
	for i, err := range l.Leadership.Decide(ctx, decisions) {
		switch d := decisions[i]; {
		case err != nil:
			failed = append(failed, err)
		case d.Entry != nil:
			l.noteActivated(d.Status, decided[i])
			wishes = append(wishes, RolloutRequest{Flow: d.Status.Flow})
		default:
			l.noteWritten(d.Status)
		}
	}
	l.Fleet.RequestRollouts(ctx, wishes...)
	return errors.Join(failed...)
}

// changed returns the documents that a candidate of a flow changes, oldest first: those that the active revision does not have. For a flow that
// has no active revision they are the flow's document, and those that were written with it or later.
func (l *leader) changed(flow string, c *Candidate) (docs []definition.Document) {
	runs := l.running[flow]
	since := int64(0)
	for _, d := range c.Documents {
		if d.Kind == definition.KindFlow && runs.documents == nil {
			since = d.Revision
		}
	}
	for _, d := range c.Documents {
		if runs.documents[flowstate.KeyOf(d)] != d.Revision && d.Revision >= since {
			docs = append(docs, d)
		}
	}
	slices.SortStableFunc(docs, func(a, b definition.Document) int { return cmp.Compare(a.Revision, b.Revision) })
	return docs
}

// authorsOf names the authors of documents, each once, in the order of docs. authors has them by etcd revision.
func authorsOf(docs []definition.Document, authors map[int64]string) string {
	var names []string
	for _, d := range docs {
		if name := authors[d.Revision]; name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, "; ")
}

// decide returns the status that a flow gets, given its candidate c, the workers' answers r, and the active revision so far. If the state
// is active or disabled, the candidate's revision becomes the active one.
//
//	candidate                                        state      active revision
//	its documents are wrong                          rejected   as before
//	its flow is switched off                         disabled   the candidate
//	no live worker has the functions                 pending    as before
//	a worker can't compile it                        rejected   as before
//	a worker has not answered                        applying   as before
//	all workers that have the functions accepted it  active     the candidate
func decide(flow string, c *Candidate, r RolloutProgress, active batch.Revision) cluster.FlowStatus {
	next := cluster.FlowStatus{
		Flow: flow, Wanted: c.number, WantedDigest: c.digest, Active: active.Number, ActiveDigest: active.Digest,
		State: cluster.StateRejected, Reasons: c.Reasons,
	}
	activate := func(state string) { next.State, next.Active, next.ActiveDigest = state, c.number, c.digest }
	switch {
	case c.Revision == nil:
		pointInvalid.Hit()
		return next
	case !c.Revision.Enabled:
		pointDisabled.Hit()
		activate(cluster.StateDisabled)
		return next
	}
	next.Of, next.Applied = len(r.Capable), r.Accepted
	next.Workers = r.verdicts()
	switch {
	case len(r.Capable) == 0 && len(r.Unfit) > 0:
		pointUnfit.Hit()
		next.Reasons = ReasonLines(r.Unfit)
	case len(r.Capable) == 0:
		pointPending.Hit()
		next.State, next.Reasons = cluster.StatePending, PendingReasons(r)
	case len(r.Rejected) > 0:
		pointRejected.Hit()
		next.Reasons = ReasonLines(r.Rejected)
	case len(r.Lagging) > 0:
		pointLagging.Hit()
		next.State, next.Reasons = cluster.StateApplying, []string{NameWorkers(r.Lagging) + " has not answered yet"}
	default:
		activate(cluster.StateActive)
	}
	return next
}

// isWorthWriting reports whether a flow's status s should be written to etcd now: it differs from the one that was written last, and if
// only the progress of a rollout differs, statusPause has passed since. It sets s.Updated to the time of the last write.
func (l *leader) isWorthWriting(s *cluster.FlowStatus) bool {
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

// noteActivated notes that status s was written to etcd, which makes the candidate's revision the active one.
func (l *leader) noteActivated(s cluster.FlowStatus, c *Candidate) {
	l.statuses[s.Flow], l.running[s.Flow], l.writtenAt[s.Flow] = s, runningOf(c.ID(), c.Documents), s.Updated
	l.Log.Info("flow activated", "flow", s.Flow, "revision", c.ID(), "state", s.State)
}

// noteWritten notes that status s was written to etcd. It counts the revision if it was rejected, and logs the status unless the rollout
// just goes on.
func (l *leader) noteWritten(s cluster.FlowStatus) {
	l.statuses[s.Flow], l.writtenAt[s.Flow] = s, s.Updated
	if s.State == cluster.StateRejected && l.countedRejected[s.Flow] != s.WantedRevision() {
		l.countedRejected[s.Flow] = s.WantedRevision()
		l.Rejections.WithLabelValues(s.Flow).Inc()
	}
	if s.State != cluster.StateApplying {
		l.Log.Warn("a flow's documents ask for what does not run", "flow", s.Flow, "state", s.State, "wanted", s.Wanted, "active", s.Active, "reasons", s.Reasons)
	}
}

// passAgainSoon makes the leader make another pass after statusPause, even if no news comes.
func (l *leader) passAgainSoon() { l.passTimer.Reset(statusPause) }
