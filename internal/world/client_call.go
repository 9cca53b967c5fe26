package world

import (
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// submitCalls submits the client's rows by calls, as many at a time as the client has batches open. A producer submits first the batches
// that an earlier life left without an answer, under their ids.
func (s *submitter) submitCalls(l *clientLife) {
	if s.c.How == "producer" {
		s.mu.Lock()
		left := slices.Clone(s.kept)
		s.mu.Unlock()
		for _, b := range left {
			if !l.enter() {
				return
			}
			again := s.renewed(b)
			l.tasks.Go(func() {
				defer l.leave()
				s.call(l, again, false)
			})
		}
	}
	for {
		b := s.next()
		if b == nil {
			return
		}
		if s.c.How == "producer" {
			s.numbered(b)
		}
		if !l.enter() {
			b.aged()
			s.w.rec.Gone(s.w.rec.Submitting(b.record, true, s.c.Timeout), b.batch.ID())
			return
		}
		l.tasks.Go(func() {
			defer l.leave()
			s.call(l, b, false)
		})
		if !l.pause(s.c.Every) {
			return
		}
	}
}

// numbered gives a producer's batch its id: the next one of the producer's own stream. The producer may say that the batch is older than it
// is.
func (s *submitter) numbered(b *sent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sequence++
	born := time.Now()
	if s.c.Oldest > 0 {
		born = born.Add(-time.Duration(s.rng.Int64N(int64(s.c.Oldest)))) // not by chance, which takes the lock
	}
	id := batch.ID{Stream: s.stream, Sequence: s.sequence}
	b.batch.Use(born, func() batch.ID { return id })
	b.born = born
	s.kept = append(s.kept, b)
}

// aged notes, before the first try of a producer's batch, how old it is by its producer's account.
func (b *sent) aged() {
	if !b.born.IsZero() && len(b.record.Tries) == 0 {
		b.record.Older = time.Since(b.born)
	}
}

// renewed returns a batch as a new life of the producer's program reads it from its log: the same rows under the same id. The facts that
// the earlier life knew of its outcome are forgotten, and in a client that forgets also the revision on which it ran.
func (s *submitter) renewed(b *sent) *sent {
	columns, err := b.batch.Columns()
	if err != nil {
		panic(err) // it was packed
	}
	fresh := batch.Pack(columns)
	id, revision := b.batch.ID(), b.batch.Pinned()
	fresh.Use(b.born, func() batch.ID { return id })
	if !revision.IsZero() && !s.c.Forgets {
		fresh.PinTo(revision)
	}
	again := &sent{batch: fresh, record: b.record, born: b.born}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[slices.Index(s.kept, b)] = again
	return again
}

// call submits a batch by a call, and again as the client's settings say. later says that this is not the batch's first try.
func (s *submitter) call(l *clientLife, b *sent, later bool) {
	for {
		if later && !l.pause(time.Duration(500+s.chance(2000))*time.Millisecond) {
			return
		}
		later = true
		b.aged()
		try := s.w.rec.Submitting(b.record, true, s.c.Timeout)
		result, err := l.client.Submit(l.ctx, s.c.Flow, b.batch, s.options()...)
		s.answered(l, try, b, result, err)
		if !s.again(l, b, result, err) {
			break
		}
	}
	if l.ctx.Err() == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.kept = slices.DeleteFunc(s.kept, func(other *sent) bool { return other == b })
	}
}
