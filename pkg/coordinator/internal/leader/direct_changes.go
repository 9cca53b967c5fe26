package leader

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// A direct change is one that somebody made in etcd past all coordinators, for example with etcdctl, so that the audit log has no entry about
// it. This is a guard against mistakes: whoever may write into etcd can write such an entry, too.

// directPatience is how long a change may be without its entry in the audit log. Coordinators write both in one transaction, except for
// changes that fill a transaction: then the entry comes in the next one.
const directPatience = 5 * time.Second

// directChanges is what a leader knows of direct changes. The goroutine of Lead owns it.
type directChanges struct {
	// known has the revisions of documents that coordinators wrote, unknown those that have no entry in the audit log, and when that was seen
	// first. Both have only revisions that the last pass asked about.
	known   map[int64]bool
	unknown map[int64]time.Time
	// kept are flows that go on although their documents were deleted, and when that was seen first.
	kept map[string]time.Time
	// gone are documents that were deleted, for as long as it is not known who deleted them.
	gone map[cluster.Key]deletion
}

// deletion is what is known of a document that is gone.
type deletion struct {
	after int64    // the last revision at which the document was seen
	flows []string // the flows that needed it
	seen  time.Time
}

// newDirectChanges makes directChanges that know of nothing.
func newDirectChanges() directChanges {
	return directChanges{known: map[int64]bool{}, unknown: map[int64]time.Time{}, kept: map[string]time.Time{}, gone: map[cluster.Key]deletion{}}
}

// deleted notes that the document with this key is gone. after is the last revision at which it was seen.
func (d *directChanges) deleted(key cluster.Key, after int64, flows ...string) {
	d.gone[key] = deletion{after, slices.Clone(flows), time.Now()}
}

// directDocuments returns the revisions of documents that flows ask for, that run in no flow, and that were written past all coordinators. It
// returns nil unless RefuseDirect is set.
func (l *leader) directDocuments(ctx context.Context) (unknown map[int64]bool, err error) {
	if !l.RefuseDirect {
		return nil, nil
	}
	unknown = map[int64]bool{}
	known, since := map[int64]bool{}, map[int64]time.Time{}
	asked := map[int64]bool{}
	var ask []int64
	running := sync.OnceValue(l.runningDigests)
	for name, c := range l.desired.Flows {
		runs := l.running[name]
		if runs.revision == c.ID() {
			continue
		}
		for _, d := range c.Documents {
			if asked[d.Revision] || runs.documents[flowstate.KeyOf(d)] == d.Revision || running()[definition.Digest([]definition.Document{d})] {
				continue
			}
			asked[d.Revision] = true
			first, there := l.direct.unknown[d.Revision]
			switch {
			case l.direct.known[d.Revision]:
				known[d.Revision] = true
			case there && time.Since(first) >= directPatience:
				unknown[d.Revision], since[d.Revision] = true, first
			default:
				ask = append(ask, d.Revision)
			}
		}
	}
	authors, err := l.Store.Authors(ctx, ask...)
	if err != nil {
		return nil, err
	}
	for _, revision := range ask {
		if author := authors[revision]; author != "" && author != cluster.UnknownAuthor {
			known[revision] = true
			continue
		}
		// A change that is older than the log is refused, too. Otherwise a direct change would be accepted once the log is trimmed.
		unknown[revision], since[revision] = true, time.Now()
		if first, there := l.direct.unknown[revision]; there {
			since[revision] = first
		}
		l.passAgainSoon()
	}
	l.direct.known, l.direct.unknown = known, since
	return unknown, nil
}

// runningDigests returns the digests of all documents that run in some flow.
func (l *leader) runningDigests() DocumentSet {
	all := DocumentSet{}
	for _, runs := range l.running {
		for _, digest := range runs.digests {
			all[digest] = true
		}
	}
	return all
}

// refused returns the candidate as it may be rolled out: without a revision, so that it is rejected, if one of its documents has a revision in
// unknown. flow is the candidate's flow. Other reasons to reject it come first.
func (c *Candidate) refused(flow string, unknown map[int64]bool) *Candidate {
	if c.Revision == nil || len(unknown) == 0 {
		return c
	}
	var reasons []string
	for _, d := range c.Documents {
		if unknown[d.Revision] {
			reasons = append(reasons, fmt.Sprintf("%s was written into etcd at revision %d, and not through a coordinator, which is refused here: kisgrid apply writes the document that is wanted, this one or the one before (kisgrid rollout history %s)",
				flowstate.KeyOf(d), d.Revision, flow))
		}
	}
	if len(reasons) == 0 {
		return c
	}
	pointDirect.Hit()
	refused := *c
	refused.Revision, refused.Reasons = nil, reasons
	return &refused
}

