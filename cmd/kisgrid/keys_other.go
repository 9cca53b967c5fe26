//go:build !unix

package main

import (
	"context"
	"time"
)

// keys stands for single keys of the terminal, which are not read on this system: Ctrl-C ends the command.
type keys struct{}

// openKeys leaves the terminal as it is.
func openKeys() (*keys, error) { return &keys{}, nil }

// close does nothing.
func (*keys) close() error { return nil }

// wait waits for a time. Its error is that of the context.
func (*keys) wait(ctx context.Context, d time.Duration) (end bool, err error) {
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case <-time.After(d):
		return false, nil
	}
}
