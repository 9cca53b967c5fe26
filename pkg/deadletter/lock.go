package deadletter

import (
	"cmp"
	"context"
	"errors"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/redisreply"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// lockFor is how long the lock of a flow's letters lasts in Redis after its holder last renewed it, for example when the holder was killed.
const lockFor = 5 * time.Second

// WithLock calls f while this process holds the lock of a flow's letters, which redrives and edits need. Nobody else has the lock
// meanwhile: the context of f ends with ctx, and also when Redis could not be asked in time to renew the lock, a little before another
// process can take it. who names the holder in errors of others; two calls must not use the same name. WithLock returns when f has
// returned. The error has CodeConflict if somebody else holds the lock, CodeUnavailable if the lock was lost; else it is that of f.
func (s *Store) WithLock(ctx context.Context, flow, who string, f func(context.Context) error) (err error) {
	ends := s.lockEnds()
	bounded, cancel := context.WithDeadline(ctx, ends) // an answer that comes later may be about a lock that has run out by then
	err = s.acquire(bounded, flow, who)
	cancel()
	if err != nil {
		return err
	}
	held, lose := context.WithCancelCause(ctx)
	renewing := make(chan struct{})
	go func() {
		defer close(renewing)
		s.renew(held, lose, flow, who, ends)
	}()
	defer func() {
		if lost := context.Cause(held); err != nil && lost != nil && ctx.Err() == nil {
			err = lost
		}
		lose(context.Canceled)
		<-renewing
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Timeout)
		defer cancel()
		err = cmp.Or(err, s.operatorCall(leaving, "end the redrive of flow "+flow, func(ctx context.Context) error {
			return s.runScript(ctx, lockScript, []string{s.key(flow, "redrive")}, who, 0).Err()
		}))
	}()
	return f(held)
}

// lockEnds returns the time until which the holder of a lock may count on it, if it asks Redis for the lock or renews it now. In Redis the
// lock lasts a little longer, so that the holder has stopped when another process can take the lock.
func (s *Store) lockEnds() time.Time { return time.Now().Add(s.lockFor - s.lockFor/5) }

// renew renews the lock of a flow's letters until the context held ends. If Redis has not renewed it until ends, renew calls lose, which
// ends that context with an error.
func (s *Store) renew(held context.Context, lose context.CancelCauseFunc, flow, who string, ends time.Time) {
	var failure error
	for {
		pause := time.NewTimer(min(s.lockFor/3, time.Until(ends)))
		select {
		case <-held.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		if !time.Now().Before(ends) {
			pointLockRunOut.Hit()
			lose(batch.Errorf(batch.CodeUnavailable, "the lock of the dead letters of flow %s was lost, because Redis did not renew it within %v: try again: %w", flow, s.lockFor,
				cmp.Or(failure, context.DeadlineExceeded)))
			return
		}
		next := s.lockEnds()
		bounded, cancel := context.WithDeadline(context.WithoutCancel(held), ends) // not bounded by held: a request that is cut off could still arrive, and renew a lock that was released
		failure = s.acquire(bounded, flow, who)
		cancel()
		switch batch.CodeOf(failure) {
		case 0:
			ends = next
		case batch.CodeConflict: // Redis has lost the lock, or somebody took it by hand
			lose(failure)
			return
		}
	}
}

// acquire takes the lock of a flow's letters for the holder named who, or renews it if that holder has it already. The error has
// CodeConflict if somebody else holds it.
func (s *Store) acquire(ctx context.Context, flow, who string) error {
	return s.operatorCall(ctx, "redrive flow "+flow, func(ctx context.Context) error {
		ours, err := s.runScript(ctx, lockScript, []string{s.key(flow, "redrive")}, who, max(1, s.lockFor.Milliseconds())).Int()
		if err == nil && ours == 0 {
			err = cmp.Or(s.lockedBy(ctx, flow), error(batch.Errorf(batch.CodeConflict, "somebody else held the lock of the dead letters of flow %s until now: try again", flow)))
		}
		return err
	})
}

// lockedBy returns an error with CodeConflict that names the holder of the lock of a flow's letters, or nil if nobody holds it. If Redis
// does not answer, it returns the error of that.
func (s *Store) lockedBy(ctx context.Context, flow string) error {
	holder := goredis.NewStringCmd(ctx, "get", s.key(flow, "redrive"))
	err := s.send(ctx, holder)
	switch {
	case redisreply.IsAnswer(err) && errors.Is(err, goredis.Nil):
		return nil
	case err != nil:
		return err
	}
	pointLockTaken.Hit()
	who := holder.Val()
	return batch.Errorf(batch.CodeConflict, "the dead letters of flow %s are held by %s, which redrives or edits them, or was killed seconds ago: try again when that has ended", flow, who)
}
