//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// keys reads single keys from the terminal. It belongs to one goroutine.
type keys struct{ before *term.State }

// openKeys makes the terminal give each key at once, without showing it. close must follow.
func openKeys() (*keys, error) {
	before, err := term.MakeRaw(int(os.Stdin.Fd()))
	if err != nil {
		return nil, err
	}
	return &keys{before}, nil
}

// close makes the terminal as it was.
func (k *keys) close() error { return term.Restore(int(os.Stdin.Fd()), k.before) }

// keyTick is how soon wait sees that its context is over.
const keyTick = 100 * time.Millisecond

// wait waits for a time. It returns true early if q or Ctrl-C is pressed, or the terminal is gone; Ctrl-C is a key here, and no signal. Its error
// is that of the context, or of the terminal.
func (k *keys) wait(ctx context.Context, d time.Duration) (end bool, err error) {
	for until := time.Now().Add(d); ; {
		left := min(time.Until(until), keyTick)
		if ctx.Err() != nil {
			return true, ctx.Err()
		}
		if left <= 0 {
			return false, nil
		}
		fds := []unix.PollFd{{Fd: int32(os.Stdin.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if errors.Is(err, unix.EINTR) || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return true, err
		}
		pressed := make([]byte, 16)
		n, err = os.Stdin.Read(pressed)
		if n == 0 || err != nil {
			return true, err
		}
		for _, key := range pressed[:n] {
			if key == 'q' || key == 'Q' || key == 3 {
				return true, nil
			}
		}
	}
}