// keepDeleted returns the flows whose documents were deleted past all coordinators, and which go on nevertheless. It writes their statuses. It
// returns nil unless RefuseDirect is set.
func (l *leader) keepDeleted(ctx context.Context) (kept map[string]bool, err error) {
	if !l.RefuseDirect {
		return nil, nil
	}
	kept = map[string]bool{}
	after, since := map[cluster.Key]int64{}, map[string]time.Time{}
	for name, s := range l.statuses {
		if l.desired.Flows[name] != nil || l.running[name].revision.Number == 0 {
			continue
		}
		if first, there := l.direct.kept[name]; there && time.Since(first) >= directPatience {
			kept[name], since[name] = true, first
			continue
		}
		after[cluster.Key{Kind: definition.KindFlow, Name: name}] = s.Wanted
	}
	direct, err := l.directDeletions(ctx, after)
	if err != nil {
		return nil, err
	}
	for _, key := range direct {
		kept[key.Name], since[key.Name] = true, time.Now()
		if first, there := l.direct.kept[key.Name]; there {
			since[key.Name] = first
		}
		l.passAgainSoon() // the entry of the audit log may come after the deletion
	}
	l.direct.kept = since
	var decisions []cluster.Decision
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		key := cluster.Key{Kind: definition.KindFlow, Name: name}
		s := l.statuses[name]
		s.State, s.Workers, s.Of, s.Applied = cluster.StateRejected, nil, 0, 0
		s.Reasons = []string{fmt.Sprintf("%s was deleted in etcd, and not through a coordinator, which is refused here: kisgrid apply writes it again (kisgrid rollout history %s has it); after that kisgrid delete flow %s deletes the flow", key, key.Name, key.Name)}
		if !l.isWorthWriting(&s) {
			continue
		}
		s.Updated = time.Now().UTC()
		decisions = append(decisions, cluster.Decision{Status: s})
	}
	for i, err := range l.Leadership.Decide(ctx, decisions) {
		if err != nil {
			return nil, err
		}
		l.noteWritten(decisions[i].Status)
	}
	return kept, nil
}

// noteDeletions writes an entry of the audit log about documents that were deleted past all coordinators. It does so once the log has had
// directPatience for the entries of coordinators.
func (l *leader) noteDeletions(ctx context.Context) error {
	after := map[cluster.Key]int64{}
	for key, d := range l.direct.gone {
		if time.Since(d.seen) >= directPatience {
			after[key] = d.after
		}
	}
	if len(after) < len(l.direct.gone) {
		l.passAgainSoon()
	}
	direct, err := l.directDeletions(ctx, after)
	if err != nil {
		return err
	}
	var entries []cluster.AuditEntry
	for _, key := range direct {
		d := l.direct.gone[key]
		entries = append(entries, cluster.AuditEntry{
			At: d.seen.UTC(), Author: cluster.UnknownAuthor, Action: "delete in etcd", Flows: d.flows, Documents: []string{key.String()}, Coordinator: l.ID,
		})
		l.Log.Warn("a document was deleted in etcd, and not through a coordinator", "document", key, "flows", d.flows)
	}
	for some := range slices.Chunk(entries, cluster.AuditBatch) {
		if err := l.Store.PutAudit(ctx, some...); err != nil {
			return err
		}
	}
	for key := range after {
		delete(l.direct.gone, key)
	}
	return nil
}

// directDeletions returns those of the deleted documents that no coordinator has deleted, in order. after has the revision at which each was
// seen last: the audit log has an entry about the deletion after that.
func (l *leader) directDeletions(ctx context.Context, after map[cluster.Key]int64) ([]cluster.Key, error) {
	if len(after) == 0 {
		return nil, nil
	}
	entries, err := l.Store.Audit(ctx, slices.Min(slices.Collect(maps.Values(after)))+1)
	if err != nil {
		return nil, err
	}
	return slices.SortedFunc(func(yield func(cluster.Key) bool) {
		for key, revision := range after {
			known := slices.ContainsFunc(entries, func(e cluster.AuditEntry) bool {
				return e.Action == cluster.AuditDelete && e.Revision > revision && e.Names(key)
			})
			if !known && !yield(key) {
				return
			}
		}
	}, func(a, b cluster.Key) int { return strings.Compare(a.String(), b.String()) }), nil
}
