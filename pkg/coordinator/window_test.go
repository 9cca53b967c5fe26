package coordinator

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

func TestWindowCredit(t *testing.T) {
	t.Parallel()
	b := newBudget(64 << 20)
	w := openWindow(b)
	if err := w.spend(t.Context(), size{8000, 100}); err != nil {
		t.Fatal(err)
	}
	if err := w.spend(t.Context(), size{60000, 100}); err != nil {
		t.Fatalf("one batch may overdraw the rows: %v", err)
	}
	wantCode(t, w.spend(t.Context(), size{1, 1}), batch.CodeBadMessage, "without credit")
	// Used to the full, it doubles with the first batch that ends.
	if got := w.restore(size{60000, 100}); got != (size{60000 + firstWindowRows, 100 + firstWindowBytes}) {
		t.Errorf("credited %+v", got)
	}
	if got := w.restore(size{8000, 100}); got != (size{8000, 100}) {
		t.Errorf("a window that is not used to the full grew: credited %+v", got)
	}
	if left := b.remaining(); left != 64<<20-2*firstWindowBytes {
		t.Errorf("the budget has %d left", left)
	}
	w.close()
	if left := b.remaining(); left != 64<<20 {
		t.Errorf("after the end the budget has %d left", left)
	}
}

// TestWindowsLeaveRoom lets streams push as hard as they can: they take half of the budget, the other half is for newcomers.
func TestWindowsLeaveRoom(t *testing.T) {
	t.Parallel()
	b := newBudget(32 << 20)
	push := func(w *window) {
		for range 10 {
			if err := w.spend(t.Context(), size{100, w.bytes}); err != nil {
				t.Fatal(err)
			}
			w.restore(size{100, w.size})
		}
	}
	greedy := []*window{openWindow(b), openWindow(b), openWindow(b)}
	for _, w := range greedy {
		push(w)
		if w.size > maxWindowBytes {
			t.Errorf("a window has %d bytes", w.size)
		}
	}
	if left := b.remaining(); left < 16<<20 {
		t.Errorf("three streams leave %d bytes of %d", left, 32<<20)
	}
	if !b.reserve(8 << 20) {
		t.Error("no room for a large unary call")
	}
	for i := range 10 {
		if openWindow(b) == nil {
			t.Errorf("no room for %d more streams", i+1)
		}
	}
}

// TestIdleWindowsLend opens more windows than the budget has room for, all of which stay idle: calls and further streams find room,
// and each window's batch gets its place when it comes.
func TestIdleWindowsLend(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		b := newBudget(16 << 20)
		var windows []*window
		for i := range 100 {
			w := openWindow(b)
			if w == nil {
				t.Fatalf("stream %d is refused beside idle ones", i)
			}
			windows = append(windows, w)
		}
		if !b.reserve(8 << 20) {
			t.Fatal("a call is refused beside idle streams")
		}
		b.release(8<<20, false)
		// All of them wake at once.
		var spending sync.WaitGroup
		for _, w := range windows {
			spending.Go(func() {
				batch := size{10, 300 << 10}
				if err := w.spend(t.Context(), batch); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Second) // it runs
				if credit := w.restore(batch); credit != batch {
					t.Errorf("credited %+v", credit)
				}
			})
		}
		time.Sleep(time.Millisecond)
		if b.reserve(16 << 20) {
			t.Error("windows in use lend")
		}
		if left := b.remaining(); left < -1<<20 {
			t.Errorf("the budget is overdrawn by %d bytes", -left)
		}
		spending.Wait()
		for _, w := range windows {
			w.close()
		}
		if left := b.remaining(); left != b.size {
			t.Errorf("after the end %d of %d bytes are left", left, b.size)
		}
	})
}

// TestTinyBatchesDontGrow: a window of very many batches costs more than its bytes say.
func TestTinyBatchesDontGrow(t *testing.T) {
	t.Parallel()
	w := openWindow(newBudget(64 << 20))
	for range firstWindowRows {
		if err := w.spend(t.Context(), size{1, 10}); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.restore(size{1, 10}); got.rows != 1 {
		t.Errorf("credited %+v", got)
	}
}

// TestTinyBatchesCost: batches of a byte take their place in the budget too, and wait for it.
func TestTinyBatchesCost(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		b := newBudget(2 * firstWindowBytes)
		first, second := openWindow(b), openWindow(b)
		const fit = firstWindowBytes/batchCost - 1
		for range fit {
			for _, w := range []*window{first, second} {
				if err := w.spend(t.Context(), size{1, 1}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if left := b.remaining(); left != 0 {
			t.Errorf("batches that fit into their windows overdraw the budget: %d bytes are left", left)
		}
		sent := make(chan error)
		for _, w := range []*window{first, second} {
			go func() {
				for range 3 {
					sent <- w.spend(t.Context(), size{1, 1})
				}
			}()
		}
		in := 0
		drain := func() {
			for synctest.Wait(); ; synctest.Wait() {
				select {
				case err := <-sent:
					if err != nil {
						t.Error(err)
					}
					in++
				default:
					return
				}
			}
		}
		drain() // a batch for each window just fits, or overdraws it; the next waits
		if left := b.remaining(); in == 6 || left > 0 || left < -batchCost {
			t.Errorf("%d of 6 batches were let in, and %d bytes are left", in, left)
		}
		for ended := 0; in < 6; ended++ { // as batches end, all come in
			if ended > fit {
				t.Fatalf("%d of 6 batches were let in", in)
			}
			first.restore(size{1, 1})
			second.restore(size{1, 1})
			drain()
		}
		first.close()
		second.close()
		if b.remaining() != b.size || b.overdrawn != 0 {
			t.Errorf("at the end %d of %d bytes are left, %d windows overdrawn", b.remaining(), b.size, b.overdrawn)
		}
	})
}

// TestOverdraft lets every stream hold a batch that is larger than its window while the budget is used up: one goes on, the
// next when that one ends, and all in the end.
func TestOverdraft(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		const streams, large = 8, 8 << 20
		b := newBudget(streams * firstWindowBytes)
		admitted := make(chan *window, streams)
		windows := make([]*window, streams)
		for i := range windows {
			windows[i] = openWindow(b)
		}
		for _, w := range windows {
			go func() {
				if err := w.spend(t.Context(), size{1, large}); err != nil {
					t.Error(err)
				}
				admitted <- w
			}()
		}
		for range streams {
			synctest.Wait()
			if n := len(admitted); n != 1 {
				t.Fatalf("%d batches are let in at the same time", n)
			}
			if left := b.remaining(); left != -(large + batchCost - firstWindowBytes) {
				t.Errorf("%d bytes are left", left)
			}
			(<-admitted).restore(size{1, large})
		}
		for _, w := range windows {
			w.close()
		}
		if left := b.remaining(); left != b.size || b.overdrawn != 0 {
			t.Errorf("at the end %d of %d bytes are left, %d windows overdrawn", left, b.size, b.overdrawn)
		}
	})
}

