package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// HistoryKeep and HistoryAge are the arguments keep and age with which the leader calls TrimHistory: it keeps the last 10 revisions of each
// flow, and an older one for 10 minutes after it was replaced.
const (
	HistoryKeep = 10
	HistoryAge  = 10 * time.Minute
)

// ErrNotLeader is in the chain of the errors that the methods of a Leadership return once the leadership is lost.
var ErrNotLeader = errors.New("this coordinator does not lead any more")

// Leadership is the right to decide revisions and to write statuses. Every write has the condition that the election still stands, so a
// leader that has not noticed its end can't write either. It is safe for concurrent use. The states of a coordinator in the election:
//
//	            claim: a key under leader/, with a lease      no older campaign is left
//	Campaign ────────────────────────────────────► in line ─────────────────────────────► leader
//	   ▲                                              │                                     │
//	   │ the claim is lost, or etcd refused it        │              the claim is lost:     │
//	   └──────────────────────────────────────────────┘              Lost is closed         │
//	   ▲                                                                                    │
//	   └────────────────────── Resign, then Campaign again ─────────────────────────────────┘
type Leadership struct {
	store *Store
	claim *claim
}

// Campaign blocks, also while etcd is out of reach, until the coordinator with this id leads. Its lease has the length ttl, as that of
// RegisterWorker. Coordinators lead in the order in which they began to campaign. Campaign returns an error only when the context ends or
// the Store is closed.
func (s *Store) Campaign(ctx context.Context, id string, ttl time.Duration) (*Leadership, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(s.client.Ctx(), stop)()
	p := retry{outage: &s.outage}
	defer p.giveUp()
	for ctx.Err() == nil {
		claim, err := s.claim(ctx, s.keys.campaign, id, ttl, nil)
		if err != nil {
			p.failed(ctx, err)
			continue
		}
		p.succeeded()
		if s.awaitTurn(ctx, claim) {
			return &Leadership{store: s, claim: claim}, nil
		}
		pointNotElected.Hit()
		// If this fails, the lease runs out by itself.
		_ = claim.close(context.WithoutCancel(ctx))
	}
	return nil, s.explain(ctx, "campaigning", ctx.Err())
}

// awaitTurn blocks until there is no older campaign, and then returns true. It returns false when the claim is lost or the context ends
// first. Keys and order are those of the etcd project's own package for elections, concurrency.Election.
func (s *Store) awaitTurn(ctx context.Context, c *claim) (elected bool) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(c.held, stop)()
	// The error only says that the context has ended: because of the caller, the loss of the claim, or stop.
	_ = follow(ctx, s, s.keys.campaigns(), createRevision, func(_ int64, campaigns []int64) {
		// A list without this campaign means that it is lost. The claim notices that itself.
		if slices.Contains(campaigns, c.created) && slices.Min(campaigns) == c.created {
			elected = true
			stop()
		}
	})
	return elected
}

// Lost returns a channel that is closed when the leadership is lost: another coordinator may lead from then on. Err says why. Then resign,
// and campaign again. Resign does not close the channel.
func (l *Leadership) Lost() <-chan struct{} { return l.claim.held.Done() }

// Err returns why the leadership was lost, and nil before that.
func (l *Leadership) Err() error { return l.claim.lost() }

// Resign ends the leadership at once, so that the next coordinator in line leads. An error means that etcd did not answer: the next one
// then leads when the lease has run out. Resign may be called twice.
func (l *Leadership) Resign(ctx context.Context) error { return l.claim.close(ctx) }

// Activate switches a flow to a revision: it writes the status, and the history entry that the status names as active, in one transaction.
// Its error, like that of the other methods that write, has CodeConflict and ErrNotLeader in its chain once the leadership is lost, and
// CodeBadDocument if the write is too large for one transaction of etcd. After CodeUnavailable, CodeDeadline and CodeCancelled it may have
// been written all the same.
func (l *Leadership) Activate(ctx context.Context, status FlowStatus, entry HistoryEntry) error {
	return l.Decide(ctx, []Decision{{Status: status, Entry: &entry}})[0]
}

// Decision is a leader's decision about one flow: its new status, and, if that switches the flow to a revision, the history entry of the
// revision.
type Decision struct {
	Status FlowStatus
	Entry  *HistoryEntry // nil means that only the status changes, as with PutStatus
}

// decisionsAtOnce is the limit for decisions in one transaction. A decision has two operations at most, so the transaction is at most half
// full.
func (s *Store) decisionsAtOnce() int { return max(1, s.ownOps()/4) }

