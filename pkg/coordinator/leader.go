package coordinator

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

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

	stored   []definition.Document
	wanted   map[string]*candidate
	statuses map[string]cluster.FlowStatus // as this leader wrote or found them; nil while it must read them
	// running are the documents' revisions that flows run on, and described what etcd says of functions and connectors; both
	// are read when statuses is.
	running   map[string]map[cluster.Key]int64
	described map[cluster.Key]cluster.DocumentStatus
	wrote     time.Time        // described
	rejected  map[string]int64 // revisions that were counted as rejected last, by flow
	again     *time.Timer
}

// candidate is what the documents ask for of one flow.
type candidate struct {
	number    int64
	revision  *revision // nil when the documents are wrong
	documents []definition.Document
	reasons   []string
}

// lead decides revisions until the leadership is lost or ctx is done.
func (f *fleet) lead(ctx context.Context, leadership *cluster.Leadership, log hclog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &leader{
		leadership: leadership, fleet: f, log: log, again: time.NewTimer(time.Hour), rejected: map[string]int64{},
	}
	defer l.again.Stop()
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
		for name := range l.wanted {
			f.want(context.WithoutCancel(ctx), name, nil)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-leadership.Lost():
			return leadership.Err()
		case docs := <-documents:
			l.stored, l.wanted = docs, candidates(docs)
		case <-f.news:
		case <-l.again.C:
		}
		if l.wanted == nil {
			continue // the documents are not listed yet
		}
		if err := l.pass(ctx); errors.Is(err, cluster.ErrNotLeader) {
			return err
		} else if err != nil && ctx.Err() == nil {
			log.Warn("flows are not up to date in etcd; it is tried again", "error", err)
			l.lookAgain()
		}
	}
}

// candidates reads what the documents ask for, flow by flow: a mistake concerns those flows only that need the document.
func candidates(docs []definition.Document) map[string]*candidate {
	functions, connectors := map[string]definition.Document{}, map[string]definition.Document{}
	for _, d := range docs {
		switch d.Kind {
		case definition.KindFunc:
			functions[d.Name] = d
		case definition.KindConn:
			connectors[d.Name] = d
		}
	}
	wanted := map[string]*candidate{}
	for _, d := range docs {
		if d.Kind == definition.KindFlow {
			wanted[d.Name] = newCandidate(d, functions, connectors)
		}
	}
	return wanted
}

func newCandidate(flow definition.Document, functions, connectors map[string]definition.Document) *candidate {
	c := &candidate{number: flow.Revision, documents: []definition.Document{flow}}
	add := func(d definition.Document, there bool) {
		if there && !slices.ContainsFunc(c.documents, func(o definition.Document) bool { return o.Kind == d.Kind && o.Name == d.Name }) {
			c.documents = append(c.documents, d)
			c.number = max(c.number, d.Revision)
		}
	}
	// Documents that can't be read name nothing that they need; NewBundle says what is wrong with them.
	if p, err := definition.Parse(flow); err == nil {
		for _, step := range p.Flow.Functions {
			d, there := functions[step.Name]
			add(d, there)
			if p, err := definition.Parse(d); there && err == nil && p.Function.Connector != "" {
				d, there := connectors[p.Function.Connector]
				add(d, there)
			}
		}
	}
	b, err := definition.NewBundle(c.documents)
	if err != nil {
		c.reasons = lines(err)
		return c
	}
	c.revision = bundleRevision(b, c.number)
	return c
}

// lines are the single mistakes of an error that joins several.
func lines(err error) []string {
	if mistakes, ok := errors.AsType[definition.Mistakes](err); ok {
		out := make([]string, len(mistakes))
		for i, m := range mistakes {
			out[i] = m.Error()
		}
		return out
	}
	return []string{err.Error()}
}

// read takes over what the flows' statuses are in etcd. What this coordinator follows may be older than what the leader
// before wrote last, and whoever writes a status must not take back which revision is active.
func (l *leader) read(ctx context.Context) error {
	described, err := l.fleet.store.DocumentStatuses(ctx)
	if err != nil {
		return err
	}
	reading, done := context.WithCancel(ctx)
	defer done()
	var statuses map[string]cluster.FlowStatus
	running := map[string]map[cluster.Key]int64{}
	err = l.fleet.store.FollowFlows(reading, func(flows []cluster.ActiveFlow) {
		statuses = make(map[string]cluster.FlowStatus, len(flows))
		for _, f := range flows {
			statuses[f.Status.Flow] = f.Status
			if f.Active != nil {
				running[f.Status.Flow] = revisionsOf(f.Active.Documents)
			}
		}
		done()
	})
	if statuses == nil {
		return err
	}
	l.statuses, l.running, l.described = statuses, running, described
	return nil
}

