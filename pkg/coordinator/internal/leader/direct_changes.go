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

// directChanges is what a leader knows of direct changes. The goroutine of Lead owns it.
type directChanges struct {
	// made says whether the change of documents at an etcd revision is a direct one. It has only revisions that the last pass asked about.
	made map[int64]bool
	kept map[string]bool          // flows that go on although their documents were deleted
	gone map[cluster.Key]deletion // documents that were deleted, for as long as it is not known who deleted them
	// noted are the revisions of documents that have an entry in the audit log, or need none. looked says that it has those of all documents
	// that the leader knows of.
	noted  map[int64]bool
	looked bool
}

// deletion is what is known of a document that is gone.
type deletion struct {
	after int64    // the last revision at which the document was seen
	flows []string // the flows that needed it
	seen  time.Time
}

// newDirectChanges makes directChanges that know of nothing.
func newDirectChanges() directChanges {
	return directChanges{made: map[int64]bool{}, kept: map[string]bool{}, gone: map[cluster.Key]deletion{}}
}

// deleted notes that the document with this key is gone. after is the last revision at which it was seen.
func (d *directChanges) deleted(key cluster.Key, after int64, flows ...string) {
	d.gone[key] = deletion{after, slices.Clone(flows), time.Now()}
}

// directDocuments returns the revisions of documents that flows ask for, that run in no flow, and that were written past all coordinators;
// made says so of each revision. It returns nil unless RefuseDirect is set. Documents that are older than the audit log are taken.
func (l *leader) directDocuments(ctx context.Context) (made map[int64]bool, err error) {
	if !l.RefuseDirect {
		return nil, nil
	}
	made = map[int64]bool{}
	var ask []int64
	running := sync.OnceValue(l.runningDigests)
	for name, c := range l.desired.Flows {
		runs := l.running[name]
		if runs.revision == c.ID() {
			continue
		}
		for _, d := range c.Documents {
			if _, asked := made[d.Revision]; asked || runs.documents[flowstate.KeyOf(d)] == d.Revision || running()[definition.Digest([]definition.Document{d})] {
				continue
			}
			direct, known := l.direct.made[d.Revision]
			made[d.Revision] = direct
			if !known {
				ask = append(ask, d.Revision)
			}
		}
	}
	// Coordinators write or announce the entry of a change no later than the change, so the answer is final.
	authors, err := l.Store.Authors(ctx, ask...)
	if err != nil {
		return nil, err
	}
	for _, revision := range ask {
		made[revision] = authors[revision] == cluster.UnknownAuthor
	}
	l.direct.made = made
	return made, nil
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

// refused returns the candidate as it may be rolled out: without a revision, so that it is rejected, if direct says of the revision of one of
// its documents that this was a direct change. flow is the candidate's flow. Other reasons to reject it come first.
func (c *Candidate) refused(flow string, direct map[int64]bool) *Candidate {
	if c.Revision == nil || len(direct) == 0 {
		return c
	}
	var reasons []string
	for _, d := range c.Documents {
		if direct[d.Revision] {
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
	after := map[cluster.Key]int64{}
	for name, s := range l.statuses {
		if l.desired.Flows[name] != nil || l.running[name].revision.Number == 0 {
			continue
		}
		if l.direct.kept[name] {
			kept[name] = true
			continue
		}
		after[cluster.Key{Kind: definition.KindFlow, Name: name}] = s.Wanted
	}
	direct, err := l.directDeletions(ctx, after)
	if err != nil {
		return nil, err
	}
	for _, key := range direct {
		kept[key.Name] = true
	}
	l.direct.kept = kept
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

// noteWrites writes an entry of the audit log about each change of documents that was made past all coordinators. If somebody has changed such a
// document again since, the change before is not seen.
func (l *leader) noteWrites(ctx context.Context) error {
	if l.direct.looked {
		return nil
	}
	noted := map[int64]bool{}
	written := map[int64][]definition.Document{}
	var ask []int64
	for _, d := range l.stored {
		if noted[d.Revision] = l.direct.noted[d.Revision]; noted[d.Revision] {
			continue
		}
		if len(written[d.Revision]) == 0 {
			ask = append(ask, d.Revision)
		}
		written[d.Revision] = append(written[d.Revision], d)
	}
	direct, err := l.Store.Unnoted(ctx, ask...)
	if err != nil {
		return err
	}
	var entries []cluster.AuditEntry
	for _, revision := range slices.Sorted(slices.Values(direct)) {
		e := cluster.AuditEntry{At: time.Now().UTC(), Author: cluster.UnknownAuthor, Action: "write into etcd", Coordinator: l.ID, Revision: revision}
		for _, d := range written[revision] {
			e.Documents = append(e.Documents, flowstate.KeyOf(d).String())
			e.Flows = append(e.Flows, l.desired.FlowsOf(d)...)
		}
		slices.Sort(e.Documents)
		slices.Sort(e.Flows)
		e.Flows = slices.Compact(e.Flows)
		entries = append(entries, e)
		l.Log.Warn("documents were written into etcd, and not through a coordinator", "revision", revision, "documents", e.Documents, "flows", e.Flows)
	}
	if err := l.putAudit(ctx, entries); err != nil {
		return err
	}
	for _, revision := range ask {
		noted[revision] = true
	}
	l.direct.noted, l.direct.looked = noted, true
	return nil
}

// putAudit writes entries of the audit log.
func (l *leader) putAudit(ctx context.Context, entries []cluster.AuditEntry) error {
	for some := range slices.Chunk(entries, cluster.AuditBatch) {
		if err := l.Store.PutAudit(ctx, some...); err != nil {
			return err
		}
	}
	return nil
}

// noteDeletions writes an entry of the audit log about documents that were deleted past all coordinators.
func (l *leader) noteDeletions(ctx context.Context) error {
	after := map[cluster.Key]int64{}
	for key, d := range l.direct.gone {
		after[key] = d.after
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
	if err := l.putAudit(ctx, entries); err != nil {
		return err
	}
	clear(l.direct.gone)
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
				return e.Deletes(key) && (e.Revision > revision || e.Announced != nil)
			})
			if !known && !yield(key) {
				return
			}
		}
	}, func(a, b cluster.Key) int { return strings.Compare(a.String(), b.String()) }), nil
}
