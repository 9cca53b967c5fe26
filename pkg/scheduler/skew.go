package scheduler

import "slices"

// A hot key must not hold the credit of a whole link: rows of other keys, of other streams too, would wait behind it for
// nothing. So no key has more than a quarter of the link's window unanswered. What is beyond that is set aside, with all that
// comes after it, while other keys go on; the client's own window bounds how much that can be. Keys are counted together
// where their slots share a bucket, of which there are few: counting costs little then, and a cold key is seldom unlucky.

const buckets = 256

// fewRows may always be unanswered: so little holds nobody up.
const fewRows = 8

func bucket(slot uint16) uint8 { return uint8(slot ^ slot>>8) }

// shares is what each bucket's keys have of a link's window.
type shares struct {
	rows  [buckets]int32 // unanswered
	waits [buckets]bool  // something of it is set aside
	aside []aside        // a few, in the order in which they were crowded out
}

// aside is rows of one bucket that wait for their share, in order.
type aside struct {
	bucket   uint8
	segments []segment
}

// limit is how many rows of the link one key may have unanswered.
func (l *link) limit() int64 { return max(fewRows, (l.unanswered+max(0, l.rows))/4) }

// share counts a part's row that was sent, or, below zero, that is the worker's no more.
func (l *link) share(b *Batch, row uint32, n int32) {
	if l.shares == nil {
		l.shares = new(shares)
	}
	l.shares.rows[bucket(b.slot(row))] += n
}

// isCrowded reports whether rows are set aside.
func (l *link) isCrowded() bool { return l.shares != nil && len(l.shares.aside) > 0 }

// admit leaves of a segment what may be sent now, as far as shares go, and sets the rest aside. False: nothing is left.
func (l *link) admit(g *segment) bool {
	limit := l.limit()
	if len(g.batch.Keys) == 0 || !l.isCrowded() && l.unanswered+int64(g.len()) <= limit {
		return true
	}
	if l.shares == nil {
		l.shares = new(shares)
	}
	s := l.shares
	var taken [buckets]int32
	full := func(row uint32) bool {
		b := bucket(g.batch.slot(row))
		if s.waits[b] || int64(s.rows[b]+taken[b]) >= limit {
			return true
		}
		taken[b]++
		return false
	}
	rows := g.list()
	first := slices.IndexFunc(rows, full)
	if first < 0 {
		return true
	}
	stay := slices.Clone(rows[:first])
	s.setAside(g, rows[first])
	for _, row := range rows[first+1:] {
		if full(row) {
			s.setAside(g, row)
		} else {
			stay = append(stay, row)
		}
	}
	g.rows = stay
	return len(stay) > 0
}

// setAside makes a row of a segment wait.
func (s *shares) setAside(g *segment, row uint32) {
	b := bucket(g.batch.slot(row))
	i := slices.IndexFunc(s.aside, func(a aside) bool { return a.bucket == b })
	if i < 0 {
		i, s.waits[b] = len(s.aside), true
		s.aside = append(s.aside, aside{bucket: b})
	}
	a := &s.aside[i]
	if n := len(a.segments); n > 0 && a.segments[n-1].batch == g.batch && a.segments[n-1].deaths == g.deaths {
		a.segments[n-1].rows = append(a.segments[n-1].rows, row)
		return
	}
	a.segments = append(a.segments, segment{batch: g.batch, rows: []uint32{row}, deaths: g.deaths})
}

// readmit queues again, in front, what was set aside and has its share now; all of it where asked for.
func (l *link) readmit(all bool) {
	if !l.isCrowded() {
		return
	}
	s, half := l.shares, l.limit()/2
	var back []segment
	s.aside = slices.DeleteFunc(s.aside, func(a aside) bool {
		if !all && int64(s.rows[a.bucket]) > half {
			return false
		}
		back = append(back, a.segments...)
		s.waits[a.bucket] = false
		return true
	})
	if len(back) > 0 {
		l.queue.segments = append(back, l.queue.segments[l.queue.head:]...)
		l.queue.head = 0
	}
}
