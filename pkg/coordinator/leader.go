package coordinator

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// statusPause is the least time between two reports that a flow is being applied.
const statusPause = time.Second

// leader decides revisions: it compares what the documents ask for with what is active, asks the workers to take what is
// new, and switches when each live capable one did. It is level-triggered: every pass looks at everything, so no news is
// ever missed. One goroutine owns it.
type leader struct {
	leadership *cluster.Leadership
	fleet      *fleet
	log        hclog.Logger

	stored  []definition.Document
	desired *desiredState // what stored asks for; nil until it is listed
	// statuses are as this leader wrote or found them; nil while it must read them. running are the revisions that flows run on,
	// and described what etcd says of functions and connectors; both are read when statuses is.
	statuses        map[string]cluster.FlowStatus
	running         map[string]runningFlow
	described       map[cluster.Key]cluster.DocumentStatus
	readAt          time.Time                 // when statuses was
	writtenAt       map[string]time.Time      // when the leader wrote a flow's status, since read
	describedAt     time.Time                 // when described was written
	countedRejected map[string]batch.Revision // revisions that were counted as rejected last, by flow
	toldLenient     map[string]batch.Revision // revisions that would be refused by now and were told of last, by flow
	orphans         map[string]time.Time      // since when a flow has a history and nothing else
	passTimer       *time.Timer
	// earlier is what a flow's history had, by flow, where a candidate was asked about whose documents break a rule of intake.
	earlier map[string]acceptedEarlier
}

// running is what a flow runs on.
type runningFlow struct {
	revision  batch.Revision
	documents map[cluster.Key]int64 // their revisions
	// taken are the documents that it was made of: rules of intake are not asked again.
	taken map[cluster.Key]batch.Digest
}

func runningOf(name batch.Revision, docs []definition.Document) runningFlow {
	r := runningFlow{revision: name, documents: revisionsOf(docs), taken: map[cluster.Key]batch.Digest{}}
	for _, d := range docs {
		r.taken[keyOf(d)] = definition.Digest([]definition.Document{d})
	}
	return r
}

// took reports whether the flow runs on the document already.
func (r *runningFlow) took(d definition.Document) bool {
	digest, there := r.taken[keyOf(d)]
	return there && digest == definition.Digest([]definition.Document{d})
}

// lead decides revisions until the leadership is lost or ctx is done.
func (f *fleet) lead(ctx context.Context, leadership *cluster.Leadership, log hclog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &leader{
		leadership: leadership, fleet: f, log: log, passTimer: time.NewTimer(time.Hour), countedRejected: map[string]batch.Revision{},
		toldLenient: map[string]batch.Revision{}, orphans: map[string]time.Time{},
		earlier: map[string]acceptedEarlier{},
	}
	defer l.passTimer.Stop()
	trim := time.NewTicker(f.historyAge / 10)
	defer trim.Stop()
	documents := make(chan []definition.Document)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		// It only returns when ctx is done or the store is closed, and then the leadership is lost.
		_ = f.store.FollowDocuments(ctx, func(_ int64, docs []definition.Document) {
			select {
			case documents <- docs:
			case <-ctx.Done():
			}
		})
	}()
	defer func() { cancel(); <-followed }()
	defer func() {
		if l.desired == nil {
			return
		}
		var wishes []rolloutRequest
		for name := range l.desired.wanted {
			wishes = append(wishes, rolloutRequest{flow: name})
		}
		f.requestRollouts(context.WithoutCancel(ctx), wishes...)
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-leadership.Lost():
			return leadership.Err()
		case docs := <-documents:
			l.stored, l.desired = docs, compileDocuments(docs, l.desired, f.maxSteps)
		case <-f.leaderNews:
		case <-l.passTimer.C:
		case <-trim.C:
			if err := l.trim(ctx); errors.Is(err, cluster.ErrNotLeader) {
				return err
			} else if err != nil && ctx.Err() == nil {
				log.Warn("old revisions are not removed from the history yet; it is tried again", "error", err)
			}
			continue
		}
		if l.desired == nil {
			continue // the documents are not listed yet
		}
		if err := l.pass(ctx); errors.Is(err, cluster.ErrNotLeader) {
			return err
		} else if err != nil && ctx.Err() == nil {
			log.Warn("flows are not up to date in etcd; it is tried again", "error", err)
			l.passAgainSoon()
		}
	}
}

