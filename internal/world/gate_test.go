package world

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/world/history"
)

// TestPoisonReturnsWhenTheProcessIsDead shows that a function that kills its process does not return before that, although blocked functions
// go on: its answer would reach the coordinator.
func TestPoisonReturnsWhenTheProcessIsDead(t *testing.T) {
	for _, over := range []func(*gate){(*gate).kill, (*gate).end} {
		bubble.Test(t, func(t *testing.T) {
			asked := false
			g := newGate(nil, &history.Life{}, func() { asked = true })
			g.release()
			var returned atomic.Bool
			go func() {
				g.Poison()
				returned.Store(true)
			}()
			synctest.Wait()
			if !asked || returned.Load() {
				t.Errorf("the world was asked to kill the process: %v, and the function returned: %v", asked, returned.Load())
			}
			over(g)
			synctest.Wait()
			if !returned.Load() {
				t.Error("the function does not return once the process is over")
			}
		})
	}
}
