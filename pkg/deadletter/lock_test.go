package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
)

func nothing(context.Context) error { return nil }

// TestLock lets one redrive a flow at a time.
func TestLock(t *testing.T) {
	onEach(t, func(t *testing.T, address string) {
		s, ctx := open(t, address, nil), t.Context()
		failure := errors.New("not this time")
		err := s.WithLock(ctx, "F", "me", func(ctx context.Context) error {
			if err := s.WithLock(ctx, "F", "you", nothing); batch.CodeOf(err) != batch.CodeConflict || !strings.Contains(err.Error(), "held by me") {
				t.Errorf("two redrive: %v", err)
			}
			if err := s.WithLock(ctx, "G", "you", nothing); err != nil {
				t.Error(err)
			}
			return failure
		})
		if !errors.Is(err, failure) {
			t.Errorf("got %v", err)
		}
		if err := s.WithLock(ctx, "F", "you", nothing); err != nil {
			t.Error(err)
		}
		leaving, leave := context.WithCancel(ctx)
		if err := s.WithLock(leaving, "F", "me", func(ctx context.Context) error {
			leave()
			return context.Cause(ctx)
		}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := s.WithLock(ctx, "F", "you", nothing); err != nil {
			t.Errorf("who left still holds the flow: %v", err)
		}
	})
}

// TestLockIsRenewed holds a flow for longer than a right lasts: the store's clock goes on by three of these.
func TestLockIsRenewed(t *testing.T) {
	server := miniredis.RunT(t)
	s := open(t, server.Addr(), nil)
	s.LockFor(3 * time.Second)
	if err := s.WithLock(t.Context(), "F", "me", func(ctx context.Context) error {
		for range 4 {
			server.FastForward(2500 * time.Millisecond)
			if err := s.WithLock(ctx, "F", "you", nothing); batch.CodeOf(err) != batch.CodeConflict {
				return fmt.Errorf("another may redrive too: %w", err)
			}
			testprocess.Until(t, "the right is renewed", func() error {
				if ttl := server.TTL(deadletter.DefaultPrefix + "{F}:redrive"); ctx.Err() == nil && ttl < 3*time.Second {
					return fmt.Errorf("it lasts %v more", ttl)
				}
				return nil
			})
		}
		return context.Cause(ctx)
	}); err != nil {
		t.Error(err)
	}
}

// TestLockIsLost cuts the holder of the lock off from Redis: its context ends before another process gets the lock.
func TestLockIsLost(t *testing.T) {
	address := realRedis(t)
	line := testprocess.StartLine(t, address)
	mine, yours := open(t, line.Address(), nil), open(t, address, nil)
	mine.LockFor(1500 * time.Millisecond)
	err := mine.WithLock(t.Context(), "F", "me", func(held context.Context) error {
		line.Stall()
		testprocess.Until(t, "another redrives the flow", func() error {
			return yours.WithLock(t.Context(), "F", "you", func(context.Context) error {
				if held.Err() == nil {
					t.Error("two have the right")
				}
				return nil
			})
		})
		<-held.Done()
		return held.Err()
	})
	if batch.CodeOf(err) != batch.CodeUnavailable || !strings.Contains(err.Error(), "did not renew it") {
		t.Errorf("got %v", err)
	}
}

// TestLockIsGivenTooLate does not begin where the store gave the right, but says so only when another has it.
func TestLockIsGivenTooLate(t *testing.T) {
	address := realRedis(t)
	line := testprocess.StartLine(t, address)
	mine, yours := open(t, line.Address(), nil), open(t, address, nil)
	mine.LockFor(2 * time.Second)
	if err := mine.WithLock(t.Context(), "F", "me", nothing); err != nil { // so that there is a connection
		t.Fatal(err)
	}
	heard := line.Deafen()
	ended := make(chan error, 1)
	go func() {
		ended <- mine.WithLock(t.Context(), "F", "me", func(context.Context) error {
			t.Error("two have the right")
			return nil
		})
	}()
	store := goredis.NewClient(&goredis.Options{Addr: address})
	defer store.Close()
	testprocess.Until(t, "the store gives the right", func() error {
		return store.Get(t.Context(), deadletter.DefaultPrefix+"{F}:redrive").Err()
	})
	testprocess.Until(t, "another redrives the flow", func() error {
		return yours.WithLock(t.Context(), "F", "you", func(context.Context) error {
			heard()
			if err := <-ended; batch.CodeOf(err) != batch.CodeUnavailable {
				t.Errorf("got %v", err)
			}
			return nil
		})
	})
}