// pass brings every flow's status up to what the documents and the workers say now. After an error nobody knows what was
// written: the next pass reads it.
func (l *leader) pass(ctx context.Context) error {
	if l.statuses == nil {
		if err := l.read(ctx); err != nil {
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
		if l.wanted[name] == nil {
			l.fleet.want(ctx, name, nil)
			if err := l.leadership.DeleteStatus(ctx, name); err != nil {
				failed = append(failed, err)
				continue
			}
			delete(l.statuses, name)
			delete(l.running, name)
			delete(l.rejected, name)
			l.log.Info("flow deleted", "flow", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.wanted)) {
		if err := l.reconcile(ctx, name, l.wanted[name]); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// reconcile takes one flow a step nearer to what is wanted.
func (l *leader) reconcile(ctx context.Context, name string, c *candidate) error {
	now, known := l.statuses[name]
	if c.revision != nil && known && now.Wanted == c.number && now.Active == c.number {
		return nil
	}
	asked := c.revision
	if asked != nil && !asked.enabled {
		asked = nil
	}
	r, ok := l.fleet.want(ctx, name, asked)
	if !ok {
		return nil // shutting down
	}
	next := decide(name, c, r, now.Active)
	if next.Active == c.number && c.revision != nil {
		return l.activate(ctx, next, c)
	}
	return l.put(ctx, next)
}

// decide is the status that a candidate deserves, now that the workers are so far with it. It switches by making the
// candidate's revision the active one.
func decide(flow string, c *candidate, r rollout, active int64) cluster.FlowStatus {
	next := cluster.FlowStatus{Flow: flow, Wanted: c.number, Active: active, State: cluster.StateRejected, Reasons: c.reasons}
	switch {
	case c.revision == nil:
		return next
	case !c.revision.enabled:
		next.State, next.Active = cluster.StateDisabled, c.number
		return next
	}
	next.Of, next.Applied = len(r.capable), r.acks
	next.Workers = r.verdicts()
	switch {
	case len(r.capable) == 0 && len(r.unfit) > 0:
		next.Reasons = told(r.unfit)
	case len(r.capable) == 0:
		next.State, next.Reasons = cluster.StatePending, pendingReasons(r)
	case len(r.rejected) > 0:
		next.Reasons = told(r.rejected)
	case len(r.lagging) > 0:
		next.State, next.Reasons = cluster.StateApplying, []string{some(r.lagging) + " has not answered yet"}
	default:
		next.State, next.Active = cluster.StateActive, c.number
	}
	return next
}

// activate makes the candidate the flow's active revision.
func (l *leader) activate(ctx context.Context, s cluster.FlowStatus, c *candidate) error {
	s.Updated = time.Now().UTC()
	err := l.leadership.Activate(ctx, s, cluster.HistoryEntry{
		Flow: s.Flow, Revision: c.number, Documents: c.documents, Accepted: s.Updated,
		ShardKey: c.revision.shardKey, Enabled: c.revision.enabled,
	})
	if err != nil {
		return err
	}
	l.statuses[s.Flow], l.running[s.Flow] = s, revisionsOf(c.documents)
	l.fleet.want(ctx, s.Flow, nil)
	l.log.Info("flow activated", "flow", s.Flow, "revision", c.number, "state", s.State)
	return l.leadership.TrimHistory(ctx, s.Flow, cluster.HistoryKeep, cluster.HistoryAge)
}

// put writes a status that says something new, progress of a rollout not oftener than once in statusPause.
func (l *leader) put(ctx context.Context, s cluster.FlowStatus) error {
	old, known := l.statuses[s.Flow]
	s.Updated = old.Updated
	if known && reflect.DeepEqual(old, s) {
		return nil
	}
	now := time.Now().UTC()
	if known && old.State == s.State && s.State == cluster.StateApplying && now.Sub(old.Updated) < statusPause {
		l.lookAgain()
		return nil
	}
	s.Updated = now
	if err := l.leadership.PutStatus(ctx, s); err != nil {
		return err
	}
	l.statuses[s.Flow] = s
	if s.State == cluster.StateRejected && l.rejected[s.Flow] != s.Wanted {
		l.rejected[s.Flow] = s.Wanted
		l.fleet.rejections.WithLabelValues(s.Flow).Inc()
	}
	if s.State != cluster.StateApplying {
		l.log.Warn("a flow's documents ask for what does not run", "flow", s.Flow, "state", s.State, "wanted", s.Wanted, "active", s.Active, "reasons", s.Reasons)
	}
	return nil
}

func (l *leader) lookAgain() { l.again.Reset(statusPause) }
