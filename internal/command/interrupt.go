package command

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// sameSignal is for how long after a first signal another one counts as the same: timeout(1) sends each signal twice, to the program and to
// its group.
const sameSignal = 300 * time.Millisecond

// Interruptible returns a context that ends at the first SIGINT or SIGTERM. A second signal then has its usual meaning: it ends the program
// at once. stop gives signals their usual meaning and ends the context.
func Interruptible(parent context.Context) (ctx context.Context, stop context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		defer signal.Stop(signals)
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		cancel()
		time.Sleep(sameSignal) // the goroutine has nothing else to do, and a program that ends does not wait for it
	}()
	return ctx, cancel
}
