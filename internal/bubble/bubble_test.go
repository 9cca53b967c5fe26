package bubble_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
)

// Goroutines that look into the channels of timers which have fired do not end the program. With the race detector, and in a bubble of
// synctest.Test on several processors, this test ended with a segmentation violation or a failed check of the detector.
func TestTimersThatHaveFired(t *testing.T) {
	if runtime.NumCPU() == 1 {
		t.Skip("takes two processors")
	}
	bubble.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 5000 {
					timer := time.NewTimer(0)
					select {
					case <-timer.C:
					default:
						t.Error("a timer for now has not fired")
					}
				}
			})
		}
		wg.Wait()
	})
}

// The program has its processors again after the last of several bubbles, and not before.
func TestProcessorsComeBack(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	want := before // while a bubble runs
	if bubble.Race {
		want = 1
	}
	t.Run("bubbles", func(t *testing.T) {
		for range 3 {
			t.Run("one", func(t *testing.T) {
				t.Parallel()
				for range 20 {
					bubble.Test(t, func(t *testing.T) {
						if n := runtime.GOMAXPROCS(0); n != want {
							t.Errorf("%d processors, want %d", n, want)
						}
						time.Sleep(time.Hour)
					})
				}
			})
		}
	})
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Errorf("%d processors after the last bubble, %d before the first", n, before)
	}
}
