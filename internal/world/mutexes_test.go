package world_test

import (
	"sync"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/world"
)

// Virtual time moves on while a goroutine waits for a mutex whose holder waits for time.
func TestTimeMovesOnWhileSomebodyWaitsForAMutex(t *testing.T) {
	if err := world.CountMutexes(); err != nil {
		t.Skip(err)
	}
	bubble.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var rw sync.RWMutex
		mu.Lock()
		rw.Lock()
		done := make(chan struct{}, 3)
		for _, f := range []func(){mu.Lock, rw.RLock} {
			go func() {
				f()
				done <- struct{}{}
			}()
		}
		time.Sleep(time.Hour)
		rw.Unlock()
		mu.Unlock()
		<-done
		<-done
	})
}
