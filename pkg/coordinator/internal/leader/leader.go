package leader

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// statusPause is the least time between two writes of a flow's status that only report the progress of a rollout, and between two writes of
// the statuses of documents. After an error the leader also waits that long.
const statusPause = time.Second

// leader decides which revision of each flow is active. It compares the revision that the documents ask for with the active one, asks the
// workers to compile a new one, and makes it active when every live worker that has the functions, in the build that the revision needs,
// has accepted it. It works in passes. Each pass looks at all flows, so that no missed message does harm. The goroutine of Lead owns it.
type leader struct {
	Config

	stored  []definition.Document
	desired *DesiredState // the revisions that stored asks for; nil until the documents are listed
	// statuses are the flows' statuses in etcd, as this leader has read or written them last; nil means that they must be read. running is
	// the active revision of each flow, writtenDocuments the statuses of functions and connectors; both are read together with statuses.
	statuses           map[string]cluster.FlowStatus
	running            map[string]runningFlow
	writtenDocuments   map[cluster.Key]cluster.DocumentStatus
	readAt             time.Time                 // when statuses was last read from etcd
	writtenAt          map[string]time.Time      // by flow, when the leader wrote the flow's status since readAt
	documentsWrittenAt time.Time                 // when the leader last wrote writtenDocuments to etcd
	countedRejected    map[string]batch.Revision // by flow: the last rejected revision that Config.Rejections has counted
	toldLenient        map[string]batch.Revision // by flow: the last revision that logLenient has logged
	orphans            map[string]time.Time      // by flow: since when the leader sees that the flow has a history and neither document nor status
	passTimer          *time.Timer
	// earlier has, by flow, the documents in the flow's history. It has only flows whose candidate breaks a rule of intake.
	earlier map[string]acceptedEarlier
	direct  directChanges // the changes that were made past all coordinators, as far as they are known

	auditBegan bool // says whether etcd has noted that there is an audit log
}

// Config is what a leader needs of the coordinator that was elected. Every field must be set.
type Config struct {
	Leadership *cluster.Leadership
	Store      *cluster.Store
	Fleet      Fleet
	// News holds a token when workers or their answers have changed. The leader takes the token and makes a pass.
	News <-chan struct{}
	// HistoryAge is how long a revision stays in the history after another one has become active, or its flow was deleted.
	HistoryAge time.Duration
	MaxSteps   int                    // the most steps that a new flow document may have
	Rejections *prometheus.CounterVec // counts the revisions that this leader rejects, by flow
	// RefuseDirect makes the leader refuse new documents, and deletions of flows, that the audit log does not know.
	RefuseDirect bool
	ID           string // the coordinator's id, for entries of the audit log
	Log          hclog.Logger
}

// Lead decides the revisions of all flows until the leadership is lost, and returns why, or until ctx is done, and returns nil. It blocks.
func Lead(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &leader{
		Config: c, passTimer: time.NewTimer(time.Hour), countedRejected: map[string]batch.Revision{},
		toldLenient: map[string]batch.Revision{}, orphans: map[string]time.Time{},
		earlier: map[string]acceptedEarlier{}, direct: newDirectChanges(),
	}
	defer l.passTimer.Stop()
	trim := time.NewTicker(l.HistoryAge / 10)
	defer trim.Stop()
	documents := make(chan []definition.Document)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		// FollowDocuments returns only when ctx is done or the store is closed; in both cases the leadership ends.
		_ = l.Store.FollowDocuments(ctx, func(_ int64, docs []definition.Document) {
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
		var requests []RolloutRequest
		for name := range l.desired.Flows {
			requests = append(requests, RolloutRequest{Flow: name})
		}
		l.Fleet.RequestRollouts(context.WithoutCancel(ctx), requests...)
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.Leadership.Lost():
			return l.Leadership.Err()
		case docs := <-documents:
			l.stored, l.desired = docs, CompileDocuments(docs, l.desired, l.MaxSteps)
			l.direct.looked = false
		case <-l.News:
		case <-l.passTimer.C:
		case <-trim.C:
			if err := l.trim(ctx); errors.Is(err, cluster.ErrNotLeader) {
				return err
			} else if err != nil && ctx.Err() == nil {
				l.Log.Warn("old revisions are not removed from the history yet; it is tried again", "error", err)
			}
			continue
		}
		if l.desired == nil {
			continue // the documents are not listed yet
		}
		if err := l.pass(ctx); errors.Is(err, cluster.ErrNotLeader) {
			return err
		} else if err != nil && ctx.Err() == nil {
			l.Log.Warn("flows are not up to date in etcd; it is tried again", "error", err)
			l.passAgainSoon()
		}
	}
}

