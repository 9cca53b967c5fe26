package cluster

import (
	"context"
	"errors"
	"io"
	"math"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// claim is a key in etcd under a lease of its own. A Registration and a campaign for the leadership each consist of one. Its states:
//
//	          key put                 the key is gone, or the lease was not renewed in time
//	s.claim ──────────► held, renewed ──────────────────────────────────────────────────────► lost
//	   │                     │                                                                 │
//	   │ key is taken        │ close                                                           │ resume, if etcd has the lease
//	   ▼                     ▼                                                                 ▼
//	CodeConflict           closed: the lease is revoked, the key is gone            another claim, held
//
// held (the context) ends when the claim is lost, with the reason as its cause. close does not end it.
type claim struct {
	store   *Store
	key     string
	created int64 // the create revision of the key: a key that somebody put again is not this claim
	lease   clientv3.LeaseID
	ttl     time.Duration // of the lease, as etcd granted it

	// held ends when the claim is lost; lose ends it, with the reason.
	held context.Context
	lose context.CancelCauseFunc

	stop     context.CancelFunc // ends the watchers
	watchers sync.WaitGroup     // they renew the lease and watch the key; close and resume wait for them

	closing sync.Once
	closed  error // the result of close; written within closing
}

// claim takes a lease, puts a key under it that must not exist yet, and keeps both until close. key makes the key from the lease. also,
// unless it is nil, adds conditions and writes to the transaction that puts the key. The error has CodeConflict if the key exists, or a
// condition of also does not hold.
func (s *Store) claim(
	ctx context.Context, key func(clientv3.LeaseID) string, value string, ttl time.Duration, also func(*transaction),
) (*claim, error) {
	if ttl <= 0 {
		ttl = DefaultTTL
	}
	lease, err := s.grant(ctx, ttl)
	if err != nil {
		return nil, err
	}
	c := &claim{store: s, key: key(lease.ID), lease: lease.ID, ttl: time.Duration(lease.TTL) * time.Second}
	t := s.transaction("writing " + c.key)
	t.requireCreated(c.key, 0)
	t.put(c.key, value, clientv3.WithLease(c.lease))
	if also != nil {
		also(t)
	}
	answer, err := t.commit(ctx)
	if err == nil && !answer.Succeeded {
		err = batch.Errorf(batch.CodeConflict, "writing %s in etcd at %s: the key exists already: make another id", c.key, s.endpoints)
	}
	if err != nil {
		// An error is ignored: the lease runs out by itself, since it is not renewed.
		_ = s.revoke(context.WithoutCancel(ctx), c.lease)
		return nil, err
	}
	c.created = answer.Header.Revision
	c.watch()
	return c, nil
}

// grant takes a lease of at least ttl from etcd.
func (s *Store) grant(ctx context.Context, ttl time.Duration) (*clientv3.LeaseGrantResponse, error) {
	call, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	lease, err := s.client.Grant(call, int64(math.Ceil(ttl.Seconds())))
	if err != nil {
		return nil, s.explain(ctx, "taking a lease", err)
	}
	return lease, nil
}

// revoke gives a lease back, and removes the keys under it. A lease that is gone already is no error.
func (s *Store) revoke(ctx context.Context, lease clientv3.LeaseID) error {
	call, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := s.client.Revoke(call, lease)
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return s.explain(ctx, "giving back a lease", err)
	}
	return nil
}

// watch starts two goroutines, which close and resume end: one renews the lease, one watches the key. The claim is lost when the lease
// was not renewed in time, or the key is gone.
func (c *claim) watch() {
	c.held, c.lose = context.WithCancelCause(context.Background())
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.watchers.Go(func() { c.renew(ctx) })
	c.watchers.Go(func() {
		err := follow(ctx, c.store, keyRange{from: c.key}, createRevision, func(_ int64, created []int64) {
			if len(created) == 0 || created[0] != c.created {
				pointClaimGone.Hit()
				c.lose(c.gone())
			}
		})
		if ctx.Err() == nil { // the Store was closed
			c.lose(err)
		}
	})
}

