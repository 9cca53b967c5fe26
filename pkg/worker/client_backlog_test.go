package worker

import (
	"context"
	"testing"
	"testing/synctest"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"

	"github.com/kisgrid/kisgrid/internal/bubble"
)

// TestOutletWaitsForClients: a run begins, and a piece leaves, when clients have taken enough, and what a flow's clients do not take
// holds up no other flow.
func TestOutletWaitsForClients(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		m := newOutputMemory(8 * 1500)
		b := newClientBacklog(m)
		slow, other := &outputAccount{memory: m, backlog: b, flow: "slow"}, &outputAccount{memory: m, backlog: b, flow: "other"}
		p := new(heldPart)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		enters := func(who *outputAccount) (entered chan int64) {
			entered = make(chan int64, 1)
			go func() { entered <- who.beginRun(ctx) }()
			synctest.Wait()
			return entered
		}
		passes := func(bytes, left int64) (passed chan bool) {
			passed = make(chan bool, 1)
			go func() {
				slow.waitToSend(ctx, p, bytes, left)
				passed <- true
			}()
			synctest.Wait()
			return passed
		}
		tell := func(flow string, bytes uint64) {
			b.update(&pb.CoordinatorMessage{Untaken: []*pb.Untaken{{Flow: flow, Bytes: bytes}}})
			synctest.Wait()
		}
		must := func(what string, goes bool, n int) {
			t.Helper()
			if goes != (n > 0) {
				t.Fatalf("%s: goes on %t, want %t", what, n > 0, goes)
			}
		}
		run := func(who *outputAccount, bytes int64) { // it has begun, and ends; the coordinator has its output
			who.hold(bytes, true)
			who.endRun(p, who.expected/int64(who.running)) // all of its runs are expected to make as much
			who.release(bytes)
		}

		b.update(&pb.CoordinatorMessage{UntakenLimit: 1})
		tell("slow", 1<<40)
		must("a coordinator that tells nothing with Hello", true, len(enters(slow)))
		run(slow, 100)

		b.reset(&pb.Hello{UntakenLimit: 1600}, []*pb.Untaken{{Flow: "slow", Bytes: 1600}})
		waits := enters(slow)
		must("all of the limit is untaken", false, len(waits))
		must("another flow's first run", true, len(enters(other)))
		second := enters(other)
		must("its second one, within its share", true, len(second))
		run(other, 90)
		run(other, 90)
		first := enters(other)
		must("its first one, which is expected to make 90", true, len(first))
		second = enters(other)
		must("its second one, which with the first is over its share", false, len(second))
		run(other, 50)
		synctest.Wait()
		must("the second one after the first", true, len(second))
		run(other, 50)
		tell("slow", 1550)
		must("there is no room for what it is expected to make", false, len(waits))
		tell("slow", 1000)
		must("there is", true, len(waits))
		run(slow, 400)

		tell("slow", 1300)
		waits = enters(slow)
		must("400 more are over the limit", false, len(waits))
		tell("slow", 800)
		must("half is free", true, len(waits))
		piece, large := passes(700, 3000), enters(slow)
		must("a piece, while half is free", true, len(piece))
		must("a run beside that which is under way, expected to fit", true, len(large))
		run(slow, 400)
		tell("slow", 1500)
		m.growing = p
		piece = passes(200, 2000)
		must("a piece that does not fit", false, len(piece))
		if m.growing != nil || m.stalled != 2000 {
			t.Fatalf("of what waits %d bytes count, and it keeps others from growing: %t", m.stalled, m.growing != nil)
		}
		grown := make(chan bool, 1)
		go func() {
			other.grow(ctx, new(heldPart))
			grown <- true
		}()
		synctest.Wait()
		must("another flow's run that can't be divided", true, len(grown))
		<-grown
		m.growing = nil
		go func() {
			slow.grow(ctx, p)
			grown <- true
		}()
		synctest.Wait()
		must("the flow's next one that can't be divided, beside 2000 bytes of the room", false, len(grown))
		tell("slow", 1400)
		must("the piece fits", true, len(piece))
		must("the flow's next one that can't be divided", true, len(grown))
		m.growing = nil
		if m.stalled != 0 || slow.stalled != 0 {
			t.Fatalf("%d bytes wait", m.stalled)
		}
		run(slow, 400)

		for what, letGo := range map[string]func(){
			"rows are asked back":            slow.handBack,
			"a session with an old build":    func() { b.reset(&pb.Hello{}, nil) },
			"the coordinator is forgotten":   b.close,
			"nothing is untaken any more":    func() { tell("slow", 0) },
			"the limit is raised":            func() { b.update(&pb.CoordinatorMessage{UntakenLimit: 1 << 20}) },
			"a session begins, none untaken": func() { b.reset(&pb.Hello{UntakenLimit: 1600}, nil) },
		} {
			b.reset(&pb.Hello{UntakenLimit: 1600}, []*pb.Untaken{{Flow: "slow", Bytes: 1600}})
			waits, piece = enters(slow), passes(10, 10)
			must(what+": before", false, len(waits)+len(piece))
			letGo()
			synctest.Wait()
			must(what+": a run", true, len(waits))
			must(what+": a piece", true, len(piece))
			run(slow, 400)
		}
		b.reset(&pb.Hello{UntakenLimit: 1600}, []*pb.Untaken{{Flow: "slow", Bytes: 1600}})
		waits, piece = enters(slow), passes(10, 10)
		must("before the end", false, len(waits)+len(piece))
		cancel()
		synctest.Wait()
		must("the lane stops: a run", true, len(waits))
		must("the lane stops: a piece", true, len(piece))
		run(slow, 400)
		ctx = t.Context()
		waits, piece = enters(slow), passes(10, 10)
		must("before the drain", false, len(waits)+len(piece))
		m.drain()
		synctest.Wait()
		must("the worker drains: a run", true, len(waits))
		must("the worker drains: a piece", true, len(piece))
		must("the worker drains: the next piece", true, len(passes(10, 10)))
		run(slow, 400)
		if m.held != 0 || m.stalled != 0 || m.waiting != 0 || b.held != 0 {
			t.Errorf("at the end: %d held, %d stalled, %d wait", m.held, m.stalled, m.waiting)
		}
	})
}
