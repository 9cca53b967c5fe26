package scheduler

// segment is rows of one batch that are routed, queued and sent together.
type segment struct {
	batch  *Batch
	rows   []uint32 // the rows' places in the batch, ascending; nil means all rows of the batch
	deaths uint32   // number of workers' deaths that count against each of the rows
}

// len returns how many rows the segment has.
func (g *segment) len() int {
	if g.rows == nil {
		return g.batch.Rows()
	}
	return len(g.rows)
}

// list returns the places of the segment's rows in the batch, also where rows is nil. The caller must not change them.
func (g *segment) list() []uint32 {
	if g.rows != nil {
		return g.rows
	}
	rows := make([]uint32, g.batch.Rows())
	for i := range rows {
		rows[i] = uint32(i)
	}
	return rows
}

// chunkSegments is how many segments a chunk of a queue holds.
const chunkSegments = 64

// queue is a queue of segments. It is a linked list of chunks, so that no operation moves more than one chunk, however long
// the queue is.
type queue struct {
	first, last *chunk
	sweeping    *chunk // the next chunk that sweep looks at; nil means the first chunk
	looking     *chunk // the next chunk that a search looks at; nil means none
}

// chunk is some consecutive segments of a queue.
type chunk struct {
	segments   []segment // at most chunkSegments, those that were popped included
	head       int       // index of the first segment that was not popped
	prev, next *chunk    // neighbours; nil means none
}

// empty reports whether the queue has no segment.
func (q *queue) empty() bool { return q.first == nil || q.first.head == len(q.first.segments) }

// front returns the first segment. The queue must not be empty.
func (q *queue) front() *segment { return &q.first.segments[q.first.head] }

// push adds a segment at the end of the queue.
func (q *queue) push(g segment) {
	c := q.last
	if c == nil || len(c.segments) == chunkSegments {
		c = &chunk{prev: q.last}
		if c.prev != nil {
			c.prev.next = c
		} else {
			q.first = c
		}
		q.last = c
	}
	c.segments = append(c.segments, g)
}

// pop removes the first segment. The queue must not be empty.
func (q *queue) pop() {
	c := q.first
	c.segments[c.head] = segment{}
	c.head++
	switch {
	case c.head < len(c.segments):
	case c.next == nil && cap(c.segments) <= chunkSegments/8: // kept for the next one
		c.segments, c.head = c.segments[:0], 0
	default:
		q.remove(c)
	}
}

// remove takes a chunk out of the list.
func (q *queue) remove(c *chunk) {
	if q.sweeping == c {
		q.sweeping = c.next
	}
	if q.looking == c {
		q.looking = c.next
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		q.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		q.last = c.prev
	}
}

// take moves all segments into a new queue and returns that; q is empty afterwards.
func (q *queue) take() queue {
	all := *q
	all.sweeping, all.looking = nil, nil
	*q = queue{}
	return all
}

// each calls f for each segment of the queue, in order.
func (q *queue) each(f func(*segment)) {
	for c := q.first; c != nil; c = c.next {
		for i := c.head; i < len(c.segments); i++ {
			f(&c.segments[i])
		}
	}
}

// sweep looks at one chunk of the queue, the one after the chunk of the last call, and removes the segments for which over
// returns true. looked is how many segments it looked at; done says that this was the last chunk.
func (q *queue) sweep(over func(*segment) bool) (looked int, done bool) {
	c := q.sweeping
	if c == nil {
		c = q.first
	}
	if c == nil {
		return 0, true
	}
	q.sweeping = c.next
	all := c.segments[c.head:]
	kept := all[:0]
	for i := range all {
		if !over(&all[i]) {
			kept = append(kept, all[i])
		}
	}
	clear(all[len(kept):])
	c.segments = c.segments[:c.head+len(kept)]
	done = c.next == nil
	if len(kept) == 0 {
		q.remove(c)
	}
	return len(all), done
}