// load takes over what the flows' statuses are in etcd. What this coordinator follows may be older than what the leader
// before wrote last, and whoever writes a status must not take back which revision is active.
func (l *leader) load(ctx context.Context) error {
	state, err := l.fleet.store.State(ctx)
	if err != nil {
		return err
	}
	l.statuses, l.running = make(map[string]cluster.FlowStatus, len(state.Flows)), map[string]runningFlow{}
	for _, f := range state.Flows {
		l.statuses[f.Status.Flow] = f.Status
		if f.Active != nil {
			l.running[f.Status.Flow] = runningOf(f.Active.Name(), f.Active.Documents)
		}
	}
	l.described = state.Documents()
	l.readAt, l.writtenAt = time.Now(), map[string]time.Time{}
	return nil
}

// newsPatience is how long what is followed may differ from what was written or read before etcd is read again.
const newsPatience = 2 * time.Second

// compare has etcd read again when what is followed is not what this leader wrote or read, and that for a while: somebody
// changed or removed a status by hand, or etcd was restored from an earlier state.
func (l *leader) compare() {
	seen := l.fleet.seen.Load()
	if seen == nil || l.statuses == nil {
		return
	}
	differs, settling := false, time.Since(l.readAt) < newsPatience
	there := make(map[string]bool, len(seen.Flows))
	note := func(flow string) {
		if settling || time.Since(l.writtenAt[flow]) < newsPatience {
			l.passAgainSoon()
			return
		}
		differs = true
	}
	for _, f := range seen.Flows {
		there[f.Status.Flow] = true
		known, is := l.statuses[f.Status.Flow]
		_, runs := l.running[f.Status.Flow]
		if !is || !sameStatus(known, f.Status) || runs && f.Active == nil { // without its entry, which is written again
			note(f.Status.Flow)
		}
	}
	for flow := range l.statuses {
		if !there[flow] {
			note(flow)
		}
	}
	if differs {
		l.log.Info("what stands in etcd is not what was written there; it is read again")
		l.statuses = nil
	}
}

// sameStatus compares what flows are decided by. Each time that a leader writes a status it has another time.
func sameStatus(a, b cluster.FlowStatus) bool {
	return a.WantedRevision() == b.WantedRevision() && a.ActiveRevision() == b.ActiveRevision() && a.State == b.State && a.Updated.Equal(b.Updated)
}

// pass brings every flow's status up to what the documents and the workers say now. After an error nobody knows what was
// written: the next pass reads it.
func (l *leader) pass(ctx context.Context) error {
	l.compare()
	if l.statuses == nil {
		if err := l.load(ctx); err != nil {
			return err
		}
	}
	err := errors.Join(l.reconcileAll(ctx), l.describe(ctx))
	if err != nil {
		l.statuses = nil
	}
	return err
}

func (l *leader) reconcileAll(ctx context.Context) error {
	var failed []error
	for _, name := range slices.Sorted(maps.Keys(l.statuses)) {
		if l.desired.wanted[name] == nil {
			l.fleet.requestRollouts(ctx, rolloutRequest{flow: name})
			if err := l.leadership.DeleteStatus(ctx, name); err != nil {
				failed = append(failed, err)
				continue
			}
			delete(l.statuses, name)
			delete(l.running, name)
			delete(l.countedRejected, name)
			delete(l.toldLenient, name)
			delete(l.earlier, name)
			l.writtenAt[name] = time.Now()
			l.log.Info("flow deleted", "flow", name)
		}
	}
	return errors.Join(append(failed, l.reconcile(ctx))...)
}