// Decide writes decisions, many of them in one transaction, so that etcd writes to its disk once for all of them, and notifies the watchers
// once. The writes of one decision are always in one transaction. Decide returns one error for each decision, as Activate would; nil means
// that it was written.
func (l *Leadership) Decide(ctx context.Context, decisions []Decision) []error {
	errs := make([]error, len(decisions))
	var t *transaction
	var within []int // indices of the decisions in t
	commit := func() {
		if t == nil {
			return
		}
		if len(within) > 1 {
			t.doing = fmt.Sprintf("writing the status of flow %q and %d more", decisions[within[0]].Status.Flow, len(within)-1)
		}
		err := l.commit(ctx, t)
		for _, i := range within {
			errs[i] = err
		}
		t, within = nil, nil
	}
	for i, d := range decisions {
		one, err := l.decision(d)
		if err != nil {
			errs[i] = err
			continue
		}
		if t != nil && (len(within) >= l.store.decisionsAtOnce() || t.bytes+one.bytes+requestOverhead > maxBytes/2) {
			commit()
		}
		if t == nil {
			t = one
		} else {
			t.then, t.bytes = append(t.then, one.then...), t.bytes+one.bytes
		}
		within = append(within, i)
	}
	commit()
	return errs
}

// decision makes the transaction that writes one decision: the flow's status, and the history entry if there is one. The error has
// CodeInternal if status and entry are not about the same revision.
func (l *Leadership) decision(d Decision) (*transaction, error) {
	status, entry := d.Status, d.Entry
	if entry != nil && (status.Flow != entry.Flow || status.Active != entry.Revision || entry.Revision == 0) {
		return nil, batch.Errorf(batch.CodeInternal, "activate flow %q: the status is for revision %d of flow %q, but the history entry is for revision %d of flow %q",
			entry.Flow, status.Active, status.Flow, entry.Revision, entry.Flow)
	}
	value, err := encodeStatus(status)
	if err != nil {
		return nil, err
	}
	t := l.store.transaction(fmt.Sprintf("writing the status of flow %q", status.Flow))
	t.put(l.store.keys.status(status.Flow), value)
	if entry != nil {
		if value, err = encodeEntry(*entry); err != nil {
			return nil, err
		}
		t.doing = fmt.Sprintf("activating revision %d of flow %q", entry.Revision, entry.Flow)
		t.put(l.store.keys.revision(entry.Flow, entry.Revision), value)
	}
	return t, nil
}

// PutStatus writes a flow's status. Status.Active must be 0, or the revision of the last Activate.
func (l *Leadership) PutStatus(ctx context.Context, status FlowStatus) error {
	return l.Decide(ctx, []Decision{{Status: status}})[0]
}

// DeleteStatus removes the status of a flow that has no document any more. The flow's history stays. A flow without a status is no error.
func (l *Leadership) DeleteStatus(ctx context.Context, flow string) error {
	t := l.store.transaction(fmt.Sprintf("removing the status of flow %q", flow))
	t.delete(l.store.keys.status(flow))
	return l.commit(ctx, t)
}

// TrimHistory removes old revisions of a flow: those that are not among its last keep revisions, and that were replaced by the next one
// longer than age ago, by this process's clock. It keeps revisions that a log of the flow names. With keep 0 it also removes the last one, if that was accepted longer than age ago.
func (l *Leadership) TrimHistory(ctx context.Context, flow string, keep int, age time.Duration) error {
	revisions, err := l.store.revisions(ctx, flow)
	if err != nil {
		return err
	}
	old, err := l.outdated(ctx, flow, revisions, keep, time.Now().Add(-age))
	if err != nil || len(old) == 0 {
		return err
	}
	// Rows of a log run on the log's revision for as long as positions are open.
	logs, err := l.store.Logs(ctx, flow)
	if err != nil {
		return err
	}
	named := func(revision int64) bool {
		return slices.ContainsFunc(logs, func(l Log) bool { return l.Revision == revision })
	}
	old = slices.DeleteFunc(slices.Clone(old), named)
	for some := range slices.Chunk(old, l.store.ownOps()) {
		t := l.store.transaction(fmt.Sprintf("trimming the history of flow %q", flow))
		for _, revision := range some {
			t.delete(l.store.keys.revision(flow, revision))
		}
		if err := l.commit(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// outdated returns the revisions that TrimHistory removes. revisions are all revisions of the flow, oldest first. A revision is removed
// only if the next one replaced it earlier than before. outdated reads as few entries as possible, because they are large.
func (l *Leadership) outdated(ctx context.Context, flow string, revisions []int64, keep int, before time.Time) ([]int64, error) {
	for i := range max(0, len(revisions)-keep) {
		successor, err := l.store.Revision(ctx, flow, revisions[min(i+1, len(revisions)-1)])
		if batch.CodeOf(err) == batch.CodeRevisionGone {
			continue // the successor can't be read, so there is no reason to keep the one before it
		}
		if err != nil {
			return nil, err
		}
		if !successor.Accepted.Before(before) {
			return revisions[:i], nil
		}
	}
	return revisions[:max(0, len(revisions)-keep)], nil
}

// commit commits a transaction on condition that this coordinator still leads. If it does not, nothing is written, and the error has
// CodeConflict and ErrNotLeader in its chain.
func (l *Leadership) commit(ctx context.Context, t *transaction) error {
	err := l.claim.commit(ctx, t)
	if lost := l.claim.lost(); lost != nil && errors.Is(err, lost) {
		pointNotLeader.Hit()
		return batch.Errorf(batch.CodeConflict, "%s: %w: the coordinator that leads now does it", t.doing, ErrNotLeader)
	}
	return err
}
