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

// lockFor is for how long a flow stays its holder's own when that is killed.
const lockFor = 5 * time.Second

// WithLock calls f with the right to redrive a flow or to edit its letters, which nobody else has meanwhile. f's context ends before
// another may have the right: with ctx, or when the store could not be asked in time to renew it. who names the holder to
// others; two calls must not share a name. WithLock returns when f has. The error is CodeConflict where somebody else has the
// right, CodeUnavailable where it was lost, else f's.
func (s *Store) WithLock(ctx context.Context, flow, who string, f func(context.Context) error) (err error) {
	ends := s.lockEnds()
	bounded, cancel := context.WithDeadline(ctx, ends) // an answer that comes later may tell of a right that is another's by then
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
		err = cmp.Or(err, s.call(leaving, "end the redrive of flow "+flow, func(ctx context.Context) error {
			return s.run(ctx, lockScript, []string{s.key(flow, "redrive")}, who, 0).Err()
		}))
	}()
	return f(held)
}

// lockEnds is until when a right is its holder's that the store is asked for now: a little less than for the store, so that what
// the holder is doing is over by then.
func (s *Store) lockEnds() time.Time { return time.Now().Add(s.lockFor - s.lockFor/5) }

// renew keeps the right until held ends, and loses it at ends unless the store has renewed it by then.
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
			lose(batch.Errorf(batch.CodeUnavailable, "the right to redrive flow %s could not be renewed within %v: try again: %w", flow, s.lockFor,
				cmp.Or(failure, context.DeadlineExceeded)))
			return
		}
		next := s.lockEnds()
		bounded, cancel := context.WithDeadline(context.WithoutCancel(held), ends) // cut off, it might renew what was given back
		failure = s.acquire(bounded, flow, who)
		cancel()
		switch batch.CodeOf(failure) {
		case 0:
			ends = next
		case batch.CodeConflict: // the store had forgotten it, or it was taken with another program
			lose(failure)
			return
		}
	}
}

// acquire takes the right, or keeps it. The error is CodeConflict where somebody else has it.
func (s *Store) acquire(ctx context.Context, flow, who string) error {
	return s.call(ctx, "redrive flow "+flow, func(ctx context.Context) error {
		ours, err := s.run(ctx, lockScript, []string{s.key(flow, "redrive")}, who, max(1, s.lockFor.Milliseconds())).Int()
		if err == nil && ours == 0 {
			err = cmp.Or(s.lockedBy(ctx, flow), error(batch.Errorf(batch.CodeConflict, "somebody else redrove flow %s until now: try again", flow)))
		}
		return err
	})
}

// lockedBy is CodeConflict where somebody holds the flow.
func (s *Store) lockedBy(ctx context.Context, flow string) error {
	holder := goredis.NewStringCmd(ctx, "get", s.key(flow, "redrive"))
	err := s.ask(ctx, holder)
	switch {
	case redisreply.IsAnswer(err) && errors.Is(err, goredis.Nil):
		return nil
	case err != nil:
		return err
	}
	who := holder.Val()
	return batch.Errorf(batch.CodeConflict, "the dead letters of flow %s are held by %s, which runs or edits them, or was cut off seconds ago: try again when it has ended", flow, who)
}