// readStatuses reads the statuses and active revisions of all flows, and the statuses of documents, from etcd. The statuses that the
// coordinator follows may be older than the last ones that the leader before has written; deciding by them could make an old revision
// active again.
func (l *leader) readStatuses(ctx context.Context) error {
	state, err := l.Store.State(ctx)
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
	l.writtenDocuments = state.Documents()
	l.readAt, l.writtenAt = time.Now(), map[string]time.Time{}
	return nil
}

// newsPatience is for how long the statuses that the coordinator follows in etcd may differ from those that the leader wrote, because they
// are still on their way, before etcd is read again.
const newsPatience = 2 * time.Second

// compare sets l.statuses to nil, so that they are read from etcd again, if the statuses that the coordinator follows have differed from
// them for newsPatience. That happens when an operator changes a status by hand, or etcd is restored from a backup.
func (l *leader) compare() {
	seen := l.Fleet.FollowedState()
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
		if !is || !sameStatus(known, f.Status) || runs && f.Active == nil { // the entry of the active revision is missing, and will be written again
			note(f.Status.Flow)
		}
	}
	for flow := range l.statuses {
		if !there[flow] {
			note(flow)
		}
	}
	if differs {
		pointOtherStatus.Hit()
		l.Log.Info("what stands in etcd is not what was written there; it is read again")
		l.statuses = nil
	}
}

// sameStatus reports whether two statuses have the same revisions, state and time. Each write to etcd has another time, so two different
// writes are never the same.
func sameStatus(a, b cluster.FlowStatus) bool {
	return a.WantedRevision() == b.WantedRevision() && a.ActiveRevision() == b.ActiveRevision() && a.State == b.State && a.Updated.Equal(b.Updated)
}

// pass makes one pass over all flows and documents, and brings their statuses in etcd up to date. After an error it is not known what was
// written, so the next pass reads the statuses again.
func (l *leader) pass(ctx context.Context) error {
	l.compare()
	if l.statuses == nil {
		if err := l.readStatuses(ctx); err != nil {
			return err
		}
	}
	if !l.auditBegan {
		if err := l.Leadership.BeginAudit(ctx); err != nil {
			return err
		}
		l.auditBegan = true
	}
	err := errors.Join(l.reconcileAll(ctx), l.writeDocumentStatuses(ctx), l.noteDeletions(ctx), l.noteWrites(ctx))
	if err != nil {
		pointFailedPass.Hit()
		l.statuses = nil
	}
	return err
}

// trim removes entries of the audit log that are too old, and history that is not needed any more. Of a flow that exists it removes revisions that are older than Config.HistoryAge,
// except the newest cluster.HistoryKeep; of a flow that was deleted longer ago than that it removes all. The history does not tell when a
// flow was deleted, so the leader counts from when it first saw that.
func (l *leader) trim(ctx context.Context) error {
	if l.desired == nil {
		return nil // it is not known yet which documents there are
	}
	current := map[int64]bool{}
	for _, d := range l.stored {
		current[d.Revision] = true
	}
	if err := l.Leadership.TrimAudit(ctx, cluster.AuditKeep, cluster.AuditAge, current); err != nil {
		return err
	}
	seen := l.Fleet.FollowedState()
	if seen == nil || l.statuses == nil {
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
		if known || l.desired.Flows[flow] != nil {
			delete(l.orphans, flow)
			if histories[flow] > cluster.HistoryKeep {
				failed = append(failed, l.Leadership.TrimHistory(ctx, flow, cluster.HistoryKeep, l.HistoryAge))
			}
			continue
		}
		since, orphan := l.orphans[flow]
		switch {
		case !orphan:
			l.orphans[flow] = time.Now()
		case time.Since(since) >= l.HistoryAge:
			if err := l.Leadership.TrimHistory(ctx, flow, 0, 0); err != nil {
				failed = append(failed, err)
				continue
			}
			pointTrimmed.Hit()
			l.Log.Info("the history of a deleted flow is removed", "flow", flow)
		}
	}
	return errors.Join(failed...)
}
