package worker

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/kisgrid/kisgrid/internal/bubble"
)

// TestRoomForOutputs: a lane begins no run while what is held is over the room, but for the first of an account that holds nothing;
// and one run at a time grows beyond what a run is to hold.
func TestRoomForOutputs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m := newOutputMemory(1000)
		out := newClientBacklog(m)
		greedy, modest := &outputAccount{memory: m, backlog: out, flow: "greedy"}, &outputAccount{memory: m, backlog: out, flow: "modest"}
		begins := func(who *outputAccount, ctx context.Context) (began chan int64) {
			began = make(chan int64, 1)
			go func() { began <- who.beginRun(ctx) }()
			synctest.Wait()
			return began
		}
		p, q := new(heldPart), new(heldPart)
		first, second := <-begins(greedy, t.Context()), <-begins(greedy, t.Context()) // nobody knows yet what they make
		greedy.hold(700, true)
		greedy.hold(700, true)
		greedy.endRun(p, first)
		greedy.endRun(p, second)

		waits := begins(greedy, t.Context())
		if len(waits) > 0 {
			t.Fatal("a run begins although 1400 bytes are held, of 1000")
		}
		other := begins(modest, t.Context())
		if len(other) == 0 {
			t.Fatal("the run of a flow that holds nothing waits for another's")
		}
		if again := begins(modest, t.Context()); len(again) == 0 {
			t.Log("a second one waits") // until the first has ended
			modest.endRun(q, <-other)
			synctest.Wait()
			if len(again) == 0 {
				t.Fatal("the second run of the flow never begins")
			}
			modest.endRun(q, <-again)
		} else {
			t.Error("two runs of a flow that holds nothing begin beside another's 1400 bytes")
		}

		greedy.release(700)
		synctest.Wait()
		if len(waits) > 0 {
			t.Fatal("a run that is expected to make 700 bytes begins beside 700 that are held, of 1000")
		}
		greedy.release(300)
		synctest.Wait()
		if len(waits) == 0 {
			t.Fatal("no run is under way, and half of the room is free: one must begin")
		}
		expected := <-waits

		ctx, cancel := context.WithCancel(t.Context())
		given := begins(greedy, ctx)
		if len(given) > 0 {
			t.Fatal("a second run begins beside it")
		}
		cancel()
		synctest.Wait()
		if len(given) == 0 {
			t.Fatal("a lane that is to stop waits for room")
		}
		greedy.endRun(q, <-given)

		greedy.release(400)
		greedy.grow(t.Context(), p)
		grown := make(chan bool, 1)
		go func() {
			greedy.grow(t.Context(), q)
			grown <- true
		}()
		synctest.Wait()
		if len(grown) > 0 {
			t.Fatal("two runs grow at a time")
		}
		greedy.endRun(p, expected)
		synctest.Wait()
		if len(grown) == 0 {
			t.Fatal("the second run never grows")
		}
		greedy.endRun(q, 0)
		greedy.addRuns(1, 0) // it was never entered
		if m.held != 0 || m.expected != 0 || m.running != 0 || greedy.running != 0 || m.growing != nil || m.waiting != 0 {
			t.Errorf("at the end: %d held, %d expected, %d run, %d wait", m.held, m.expected, m.running, m.waiting)
		}
	})
}
