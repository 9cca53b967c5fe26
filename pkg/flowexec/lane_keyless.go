package flowexec

import "sync"

// keylessQueue are the parts without keys that wait for a lane. There is no order to keep, so any lane takes the next one as soon as
// it is free: none waits behind a slow one.
type keylessQueue struct {
	mu     sync.Mutex
	queue  []*work // guarded by mu: those from head on wait
	head   int     // guarded by mu
	spare  []*work // guarded by mu: empty, to be used again; at most spareWorks
	idle   []*lane // guarded by mu: lanes that wait for something to do
	closed bool    // guarded by mu: no more are taken
}

// spareWorks is how many works are kept to be used again.
const maxSpare = 64

// enqueueKeyless queues a part without keys, and sees to it that a lane takes it.
func (l *Lanes) enqueueKeyless(p *Part, in input) {
	q := &l.keyless
	if !l.begin() {
		l.giveBack([]*work{{part: p, in: in}})
		return
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		l.giveBack([]*work{{part: p, in: in}})
		return
	}
	w := q.newWork()
	w.part, w.in = p, in
	q.queue = append(q.queue, w)
	ln := q.takeIdle()
	q.mu.Unlock()
	if ln != nil {
		ln.signal()
		return
	}
	l.oneMore()
}

// newWork is an empty work. It must be called with mu held.
func (q *keylessQueue) newWork() *work {
	n := len(q.spare) - 1
	if n < 0 {
		return new(work)
	}
	w := q.spare[n]
	q.spare = q.spare[:n]
	return w
}

// takeIdle takes out a lane that waits, to be told that there is something to do; nil: none does. It must be called with mu held.
func (q *keylessQueue) takeIdle() *lane {
	n := len(q.idle) - 1
	if n < 0 || q.head == len(q.queue) {
		return nil
	}
	ln := q.idle[n]
	q.removeIdle(ln)
	return ln
}

// removeIdle takes a lane out of those that wait. It must be called with mu held.
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

func (ln *lane) signal() {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.ready.Signal()
}

// next is the part that a lane is to run, which then is not among those that wait; nil: there is none, and the lane is among them.
// It must be called with the lane's lock held.
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
	if q.head++; 2*q.head >= len(q.queue) { // so that the room before it is used again
		n := copy(q.queue, q.queue[q.head:])
		clear(q.queue[n:])
		q.queue, q.head = q.queue[:n], 0
	}
	return w
}

// wakeAnother takes a lane out of those that wait, and returns one that is to be woken in its place; nil: none need be.
func (q *keylessQueue) wakeAnother(ln *lane) (other *lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.removeIdle(ln)
	return q.takeIdle()
}

// len is how many parts wait.
func (q *keylessQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue) - q.head
}

// take takes parts out of the queue.
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

// close takes all parts out; no more are taken.
func (q *keylessQueue) close() []*work {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	return q.take(func(*work) bool { return true })
}
