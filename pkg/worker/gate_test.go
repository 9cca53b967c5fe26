package worker

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"

	"github.com/kisgrid/kisgrid/internal/bubble"
)

// TestAloneHoldsNobodyUp has a part that two workers died of wait for a call that does not end for a long time: rows of others
// run meanwhile, and so does it after a while.
func TestAloneHoldsNobodyUp(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("sharded")
		r.hold("long")
		long := batchOf(1, "sharded", "long")
		long.Columns.Keys[0] = slotOf(0)
		b.sendPart(long)
		synctest.Wait()
		suspect := batchOf(2, "sharded", "suspect")
		suspect.Deaths = aloneFrom
		suspect.Columns.Keys[0] = slotOf(1) // on the second lane
		b.sendPart(suspect)
		synctest.Wait()
		other := r.dial()
		other.hello("c-2", false)
		other.define("whole")
		began := time.Now()
		for i := range 100 {
			sent := time.Now()
			other.sendPart(batchOf(uint64(i+1), "whole", "other"))
			for m := other.result(); !m.GetLast(); m = other.result() {
			}
			other.ack()
			if took := time.Since(sent); took > 2*longestClosing {
				t.Fatalf("part %d ended after %s", i, took)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("100 parts took %s", took)
		}
		for m := (*pb.Result)(nil); !m.GetLast(); b.ack() { // of part 2: part 1 is held
			if m = b.result(); m.GetPart() != 2 {
				t.Fatalf("result %v", m)
			}
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("the suspect ended after %s", took)
		}
		r.open("long")
		if m := b.result(); m.GetPart() != 1 || !m.GetLast() {
			t.Errorf("result %v", m)
		}
	})
}

// TestGate has lanes run calls of any length at one gate, some of them of rows that one or two workers died of, and looks at
// who ran beside whom, and how long each was kept out.
func TestGate(t *testing.T) {
	for seed := range uint64(60) {
		bubble.Test(t, func(t *testing.T) { passGate(t, seed) })
	}
}

// called is a call that is under way.
type called struct {
	began  time.Time
	deaths int
}

func passGate(t *testing.T, seed uint64) {
	g := newGate()
	var mu sync.Mutex
	under := map[*called]bool{} // guarded by mu, as what follows
	suspects := 0
	draw := rand.New(rand.NewPCG(seed, 1))
	longest := []time.Duration{5 * time.Millisecond, 300 * time.Millisecond, 5 * time.Second, 20 * time.Second}[seed%4]
	var keptOut time.Duration // of one lane
	var lanes sync.WaitGroup
	began := time.Now()
	for lane := range 2 + draw.IntN(8) {
		draw := rand.New(rand.NewPCG(seed, uint64(lane)+2))
		lanes.Go(func() {
			for time.Since(began) < 2*time.Minute {
				deaths := 0
				switch n := draw.IntN(20); {
				case n == 0:
					deaths = 2
				case n == 1 && lane > 0:
					deaths = 1
				}
				if lane == 0 {
					deaths = 0
				}
				came := time.Now()
				leave := func() { g.end(deaths > 0) }
				if deaths < aloneFrom {
					g.begin(t.Context(), deaths > 0)
				} else {
					g.takeTurn(t.Context())
					for g.waitToClose(t.Context()); !g.closeForAlone(t.Context()); g.waitToClose(t.Context()) {
					}
					leave = g.returnTurn
				}
				waited := time.Since(came)
				mu.Lock()
				c := &called{time.Now(), deaths}
				for o := range under {
					switch {
					case min(deaths, o.deaths) > 0 && max(deaths, o.deaths) >= aloneFrom:
						t.Errorf("seed %d: rows of %d and %d deaths run at once", seed, deaths, o.deaths)
					case deaths >= aloneFrom && time.Since(o.began) < longestClosing:
						t.Errorf("seed %d: a row runs alone beside a call that began %s ago", seed, time.Since(o.began))
					case o.deaths >= aloneFrom && time.Since(o.began) < longestClosing:
						t.Errorf("seed %d: a call began %s after a row that runs alone", seed, time.Since(o.began))
					}
				}
				under[c] = true
				mu.Unlock()
				if deaths == 0 && waited > 2*longestClosing {
					t.Errorf("seed %d: a call waited %s", seed, waited)
				}
				if deaths >= aloneFrom {
					suspects++ // nobody else has the turn
				}
				if lane == 0 {
					keptOut += waited
				}
				time.Sleep(time.Duration(1 + draw.Int64N(int64(longest))))
				mu.Lock()
				delete(under, c)
				mu.Unlock()
				leave()
			}
		})
	}
	lanes.Wait()
	if suspects == 0 && longest < time.Second {
		t.Errorf("seed %d: no row ran alone", seed)
	}
	if total := time.Since(began); keptOut > total/4 {
		t.Errorf("seed %d: a lane was kept out for %s of %s", seed, keptOut, total)
	}
	if g.ordinary+g.suspects+g.entering+g.waiting+len(g.turn) > 0 {
		t.Errorf("seed %d: the gate is left as %+v", seed, g)
	}
}

// TestGateEndsWithContext has everybody wait at the gate, and cancels.
func TestGateEndsWithContext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := newGate()
		g.begin(t.Context(), true)
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() {
			if g.takeTurn(ctx) {
				for g.waitToClose(ctx); !g.closeForAlone(ctx); g.waitToClose(ctx) {
				}
				ended.Go(func() { g.begin(ctx, true) })
				ended.Go(func() {
					if g.takeTurn(ctx) {
						t.Error("two have the turn")
					}
				})
				synctest.Wait()
				g.returnTurn()
			}
		})
		time.Sleep(time.Minute)
		cancel()
		ended.Wait()
	})
}
