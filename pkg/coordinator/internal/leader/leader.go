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

// statusPause is the least time between two reports that a flow is being applied.
const statusPause = time.Second

// leader decides revisions: it compares what the documents ask for with what is active, asks the workers to take what is
// new, and switches when each live capable one did. It is level-triggered: every pass looks at everything, so no news is
// ever missed. One goroutine owns it.
type leader struct {
	Config

	stored  []definition.Document
	desired *DesiredState // what stored asks for; nil until it is listed
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

// leaderConfig is what a leader needs of the coordinator that was elected. Every field must be set.
type Config struct {
	Leadership *cluster.Leadership
	Store      *cluster.Store
	Fleet      Fleet
	// news holds a token when something has changed that the leader decides by.
	News <-chan struct{}
	// historyAge is how long a revision is kept after another one took its place, or its flow was deleted.
	HistoryAge time.Duration
	MaxSteps   int                    // limit of a flow's document
	Rejections *prometheus.CounterVec // counts rejected revisions, by flow
	Log        hclog.Logger
}

// fleetOfLeader is what a leader asks of its coordinator's fleet.
type Fleet interface {
	// RequestRollouts asks every capable worker to take revisions, and returns how far each is, in the order of the requests. It is
	// false when the coordinator is shutting down, or ctx is done.
	RequestRollouts(ctx context.Context, requests ...RolloutRequest) ([]RolloutProgress, bool)
	// FollowedState is the flows' statuses as the coordinator follows them in etcd; nil until they are listed.
	FollowedState() *cluster.State
}

// lead decides revisions until the leadership is lost or ctx is done.
func Lead(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &leader{
		Config: c, passTimer: time.NewTimer(time.Hour), countedRejected: map[string]batch.Revision{},
		toldLenient: map[string]batch.Revision{}, orphans: map[string]time.Time{},
		earlier: map[string]acceptedEarlier{},
	}
	defer l.passTimer.Stop()
	trim := time.NewTicker(l.HistoryAge / 10)
	defer trim.Stop()
	documents := make(chan []definition.Document)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		// It only returns when ctx is done or the store is closed, and then the leadership is lost.
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

// load takes over what the flows' statuses are in etcd. What this coordinator follows may be older than what the leader
// before wrote last, and whoever writes a status must not take back which revision is active.
func (l *leader) load(ctx context.Context) error {
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
	l.described = state.Documents()
	l.readAt, l.writtenAt = time.Now(), map[string]time.Time{}
	return nil
}

// newsPatience is how long what is followed may differ from what was written or read before etcd is read again.
const newsPatience = 2 * time.Second

// compare has etcd read again when what is followed is not what this leader wrote or read, and that for a while: somebody
// changed or removed a status by hand, or etcd was restored from an earlier state.
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
		l.Log.Info("what stands in etcd is not what was written there; it is read again")
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

// trim removes the history that nobody needs: of each flow the revisions that are old and followed by enough others, and all of a
// flow that was deleted as long ago as a batch may be sent again. Since when that is, this leader knows by itself.
func (l *leader) trim(ctx context.Context) error {
	seen := l.Fleet.FollowedState()
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
			l.Log.Info("the history of a deleted flow is removed", "flow", flow)
		}
	}
	return errors.Join(failed...)
}

func (l *leader) passAgainSoon() { l.passTimer.Reset(statusPause) }
