package flowexec

import "sync"

// wholes are the parts without keys that wait for a lane. There is no order to keep, so any lane takes the next one as soon as
// it is free: none waits behind a slow one.
type wholes struct {
	mu     sync.Mutex
	queue  []*work // guarded by mu: those from head on wait
	head   int     // guarded by mu
	spare  []*work // guarded by mu: empty, to be used again; at most spareWorks
	free   []*lane // guarded by mu: lanes that wait for something to do
	closed bool    // guarded by mu: no more are taken
}

// spareWorks is how many works are kept to be used again.
const spareWorks = 64

// enqueueWhole queues a part without keys, and sees to it that a lane takes it.
func (l *Lanes) enqueueWhole(p *Part, in input) {
	q := &l.wholes
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
	w := q.unused()
	w.part, w.in = p, in
	q.queue = append(q.queue, w)
	ln := q.wake()
	q.mu.Unlock()
	if ln != nil {
		ln.signal()
		return
	}
	l.oneMore()
}

// unused is an empty work. It must be called with mu held.
func (q *wholes) unused() *work {
	n := len(q.spare) - 1
	if n < 0 {
		return new(work)
	}
	w := q.spare[n]
	q.spare = q.spare[:n]
	return w
}

// wake takes out a lane that waits, to be told that there is something to do; nil: none does. It must be called with mu held.
func (q *wholes) wake() *lane {
	n := len(q.free) - 1
	if n < 0 || q.head == len(q.queue) {
		return nil
	}
	ln := q.free[n]
	q.leave(ln)
	return ln
}

// leave takes a lane out of those that wait. It must be called with mu held.
func (q *wholes) leave(ln *lane) {
	if ln.freeAt == 0 {
		return
	}
	n := len(q.free) - 1
	last := q.free[n]
	q.free[ln.freeAt-1], last.freeAt = last, ln.freeAt
	q.free[n] = nil
	q.free = q.free[:n]
	ln.freeAt = 0
}

func (ln *lane) signal() {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.ready.Signal()
}

// next is the part that a lane is to run, which then is not among those that wait; nil: there is none, and the lane is among them.
// It must be called with the lane's lock held.
func (q *wholes) next(ln *lane) *work {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w := ln.spent; w != nil {
		ln.spent = nil
		if len(q.spare) < spareWorks {
			*w = work{}
			q.spare = append(q.spare, w)
		}
	}
	if q.head == len(q.queue) {
		if ln.freeAt == 0 {
			q.free = append(q.free, ln)
			ln.freeAt = len(q.free)
		}
		ln.offered = true
		return nil
	}
	q.leave(ln)
	ln.offered = false
	w := q.queue[q.head]
	q.queue[q.head] = nil
	if q.head++; 2*q.head >= len(q.queue) { // so that the room before it is used again
		n := copy(q.queue, q.queue[q.head:])
		clear(q.queue[n:])
		q.queue, q.head = q.queue[:n], 0
	}
	return w
}

// without takes a lane out of those that wait, and returns one that is to be woken in its place; nil: none need be.
func (q *wholes) without(ln *lane) (other *lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leave(ln)
	return q.wake()
}

// len is how many parts wait.
func (q *wholes) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue) - q.head
}

// take takes parts out of the queue.
func (q *wholes) take(which func(*work) bool) (taken []*work) {
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
func (q *wholes) close() []*work {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	return q.take(func(*work) bool { return true })
}
