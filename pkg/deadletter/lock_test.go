package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
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

// TestLockIsLost ends what a holder does whose store does not answer any more, before another has the right.
func TestLockIsLost(t *testing.T) {
	address := startRedis(t)
	line := startLine(t, address)
	mine, yours := open(t, line.listener.Addr().String(), nil), open(t, address, nil)
	mine.LockFor(1500 * time.Millisecond)
	err := mine.WithLock(t.Context(), "F", "me", func(held context.Context) error {
		line.stall()
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
	if batch.CodeOf(err) != batch.CodeUnavailable || !strings.Contains(err.Error(), "could not be renewed") {
		t.Errorf("got %v", err)
	}
}

// TestLockIsGivenTooLate does not begin where the store gave the right, but says so only when another has it.
func TestLockIsGivenTooLate(t *testing.T) {
	address := startRedis(t)
	line := startLine(t, address)
	mine, yours := open(t, line.listener.Addr().String(), nil), open(t, address, nil)
	mine.LockFor(2 * time.Second)
	if err := mine.WithLock(t.Context(), "F", "me", nothing); err != nil { // so that there is a connection
		t.Fatal(err)
	}
	heard := line.deafen()
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

// line is the way to a store.
type line struct {
	listener net.Listener
	stalled  chan struct{} // closed: nothing goes either way any more
	stall    func()
	deaf     atomic.Pointer[context.Context] // no answer passes before it is done; nil: all do
	end      context.Context                 // done when the line ends
}

// deafen lets no answer pass until heard is called.
func (l *line) deafen() (heard func()) {
	ctx, heard := context.WithCancel(l.end)
	l.deaf.Store(&ctx)
	return heard
}

// startLine starts one, which ends with the test.
func startLine(t *testing.T, to string) *line {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{listener: listener, stalled: make(chan struct{})}
	l.stall = sync.OnceFunc(func() { close(l.stalled) })
	ctx, end := context.WithCancel(context.Background())
	l.end = ctx
	var open sync.WaitGroup
	open.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := new(net.Dialer).DialContext(ctx, "tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			context.AfterFunc(ctx, func() { _ = errors.Join(near.Close(), far.Close()) })
			open.Go(func() { l.carry(far, near, func() {}) })
			open.Go(func() {
				l.carry(near, far, func() {
					if deaf := l.deaf.Load(); deaf != nil {
						<-(*deaf).Done()
					}
				})
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		end()
		open.Wait()
	})
	return l
}

// carry copies until the line stalls or ends, each time when wait has returned.
func (l *line) carry(to io.Writer, from io.Reader, wait func()) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		select {
		case <-l.stalled:
			return
		default:
		}
		wait()
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}