// reconcile takes each flow that is not where it is to be a step nearer.
func (l *leader) reconcile(ctx context.Context) error {
	var steps []*candidate
	var wishes []rolloutRequest
	for _, name := range slices.Sorted(maps.Keys(l.desired.wanted)) {
		c := l.desired.wanted[name]
		now, known := l.statuses[name]
		runs := l.running[name]
		took := runs.took
		if c.breaksIntake && c.revision != nil {
			var err error
			if took, err = l.tookEarlier(ctx, name, c, &runs); err != nil {
				return err
			}
			if len(c.intake(took)) == 0 {
				l.tellLenient(name, c)
			}
		}
		if c.revision != nil && known && now.Wanted == c.number && now.Active == c.number && runs.revision == c.id() && now.State == c.settled() {
			continue
		}
		c = c.takenIn(took)
		w := rolloutRequest{name, c.revision}
		if c.revision != nil && !c.revision.enabled {
			w.revision = nil
		}
		steps, wishes = append(steps, c), append(wishes, w)
	}
	rollouts, ok := l.fleet.requestRollouts(ctx, wishes...)
	if !ok {
		return nil // shutting down
	}
	var decisions []cluster.Decision
	var decided []*candidate
	for i, c := range steps {
		flow := wishes[i].flow
		d := cluster.Decision{Status: decide(flow, c, rollouts[i], batch.Revision{Number: l.statuses[flow].Active, Digest: l.running[flow].revision.Digest})}
		activates := c.revision != nil && d.Status.State == c.settled()
		if !activates && !l.isNews(&d.Status) {
			continue
		}
		d.Status.Updated = time.Now().UTC()
		if activates {
			d.Entry = &cluster.HistoryEntry{
				Flow: flow, Revision: c.number, Documents: c.documents, Accepted: d.Status.Updated, ShardKey: c.revision.shardKey, Enabled: c.revision.enabled,
			}
		}
		decisions, decided = append(decisions, d), append(decided, c)
	}
	var failed []error
	wishes = nil
	for i, err := range l.leadership.Decide(ctx, decisions) {
		switch d := decisions[i]; {
		case err != nil:
			failed = append(failed, err)
		case d.Entry != nil:
			l.activated(d.Status, decided[i])
			wishes = append(wishes, rolloutRequest{flow: d.Status.Flow})
		default:
			l.written(d.Status)
		}
	}
	l.fleet.requestRollouts(ctx, wishes...)
	return errors.Join(failed...)
}

// tellLenient tells, once, that a flow goes on with documents that would be refused by now.
func (l *leader) tellLenient(name string, c *candidate) {
	if l.toldLenient[name] != c.id() {
		l.toldLenient[name] = c.id()
		l.log.Warn("a flow goes on with documents that were accepted earlier and would be refused by now", "flow", name, "revision", c.id(), "reasons", c.intake(func(definition.Document) bool { return false }))
	}
}

// tookEarlier tells of a document whether the flow runs with it, or has it in the history: an undo of a change goes back to what
// was accepted, whatever rules of intake there are by now. It asks etcd for the history where that decides.
func (l *leader) tookEarlier(ctx context.Context, name string, c *candidate, runs *runningFlow) (took func(definition.Document) bool, err error) {
	if len(c.intake(runs.took)) == 0 {
		return runs.took, nil
	}
	earlier, known := l.earlier[name]
	if !known || earlier.of != c.id() {
		history, err := l.fleet.store.History(ctx, name)
		if err != nil {
			return nil, err
		}
		earlier = acceptedEarlier{c.id(), historic(history)}
		l.earlier[name] = earlier
	}
	return func(d definition.Document) bool { return runs.took(d) || earlier.has(d) }, nil
}

// acceptedEarlier are the documents that a flow's history had when a candidate was looked at.
type acceptedEarlier struct {
	of batch.Revision
	historicDocuments
}

// historicDocuments are documents of revisions that were accepted.
type historicDocuments map[batch.Digest]bool

func historic(history []cluster.HistoryEntry) historicDocuments {
	all := historicDocuments{}
	for _, h := range history {
		for _, d := range h.Documents {
			all[definition.Digest([]definition.Document{d})] = true
		}
	}
	return all
}

func (h historicDocuments) has(d definition.Document) bool {
	return h[definition.Digest([]definition.Document{d})]
}

// intake is why a candidate can't be taken in: the rules of intake that its documents break, but for those that the flow took in
// already.
func (c *candidate) intake(took func(definition.Document) bool) (reasons []string) {
	for _, d := range c.documents {
		if read := c.needs[keyOf(d)]; len(read.intake) > 0 && !took(d) {
			reasons = append(reasons, read.intake...)
		}
	}
	return reasons
}

