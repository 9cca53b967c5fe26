package flowexec

import "sync"

// keylessQueue is the queue of parts without keys, for all lanes of a flow together. Such parts have no order to keep, so that any lane
// takes the next one as soon as it is free, and no part waits behind a slow one. A lane's goroutine that finds nothing to do is listed in
// idle, and sleeps until it is signalled.
//
// Locks: lane.mu is taken before keylessQueue.mu.
type keylessQueue struct {
	mu     sync.Mutex
	queue  []*work // the elements from head on wait, those before are nil; guarded by mu
	head   int     // where the waiting works begin in queue; guarded by mu
	spare  []*work // works to use again, at most maxSpare; guarded by mu
	idle   []*lane // lanes whose goroutine sleeps; guarded by mu
	closed bool    // says that the queue takes no more parts; guarded by mu
}

// maxSpare is how many works are kept, so that a part without keys needs no allocation.
const maxSpare = 64

// newWork returns an empty work: one that was used before, or else a new one. The caller holds mu.
func (q *keylessQueue) newWork() *work {
	n := len(q.spare) - 1
	if n < 0 {
		return new(work)
	}
	w := q.spare[n]
	q.spare = q.spare[:n]
	return w
}

// takeIdle takes a lane out of the idle ones and returns it, for the caller to signal. It returns nil if no lane is idle, or if no part
// waits. The caller holds mu.
func (q *keylessQueue) takeIdle() *lane {
	n := len(q.idle) - 1
	if n < 0 || q.head == len(q.queue) {
		return nil
	}
	ln := q.idle[n]
	q.removeIdle(ln)
	return ln
}

// removeIdle takes a lane out of the idle ones, if it is there. The caller holds mu.
func (q *keylessQueue) removeIdle(ln *lane) {
	if ln.idleIndex == 0 {
		return
	}
	n := len(q.idle) - 1
	last := q.idle[n]
	q.idle[ln.idleIndex-1], last.idleIndex = last, ln.idleIndex
	q.idle[n] = nil
	q.idle = q.idle[:n]
	ln.idleIndex = 0
}

// next takes the next part for a lane. It returns nil if no part waits: then the lane is among the idle ones. The caller holds lane.mu.
func (q *keylessQueue) next(ln *lane) *work {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w := ln.reusable; w != nil {
		ln.reusable = nil
		if len(q.spare) < maxSpare {
			*w = work{}
			q.spare = append(q.spare, w)
		}
	}
	if q.head == len(q.queue) {
		if ln.idleIndex == 0 {
			q.idle = append(q.idle, ln)
			ln.idleIndex = len(q.idle)
		}
		ln.maybeIdle = true
		return nil
	}
	q.removeIdle(ln)
	ln.maybeIdle = false
	w := q.queue[q.head]
	q.queue[q.head] = nil
	if q.head++; 2*q.head >= len(q.queue) { // move the rest to the front, so that the memory before head is used again
		n := copy(q.queue, q.queue[q.head:])
		clear(q.queue[n:])
		q.queue, q.head = q.queue[:n], 0
	}
	return w
}

// wakeAnother takes a lane out of the idle ones, because it has found something else to do. If a part waits, it returns another idle lane,
// which the caller has to signal; else nil.
func (q *keylessQueue) wakeAnother(ln *lane) (other *lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.removeIdle(ln)
	return q.takeIdle()
}

// len returns how many parts wait in the queue.
func (q *keylessQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue) - q.head
}

// take takes those works out of the queue for which which returns true, and returns them.
func (q *keylessQueue) take(which func(*work) bool) (taken []*work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := q.queue[:0]
	for _, w := range q.queue[q.head:] {
		if which(w) {
			taken = append(taken, w)
		} else {
			kept = append(kept, w)
		}
	}
	clear(q.queue[len(kept):])
	q.queue, q.head = kept, 0
	return taken
}

// close takes all parts out of the queue, for the caller to give back. From now on enqueueKeyless gives parts back at once.
func (q *keylessQueue) close() []*work {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	return q.take(func(*work) bool { return true })
}
