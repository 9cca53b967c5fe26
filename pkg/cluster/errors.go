package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// refusals are the answers of a living etcd that somebody must do something about.
var refusals = []struct {
	cause  error
	code   batch.Code
	remedy string
}{
	{rpctypes.ErrPermissionDenied, batch.CodeUnavailable, "grant the user's role read and write access to KisGrid's prefix (a worker's: to workers/ below it)"},
	{rpctypes.ErrAuthFailed, batch.CodeUnavailable, "check the user name and the password file"},
	{rpctypes.ErrUserEmpty, batch.CodeUnavailable, "etcd asks for a sign-in: give a user name and a password file"},
	{rpctypes.ErrNoSpace, batch.CodeUnavailable, "compact and defragment etcd or raise its quota, then disarm its alarm"},
	{rpctypes.ErrRequestTooLarge, batch.CodeBadDocument, "write less at once, or raise etcd's --max-request-bytes"},
	{rpctypes.ErrTooManyOps, batch.CodeBadDocument, "write less at once, or raise etcd's --max-txn-ops"},
}

// explain classifies the error of a call to etcd and says what to do about it. The context is the caller's, so that its
// end is told from that of the call's own time.
func (s *Store) explain(ctx context.Context, doing string, err error) error {
	if known := new(batch.Error); errors.As(err, &known) {
		return err
	}
	at := doing + " in etcd at " + s.endpoints
	switch {
	case s.client.Ctx().Err() != nil:
		return batch.Errorf(batch.CodeShutdown, "%s: this process closed its connection: %w", at, err)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return batch.Errorf(batch.CodeDeadline, "%s: the caller's time is over: %w", at, ctx.Err())
	case ctx.Err() != nil:
		return batch.Errorf(batch.CodeCancelled, "%s: the caller gave up: %w", at, ctx.Err())
	}
	for _, r := range refusals {
		if errors.Is(rpctypes.Error(err), r.cause) {
			return batch.Errorf(r.code, "%s: %w: %s", at, r.cause, r.remedy)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded {
		return batch.Errorf(batch.CodeUnavailable, "%s: no answer within %s: check that it runs, has a majority and can be reached from here", at, s.timeout)
	}
	reason := errors.New(status.Convert(err).Message()) // without gRPC's frame around it
	return batch.Errorf(batch.CodeUnavailable, "%s: %w: check that it runs, has a majority and can be reached from here", at, reason)
}

// outage tells the logger once that etcd is away, however many wait for it, and once that it is back.
type outage struct {
	logger hclog.Logger

	mu      sync.Mutex
	waiting int       // guarded by mu
	since   time.Time // guarded by mu
}

// begins counts one more who waits for etcd.
func (o *outage) begins(reason error) {
	o.mu.Lock()
	o.waiting++
	first := o.waiting == 1
	if first {
		o.since = time.Now()
	}
	o.mu.Unlock()
	if first {
		o.logger.Warn("etcd is away: going on with what is known, and trying again until it is back", "error", reason)
	}
}

// ends takes back one begins.
func (o *outage) ends() {
	o.mu.Lock()
	o.waiting--
	last, since := o.waiting == 0, o.since
	o.mu.Unlock()
	if last {
		o.logger.Info("etcd is back", "away", time.Since(since).Round(time.Millisecond))
	}
}

// skipped tells the logger of records that can't be read, once for each time they were written, however many read them.
type skipped struct {
	logger hclog.Logger

	mu   sync.Mutex
	told map[string]int64 // mod revisions by key; guarded by mu
}

// maxTold bounds what is remembered; beyond that, some is told again.
const maxTold = 1024

func (s *skipped) tell(kv *mvccpb.KeyValue, reason error) {
	key := string(kv.Key)
	s.mu.Lock()
	known := s.told[key] == kv.ModRevision
	if s.told == nil || len(s.told) >= maxTold {
		s.told = map[string]int64{}
	}
	s.told[key] = kv.ModRevision
	s.mu.Unlock()
	if !known {
		s.logger.Warn("skipping a record in etcd that can't be read", "key", key, "revision", kv.ModRevision, "error", reason)
	}
}

// patience is one loop's way of waiting for etcd: it tells of an outage once, and pauses longer and longer. It belongs to one
// goroutine.
type patience struct {
	outage *outage
	away   bool
	pause  time.Duration
}

// Pauses between tries of something that etcd did not do.
const (
	shortestPause = 50 * time.Millisecond
	longestPause  = 2 * time.Second
)

// failed pauses, or returns early when the context ends.
func (p *patience) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if !p.away {
		p.away = true
		p.outage.begins(err)
	}
	p.pause = min(max(2*p.pause, shortestPause), longestPause)
	timer := time.NewTimer(p.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// done says that etcd did it, or that nobody waits any more.
func (p *patience) done() {
	if p.away {
		p.away = false
		p.outage.ends()
	}
	p.pause = 0
}
