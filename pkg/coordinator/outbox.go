package coordinator

import "sync"

// outbox is a queue that never blocks who puts in. What is in it is bounded by the credits under which it came.
type outbox[T any] struct {
	mu    sync.Mutex
	items []T  // guarded by mu
	over  bool // guarded by mu: nobody takes anything any more
	// ready holds a token while the taker has something to look at.
	ready chan struct{}
}

func newOutbox[T any]() *outbox[T] { return &outbox[T]{ready: make(chan struct{}, 1)} }

// put adds an item; false: nobody takes it any more.
func (o *outbox[T]) put(item T) bool {
	o.mu.Lock()
	if o.over {
		o.mu.Unlock()
		return false
	}
	o.items = append(o.items, item)
	o.mu.Unlock()
	o.wake()
	return true
}

// close returns what is in the outbox, into which nothing goes any more.
func (o *outbox[T]) close() []T {
	o.mu.Lock()
	defer o.mu.Unlock()
	items := o.items
	o.items, o.over = nil, true
	return items
}

// wake makes the taker look although nothing was put in.
func (o *outbox[T]) wake() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// take returns what is in the outbox and leaves spare, emptied, in its place.
func (o *outbox[T]) take(spare []T) []T {
	clear(spare)
	o.mu.Lock()
	defer o.mu.Unlock()
	items := o.items
	o.items = spare[:0]
	return items
}
