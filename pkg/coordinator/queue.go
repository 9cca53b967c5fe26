package coordinator

import "sync"

// queue is an unbounded queue between goroutines: put never blocks. Its length is bounded all the same, because everything that goes in was
// paid for with credit. Any goroutine may put, one goroutine takes.
type queue[T any] struct {
	mu     sync.Mutex
	items  []T  // guarded by mu
	closed bool // guarded by mu: nothing is taken any more
	// ready holds a token if items were put, or wake was called, since the taking goroutine last received from ready.
	ready chan struct{}
}

// newQueue makes an empty queue, into which items can be put until it is closed.
func newQueue[T any]() *queue[T] { return &queue[T]{ready: make(chan struct{}, 1)} }

// put adds an item at the end of the queue and wakes the goroutine that takes. It returns false, and adds nothing, when the queue is closed.
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

// close closes the queue, so that put adds nothing any more, and returns the items that are left.
func (o *queue[T]) close() []T {
	o.mu.Lock()
	defer o.mu.Unlock()
	items := o.items
	o.items, o.closed = nil, true
	return items
}

// wake wakes the goroutine that takes: it puts a token into ready, unless there is one. It does not block.
func (o *queue[T]) wake() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// take removes all items and returns them; it does not block. The queue clears spare and uses its memory for the next items, so the caller
// must not use spare any more. Usually spare is the slice that take returned last: so two slices take turns, and nothing is allocated.
func (o *queue[T]) take(spare []T) []T {
	clear(spare)
	o.mu.Lock()
	defer o.mu.Unlock()
	items := o.items
	o.items = spare[:0]
	return items
}
