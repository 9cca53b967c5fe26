package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// How much history the leader keeps: TrimHistory's arguments.
const (
	HistoryKeep = 10
	HistoryAge  = 10 * time.Minute
)

// ErrNotLeader is in the chain of what a Leadership's methods return once the leadership is lost.
var ErrNotLeader = errors.New("this coordinator does not lead any more")

// Leadership is the right to decide revisions and to write status. Every write is conditional on the election, so a leader that
// has not noticed its end writes nothing either. Its methods may be called by several goroutines at the same time.
type Leadership struct {
	store *Store
	claim *claim
}

// Campaign blocks, through outages of etcd, until the coordinator with this id leads, under a lease of ttl as RegisterWorker's.
// Who began to campaign first leads first. It returns an error only when the context ends or the Store is closed.
func (s *Store) Campaign(ctx context.Context, id string, ttl time.Duration) (*Leadership, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(s.client.Ctx(), stop)()
	p := patience{outage: &s.outage}
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
		// If this fails, the lease runs out by itself.
		_ = claim.close(context.WithoutCancel(ctx))
	}
	return nil, s.explain(ctx, "campaigning", ctx.Err())
}

// awaitTurn blocks until no older campaign is left; false when the claim was lost or the context ended first. Keys and order
// are those of etcd's own recipe, concurrency.Election.
func (s *Store) awaitTurn(ctx context.Context, c *claim) (elected bool) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(c.held, stop)()
	// It only returns when there is nothing to wait for any more.
	_ = follow(ctx, s, s.keys.campaigns(), createRevision, func(_ int64, campaigns []int64) {
		// A list without this campaign means that it is lost, which its claim will see.
		if slices.Contains(campaigns, c.created) && slices.Min(campaigns) == c.created {
			elected = true
			stop()
		}
	})
	return elected
}

// Lost is closed when the leadership is lost, as a Registration's: another coordinator may lead from then on. Err says why.
// Resign then, and campaign again. Resigning does not close Lost.
func (l *Leadership) Lost() <-chan struct{} { return l.claim.held.Done() }

// Err is why the leadership was lost, nil before that.
func (l *Leadership) Err() error { return l.claim.lost() }

// Resign gives the leadership to the next in line at once. An error means that etcd did not answer: the next one then leads
// when the lease has run out. It is safe twice.
func (l *Leadership) Resign(ctx context.Context) error { return l.claim.close(ctx) }

// Activate switches a flow to a revision: it writes the status, and the history entry that the status names as active, in one
// transaction. Its error, like that of every method below, is CodeConflict with ErrNotLeader in its chain once the leadership is
// lost, and CodeBadDocument when it is too large for one transaction of etcd. After CodeUnavailable, CodeDeadline and
// CodeCancelled it may have been written all the same.
func (l *Leadership) Activate(ctx context.Context, status FlowStatus, entry HistoryEntry) error {
	return l.Decide(ctx, []Decision{{Status: status, Entry: &entry}})[0]
}

// Decision is what the leader says of a flow: a status, and, where that switches the flow to a revision, the entry of it.
type Decision struct {
	Status FlowStatus
	Entry  *HistoryEntry // nil: the status changes alone, as with PutStatus
}

// ownMost is how many operations of one transaction we use for ourselves: no more than any etcd takes, one at least.
func (s *Store) ownMost() int { return max(1, min(s.most, DefaultMaxOperations)) }

// decisionsAtOnce is how many decisions, each of two operations, go into one transaction, if they are not too large together.
func (s *Store) decisionsAtOnce() int { return max(1, s.ownMost()/4) }

// Decide writes decisions, many in one transaction, so that etcd writes to disk, and tells those who follow, once for all of
// them; what belongs to one is always in the same. It returns an error for each, as Activate's; nil: it was written.
func (l *Leadership) Decide(ctx context.Context, decisions []Decision) []error {
	errs := make([]error, len(decisions))
	var t *transaction
	var within []int // decisions of t
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

// decision is the transaction of a single one.
func (l *Leadership) decision(d Decision) (*transaction, error) {
	status, entry := d.Status, d.Entry
	if entry != nil && (status.Flow != entry.Flow || status.Active != entry.Revision || entry.Revision == 0) {
		return nil, batch.Errorf(batch.CodeInternal, "activate flow %q: the status says revision %d of flow %q, the history entry revision %d of flow %q",
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

// PutStatus writes a flow's status. Status.Active must be 0 or what Activate wrote last.
func (l *Leadership) PutStatus(ctx context.Context, status FlowStatus) error {
	return l.Decide(ctx, []Decision{{Status: status}})[0]
}

// DeleteStatus removes the status of a flow that has no document any more; its history stays. A flow without status is no
// error.
func (l *Leadership) DeleteStatus(ctx context.Context, flow string) error {
	t := l.store.transaction(fmt.Sprintf("removing the status of flow %q", flow))
	t.delete(l.store.keys.status(flow))
	return l.commit(ctx, t)
}

// TrimHistory removes the revisions of a flow that are not among its last keep, and stopped being the last one longer than age
// ago, by this process's clock. With keep 0 the last one goes too, when it was accepted longer than age ago.
func (l *Leadership) TrimHistory(ctx context.Context, flow string, keep int, age time.Duration) error {
	revisions, err := l.store.revisions(ctx, flow)
	if err != nil {
		return err
	}
	old, err := l.outdated(ctx, flow, revisions, keep, time.Now().Add(-age))
	if err != nil {
		return err
	}
	for some := range slices.Chunk(old, l.store.ownMost()) {
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

// outdated are the first of a flow's revisions, given oldest first, that are not among the last keep and stopped being the
// last one before a time. It reads no more entries than it must, since they are large.
func (l *Leadership) outdated(ctx context.Context, flow string, revisions []int64, keep int, before time.Time) ([]int64, error) {
	for i := range max(0, len(revisions)-keep) {
		successor, err := l.store.Revision(ctx, flow, revisions[min(i+1, len(revisions)-1)])
		if batch.CodeOf(err) == batch.CodeRevisionGone {
			continue // it can't be read: nothing speaks for keeping the one before
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

// commit does the transaction if this coordinator leads.
func (l *Leadership) commit(ctx context.Context, t *transaction) error {
	err := l.claim.commit(ctx, t)
	if lost := l.claim.lost(); lost != nil && errors.Is(err, lost) {
		return batch.Errorf(batch.CodeConflict, "%s: %w: leave it to the one who does", t.doing, ErrNotLeader)
	}
	return err
}
