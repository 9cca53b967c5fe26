package coordinator

import "sync"

// outbox is a queue that never blocks who puts in. What is in it is bounded by the credits under which it came.
type outbox[T any] struct {
	mu    sync.Mutex
	items []T // guarded by mu
	// ready holds a token while the taker has something to look at.
	ready chan struct{}
}

func newOutbox[T any]() *outbox[T] { return &outbox[T]{ready: make(chan struct{}, 1)} }

func (o *outbox[T]) put(item T) {
	o.mu.Lock()
	o.items = append(o.items, item)
	o.mu.Unlock()
	o.wake()
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