// renew renews the lease until ctx ends. It loses the claim when etcd has not answered for as long as the lease lasts.
func (c *claim) renew(ctx context.Context) {
	renewed, err := c.store.client.KeepAlive(ctx, c.lease)
	if err != nil {
		c.lose(c.store.explain(ctx, "keeping "+c.key, err))
		return
	}
	expiry := time.NewTimer(c.ttl)
	defer expiry.Stop()
	for {
		select {
		case _, alive := <-renewed:
			if !alive {
				// Either etcd says that the lease is gone: then so is the key, which the other watcher sees. Or the etcd client
				// has given up: then the timer decides.
				renewed = nil
				continue
			}
			c.store.calls.hear()
			expiry.Reset(c.ttl)
		case <-expiry.C:
			pointNotRenewed.Hit()
			c.lose(batch.Errorf(batch.CodeUnavailable, "keeping the record %s in etcd at %s: its lease of %s was not renewed in time: start again under a new id",
				c.key, c.store.endpoints, c.ttl))
			return
		case <-ctx.Done():
			return
		}
	}
}

// resume makes another claim of the same key and lease, after this one was lost because etcd did not answer in time. The error has
// CodeNotFound if etcd does not have the lease any more.
func (c *claim) resume(ctx context.Context) (*claim, error) {
	c.stop()
	c.watchers.Wait()
	call, cancel := context.WithTimeout(ctx, c.store.timeout)
	defer cancel()
	switch err := c.store.renewOnce(call, c.lease); {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return nil, c.gone()
	case err != nil:
		return nil, c.store.explain(ctx, "keeping "+c.key, err)
	}
	pointClaimResumed.Hit()
	again := &claim{store: c.store, key: c.key, created: c.created, lease: c.lease, ttl: c.ttl}
	again.watch() // which also sees whether the key still stands
	return again, nil
}

// renewOnce renews a lease, with one try. The error is rpctypes.ErrLeaseNotFound if etcd does not have the lease any more. The method of
// etcd's client for that, KeepAliveOnce, tries again at once after each failure, without a pause, and so keeps a processor busy for as long
// as etcd can't be reached.
func (s *Store) renewOnce(ctx context.Context, lease clientv3.LeaseID) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := etcdserverpb.NewLeaseClient(s.client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return rpctypes.Error(err)
	}
	if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(lease)}); err != nil && !errors.Is(err, io.EOF) {
		return rpctypes.Error(err) // io.EOF means that the stream has ended, and Recv tells why
	}
	answer, err := stream.Recv()
	if err == nil && answer.GetTTL() <= 0 {
		err = rpctypes.ErrLeaseNotFound
	}
	return rpctypes.Error(err)
}

// createRevision returns the create revision of a key. It is the argument decode of follow where only create revisions are needed, and
// no values.
func createRevision(kv *mvccpb.KeyValue) (int64, error) { return kv.CreateRevision, nil }

// gone is the error, with CodeNotFound, of a claim whose key has disappeared from etcd.
func (c *claim) gone() error {
	return batch.Errorf(batch.CodeNotFound, "keeping the record %s in etcd at %s: it is gone, because its lease ran out or somebody removed it: start again under a new id",
		c.key, c.store.endpoints)
}

// lost returns why the claim was lost, and nil before that.
func (c *claim) lost() error { return context.Cause(c.held) }

// commit commits a transaction on condition that the claim's key is still this process's. If it is not, the claim is lost, nothing is
// written, and commit returns the reason why the claim is lost.
func (c *claim) commit(ctx context.Context, t *transaction) error {
	if err := c.lost(); err != nil {
		return err
	}
	t.requireCreated(c.key, c.created)
	answer, err := t.commit(ctx)
	if err != nil {
		return err
	}
	if !answer.Succeeded {
		pointLostAtWrite.Hit()
		c.lose(c.gone())
		return c.lost()
	}
	return nil
}

// close gives the lease back, and removes the key with it. It may be called twice: the second call returns the error of the first.
func (c *claim) close(ctx context.Context) error {
	c.closing.Do(func() {
		c.stop()
		c.watchers.Wait()
		c.closed = c.store.revoke(ctx, c.lease)
	})
	return c.closed
}