// TestOverdraftGivenUp ends a call while its batch waits.
func TestOverdraftGivenUp(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		b := newBudget(2 * firstWindowBytes)
		first, second := openWindow(b), openWindow(b)
		if err := first.spend(t.Context(), size{1, 1 << 20}); err != nil {
			t.Fatal(err)
		}
		left := errors.New("the client left")
		ctx, cancel := context.WithCancelCause(t.Context())
		got := make(chan error, 1)
		go func() { got <- second.spend(ctx, size{1, 1 << 20}) }()
		synctest.Wait()
		cancel(left)
		if err := <-got; !errors.Is(err, left) {
			t.Errorf("got %v", err)
		}
		second.close()
		first.close()
		if b.remaining() != b.size || b.overdrawn != 0 {
			t.Errorf("at the end %d of %d bytes are left, %d windows overdrawn", b.remaining(), b.size, b.overdrawn)
		}
	})
}

// TestOverdraftOfAClosedWindow ends a call whose batch comes to its place all the same: nothing stays reserved.
func TestOverdraftOfAClosedWindow(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		b := newBudget(2 * firstWindowBytes)
		first, second := openWindow(b), openWindow(b)
		if err := first.spend(t.Context(), size{1, 1 << 20}); err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() { got <- second.spend(t.Context(), size{1, 1 << 20}) }()
		synctest.Wait()
		second.close()
		first.close()
		if err := <-got; err != nil {
			t.Error(err)
		}
		if b.remaining() != b.size || b.overdrawn != 0 {
			t.Errorf("at the end %d of %d bytes are left, %d windows overdrawn", b.remaining(), b.size, b.overdrawn)
		}
	})
}

// TestOverdrawnWindowDoesNotWaitForItself: a window that small batches have overdrawn has credit left, and a large batch that
// waits for its place comes to it once they are answered.
func TestOverdrawnWindowDoesNotWaitForItself(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		small := size{1, (firstWindowBytes - 1024) / 8}
		b := newBudget(2 * firstWindowBytes)
		w, idle := openWindow(b), openWindow(b)
		for range 8 {
			if err := w.spend(t.Context(), small); err != nil {
				t.Fatal(err)
			}
		}
		if w.overdrawn == 0 {
			t.Fatal("the window is not overdrawn")
		}
		admitted := make(chan error, 1)
		go func() { admitted <- w.spend(t.Context(), size{1, 1 << 20}) }()
		synctest.Wait()
		if len(admitted) > 0 {
			t.Fatal("a batch does not wait for its place")
		}
		for range 8 {
			w.restore(small)
		}
		if err := <-admitted; err != nil {
			t.Error(err)
		}
		w.close()
		idle.close()
		if b.remaining() != b.size || b.overdrawn != 0 {
			t.Errorf("at the end %d of %d bytes are left, %d windows overdrawn", b.remaining(), b.size, b.overdrawn)
		}
	})
}

// TestBudgetAddsUp does whatever streams do, at random, and wants all of the budget back.
func TestBudgetAddsUp(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	b := newBudget(16 << 20)
	under := map[*window][]size{}
	for range 20000 {
		var w *window
		for w = range under {
			break
		}
		switch {
		case w == nil || random.IntN(50) == 0:
			if w = openWindow(b); w != nil {
				under[w] = nil
			}
		case random.IntN(60) == 0:
			w.close()
			delete(under, w)
		case random.IntN(2) == 0 && len(under[w]) > 0:
			a := under[w][0]
			under[w] = under[w][1:]
			w.restore(a)
		default:
			a := size{1 + random.Int64N(5000), random.Int64N(1 << 20)}
			left, lent := b.remaining(), w.lent
			if lent <= left { // it is taken back first
				left, lent = left-lent, 0
			}
			need := int64(w.batches+1)*batchCost - (w.bytes - lent - a.bytes) - w.overdrawn
			if w.rows <= 0 || w.bytes <= 0 || need > left {
				continue // it would wait
			}
			if err := w.spend(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			under[w] = append(under[w], a)
		}
		if left := b.remaining(); left < 0 || left > b.size {
			t.Fatalf("%d of %d bytes are left", left, b.size)
		}
	}
	for w := range under {
		w.close()
	}
	if b.remaining() != b.size || b.overdrawn != 0 {
		t.Errorf("at the end %d of %d bytes are left, %d windows overdrawn", b.remaining(), b.size, b.overdrawn)
	}
}
