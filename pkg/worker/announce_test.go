package worker

import (
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestAnnounced sends a part against which a death counts: its rows wait until the coordinator knows that they run, and when
// they do not run any more without having ended it is told, too.
func TestAnnounced(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("sharded")
		p := batchOf(1, "sharded", "a", "b", "a")
		p.Deaths = 1
		b.sendPart(p)
		announced := map[uint32]bool{}
		for range 2 { // one of each lane
			m := b.result()
			if m.GetLast() || len(m.GetFinished()) > 0 || len(m.GetBegan()) == 0 {
				t.Fatalf("result %v, want an announcement", m)
			}
			for _, run := range m.GetBegan() {
				for i := range run.GetCount() {
					announced[run.GetFirst()+i] = true
				}
			}
		}
		if len(announced) != 3 {
			t.Errorf("announced are %v", announced)
		}
		if ran := r.began(); len(ran) > 0 {
			t.Errorf("%q ran before that was heard", ran)
		}
		b.ack()
		if m := b.result(); !m.GetLast() && len(m.GetFinished()) == 0 {
			t.Errorf("result %v", m)
		}
	})
}

// TestUnheard lets nobody acknowledge an announcement: the lane waits for a second, since it serves others too, and not at
// all once the session has ended.
func TestUnheard(t *testing.T) {
	for _, hangUp := range []bool{false, true} {
		inBubble(t, wideBudget, func(t *testing.T, r *rig) {
			b := r.dial()
			b.hello("c-1", false)
			b.define("sharded")
			p := batchOf(1, "sharded", "a")
			p.Deaths = 1
			began := time.Now()
			b.sendPart(p)
			if m := b.result(); len(m.GetBegan()) != 1 {
				t.Fatalf("result %v", m)
			}
			want := announceTimeout
			if hangUp {
				b.hangUp()
				want = 0
				b = r.dial()
				b.hello("c-1", true)
			}
			for m := b.result(); !m.GetLast(); m = b.result() {
			}
			if took := time.Since(began); took != want {
				t.Errorf("it ran %s after it was announced, want %s", took, want)
			}
		})
	}
}

// TestAloneRowByRow: of a part that two workers died of each row runs and is announced by itself, so that the third death is the
// fault of no other.
func TestAloneRowByRow(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("sharded")
		p := batchOf(1, "sharded", "a", "b", "c", "d", "e")
		p.Deaths = aloneFrom
		b.sendPart(p)
		announced := map[uint32]bool{}
		for last := false; !last; {
			m := b.result()
			b.ack()
			last = m.GetLast()
			for _, run := range m.GetBegan() {
				if run.GetCount() != 1 || len(m.GetBegan()) != 1 || announced[run.GetFirst()] {
					t.Errorf("announced are %v, after %v", m.GetBegan(), announced)
				}
				announced[run.GetFirst()] = true
			}
		}
		if ran := r.began(); len(announced) != 5 || len(ran) != 5 {
			t.Errorf("announced were %v, and %q ran", announced, ran)
		}
	})
}

// TestAlone sends a part that two workers died of: it runs when nothing else does, and nothing begins beside it.
func TestAlone(t *testing.T) {
	inBubble(t, wideBudget, aloneInTurn)
}

func aloneInTurn(t *testing.T, r *rig) {
	b := r.dial()
	b.hello("c-1", false)
	b.define("sharded")
	r.hold("first", "suspect")
	b.sendPart(batchOf(1, "sharded", "first"))
	synctest.Wait()
	suspect := batchOf(2, "sharded", "suspect")
	suspect.Deaths = aloneFrom
	suspect.Columns.Keys[0] = slotOf(1) // on the second lane
	b.sendPart(suspect)
	r.open("first")
	if m := b.result(); m.GetPart() != 1 || !m.GetLast() {
		t.Fatalf("result %v, want the end of what ran before", m)
	}
	m := b.result()
	if m.GetPart() != 2 || len(m.GetBegan()) != 1 {
		t.Fatalf("result %v, want the announcement", m)
	}
	b.sendPart(batchOf(3, "sharded", "other"))
	b.ack()
	synctest.Wait()
	r.open("suspect")
	if m := b.result(); m.GetPart() != 2 || !m.GetLast() {
		t.Fatalf("result %v, want the end of what ran alone", m)
	}
	synctest.Wait()
	if ran := r.began(); slices.Contains(ran, "other") {
		t.Error("something else began before that end was heard")
	}
	b.ack()
	if m := b.result(); m.GetPart() != 3 || !m.GetLast() {
		t.Fatalf("result %v, want the end of what waited", m)
	}
	if ran, want := r.began(), []string{"first", "suspect", "other"}; !slices.Equal(ran, want) {
		t.Errorf("%q ran, want %q", ran, want)
	}
}

// TestGoneBeforeItRuns has a coordinator forgotten while rows of it, which were to be announced, wait to run alone: they run
// unheard, and the worker goes on.
func TestGoneBeforeItRuns(t *testing.T) {
	r := newRig(t, wideBudget)
	b := r.dial()
	b.hello("c-1", false)
	b.define("sharded")
	r.hold("first")
	b.sendPart(batchOf(1, "sharded", "first"))
	for len(r.began()) == 0 {
		runtime.Gosched()
	}
	suspect := batchOf(2, "sharded", "suspect", "suspect")
	suspect.Deaths = aloneFrom
	suspect.Columns.Keys[0] = suspect.Columns.Keys[1] // both on the second lane
	b.sendPart(suspect)
	for len(r.server.gate.turn) == 0 { // until the lane waits
		runtime.Gosched()
	}
	r.server.mu.Lock()
	p := r.server.peers["c-1"]
	r.server.mu.Unlock()
	r.server.removePeer(p)
	p.drop(errExpired)
	r.open("first")

	b = r.dial()
	b.hello("c-2", false)
	b.define("sharded")
	b.sendPart(batchOf(1, "sharded", "a", "b")) // on both lanes
	for m := b.result(); !m.GetLast(); m = b.result() {
	}
	if ran := r.began(); !slices.Contains(ran, "suspect") {
		t.Errorf("%q ran", ran)
	}
}