// takenIn refuses a candidate with a document that breaks a rule of intake. One that the flow took in already goes on. Of the
// others workers are told that they are fresh: they have rules of their own.
func (c *candidate) takenIn(took func(definition.Document) bool) *candidate {
	reasons := c.intake(took)
	if c.revision == nil {
		return c
	}
	taken := *c
	if len(reasons) > 0 {
		taken.revision, taken.reasons = nil, reasons
		return &taken
	}
	taken.revision = c.revision.fresh(func(d definition.Document) bool { return d.Kind == definition.KindConn && !took(d) }, c.documents)
	return &taken
}

// decide is the status that a candidate deserves, now that the workers are so far with it. It switches by making the
// candidate's revision the active one.
func decide(flow string, c *candidate, r rolloutProgress, active batch.Revision) cluster.FlowStatus {
	next := cluster.FlowStatus{
		Flow: flow, Wanted: c.number, WantedDigest: c.digest, Active: active.Number, ActiveDigest: active.Digest,
		State: cluster.StateRejected, Reasons: c.reasons,
	}
	activate := func(state string) { next.State, next.Active, next.ActiveDigest = state, c.number, c.digest }
	switch {
	case c.revision == nil:
		return next
	case !c.revision.enabled:
		activate(cluster.StateDisabled)
		return next
	}
	next.Of, next.Applied = len(r.capable), r.acks
	next.Workers = r.verdicts()
	switch {
	case len(r.capable) == 0 && len(r.unfit) > 0:
		next.Reasons = reasonLines(r.unfit)
	case len(r.capable) == 0:
		next.State, next.Reasons = cluster.StatePending, pendingReasons(r)
	case len(r.rejected) > 0:
		next.Reasons = reasonLines(r.rejected)
	case len(r.lagging) > 0:
		next.State, next.Reasons = cluster.StateApplying, []string{nameWorkers(r.lagging) + " has not answered yet"}
	default:
		activate(cluster.StateActive)
	}
	return next
}

// activated notes that the candidate is the flow's active revision. What is left of its history trim removes.
func (l *leader) activated(s cluster.FlowStatus, c *candidate) {
	l.statuses[s.Flow], l.running[s.Flow], l.writtenAt[s.Flow] = s, runningOf(c.id(), c.documents), s.Updated
	l.log.Info("flow activated", "flow", s.Flow, "revision", c.id(), "state", s.State)
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

// written notes that a status was written.
func (l *leader) written(s cluster.FlowStatus) {
	l.statuses[s.Flow], l.writtenAt[s.Flow] = s, s.Updated
	if s.State == cluster.StateRejected && l.countedRejected[s.Flow] != s.WantedRevision() {
		l.countedRejected[s.Flow] = s.WantedRevision()
		l.fleet.rejections.WithLabelValues(s.Flow).Inc()
	}
	if s.State != cluster.StateApplying {
		l.log.Warn("a flow's documents ask for what does not run", "flow", s.Flow, "state", s.State, "wanted", s.Wanted, "active", s.Active, "reasons", s.Reasons)
	}
}

// trim removes the history that nobody needs: of each flow the revisions that are old and followed by enough others, and all of a
// flow that was deleted as long ago as a batch may be sent again. Since when that is, this leader knows by itself.
func (l *leader) trim(ctx context.Context) error {
	seen := l.fleet.seen.Load()
	if seen == nil || l.statuses == nil || l.desired == nil {
		return nil
	}
	histories := seen.Histories()
	for flow := range l.orphans {
		if histories[flow] == 0 {
			delete(l.orphans, flow)
		}
	}
	var failed []error
	for _, flow := range slices.Sorted(maps.Keys(histories)) {
		_, known := l.statuses[flow]
		if known || l.desired.wanted[flow] != nil {
			delete(l.orphans, flow)
			if histories[flow] > cluster.HistoryKeep {
				failed = append(failed, l.leadership.TrimHistory(ctx, flow, cluster.HistoryKeep, l.fleet.historyAge))
			}
			continue
		}
		since, orphan := l.orphans[flow]
		switch {
		case !orphan:
			l.orphans[flow] = time.Now()
		case time.Since(since) >= l.fleet.historyAge:
			if err := l.leadership.TrimHistory(ctx, flow, 0, 0); err != nil {
				failed = append(failed, err)
				continue
			}
			l.log.Info("the history of a deleted flow is removed", "flow", flow)
		}
	}
	return errors.Join(failed...)
}

func (l *leader) passAgainSoon() { l.passTimer.Reset(statusPause) }
