package world

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/internal/world/history"
	"github.com/kisgrid/kisgrid/pkg/client"
)

// reopenPause is the pause before a client opens a stream again that was refused or has ended.
const reopenPause = time.Second

// submitStream submits the client's rows over a stream. When the stream is refused or ends, the client opens another one.
func (s *submitter) submitStream(l *clientLife) {
	var stream *client.Stream
	for {
		if stream == nil {
			var err error
			if stream, err = l.client.Stream(l.ctx, s.c.Flow); err != nil {
				s.w.rec.Happened(history.Note, s.c.Name, "open a stream: "+err.Error())
				if s.exhausted() || !l.pause(reopenPause) {
					return
				}
				continue
			}
		}
		b := s.next()
		if b == nil {
			break
		}
		if !l.enter() {
			s.w.rec.Gone(s.w.rec.Submitting(b.record, false, s.c.Timeout), b.batch.ID())
			return
		}
		if !s.send(l, stream, b) {
			l.leave()
			s.close(l, stream)
			stream = nil
		}
		pause := s.c.Every
		if s.c.How == "idle" {
			pause = max(pause, 20*time.Second)
		}
		if !l.pause(pause) {
			return
		}
		if s.c.How == "gone" && s.made >= s.c.Rows/2 {
			s.stopMaking()
			l.net.Kill()
			l.cancel()
			close(s.ended)
			return
		}
	}
	s.close(l, stream)
}

// exhausted reports whether the client has no more rows to make.
func (s *submitter) exhausted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over || s.made >= s.c.Rows
}

// close closes a stream once its batches have ended, or the life has.
func (s *submitter) close(l *clientLife, stream *client.Stream) {
	l.tasks.Go(func() { _ = stream.Close() }) // the error repeats those of batches, which are noted
}

// send sends a batch, and waits for its answer in a goroutine. It returns false when the stream refuses it: then the batch goes by calls,
// if it is submitted again at all.
func (s *submitter) send(l *clientLife, stream *client.Stream, b *sent) bool {
	try := s.w.rec.Submitting(b.record, false, s.c.Timeout)
	p, err := stream.Send(l.ctx, b.batch, s.options()...)
	if err != nil {
		s.answered(l, try, b, nil, err)
		if s.again(l, b, nil, err) {
			l.tasks.Go(func() { s.call(l, b, true) })
		}
		return false
	}
	s.w.rec.Sent(try, b.batch.ID())
	l.tasks.Go(func() {
		defer l.leave()
		for {
			result, err := p.Wait(context.WithoutCancel(l.ctx)) // the end of the life ends the stream, and so the batch
			s.answered(l, try, b, result, err)
			if !s.again(l, b, result, err) || !l.pause(time.Duration(500+s.chance(2000))*time.Millisecond) {
				return
			}
			try = s.w.rec.Submitting(b.record, false, s.c.Timeout)
			if p, err = stream.Send(l.ctx, b.batch, s.options()...); err != nil {
				s.answered(l, try, b, nil, err)
				if s.again(l, b, nil, err) {
					s.call(l, b, true)
				}
				return
			}
			s.w.rec.Sent(try, b.batch.ID())
		}
	})
	return true
}

// dawdle lets the client's program stand still again and again, so that it does not take its answers.
func (s *submitter) dawdle(l *clientLife) {
	for range 6 {
		if s.exhausted() || !l.pause(time.Duration(2+s.chance(6))*time.Second) {
			return
		}
		l.net.Stop()
		l.pause(time.Duration(3+s.chance(15)) * time.Second)
		l.net.Continue()
	}
}
