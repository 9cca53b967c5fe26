package coordinator

import "sync"

// outbox is a queue that never blocks who puts in. What is in it is bounded by the credits under which it came.
type queue[T any] struct {
	mu     sync.Mutex
	items  []T  // guarded by mu
	closed bool // guarded by mu: nobody takes anything any more
	// ready holds a token while the taker has something to look at.
	ready chan struct{}
}

func newQueue[T any]() *queue[T] { return &queue[T]{ready: make(chan struct{}, 1)} }

// put adds an item; false: nobody takes it any more.
func (o *queue[T]) put(item T) bool {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return false
	}
	o.items = append(o.items, item)
	o.mu.Unlock()
	o.wake()
	return true
}

// close returns what is in the outbox, into which nothing goes any more.
func (o *queue[T]) close() []T {
	o.mu.Lock()
	defer o.mu.Unlock()
	items := o.items
	o.items, o.closed = nil, true
	return items
}

// wake makes the taker look although nothing was put in.
func (o *queue[T]) wake() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// take returns what is in the outbox and leaves spare, emptied, in its place.
func (o *queue[T]) take(spare []T) []T {
	clear(spare)
	o.mu.Lock()
	defer o.mu.Unlock()
	items := o.items
	o.items = spare[:0]
	return items
}
