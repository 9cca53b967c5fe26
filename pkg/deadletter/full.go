package deadletter

import (
	goredis "github.com/redis/go-redis/v9"

	"context"
	"time"
)

// askAgain is for how long a Store remembers that a flow has no room for letters, and at most how late Redis is told of letters that were
// refused meanwhile.
const askAgain = time.Second

// fullFlow is a flow that has as many letters as it may.
type fullFlow struct {
	until   time.Time // when Redis is asked again
	refused int       // how many letters were refused of which Redis has not been told yet
}

// Full reports whether a flow had no room for letters less than a second ago, as far as this process knows. Then a letter that is certainly
// not in the store (Letter.First) need not be offered to Keep. A caller that refuses letters for that reason counts them with Refuse.
func (s *Store) Full(flow string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.full[flow]
	return f != nil && time.Now().Before(f.until)
}

// Refuse counts n letters of a flow that its caller has refused because the flow is Full. It does not wait for Redis: the Store tells it the
// number within a second, or in Close.
func (s *Store) Refuse(flow string, n int) {
	if n <= 0 {
		return
	}
	pointFull.Hit()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full[flow] == nil {
		s.full[flow] = &fullFlow{}
	}
	s.full[flow].refused += n
	if s.teller == nil && !s.closed {
		s.tellers.Add(1)
		s.teller = time.AfterFunc(askAgain, func() {
			defer s.tellers.Done()
			s.mu.Lock()
			s.teller = nil
			s.mu.Unlock()
			s.tellRefused(context.Background())
		})
	}
}

// noteRoom remembers whether a flow has room for letters, as Redis has just said, or as a change by this process leads one to expect.
func (s *Store) noteRoom(flow string, room bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.full[flow]
	switch {
	case !room && f == nil:
		s.full[flow] = &fullFlow{until: time.Now().Add(askAgain)}
	case !room:
		f.until = time.Now().Add(askAgain)
	case f != nil:
		f.until = time.Time{}
		if f.refused == 0 {
			delete(s.full, flow)
		}
	}
}

// tellRefused adds to Redis's numbers the letters that were refused without asking it. Numbers that Redis can't be told stay for the next
// time.
func (s *Store) tellRefused(ctx context.Context) {
	s.mu.Lock()
	refused := map[string]int{}
	for flow, f := range s.full {
		if f.refused > 0 {
			refused[flow] = f.refused
			f.refused = 0
		}
	}
	s.mu.Unlock()
	for flow, n := range refused {
		if err := s.clientCall(ctx, "count dead letters", func(ctx context.Context) error {
			return s.send(ctx, goredis.NewIntCmd(ctx, "hincrby", s.key(flow, "counts"), "refused", n))
		}); err != nil {
			s.Refuse(flow, n)
		}
	}
}

// Close tells Redis of refused letters that it does not know of yet, and closes the connections. It blocks for Config.Timeout at most for
// each flow that has such letters.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	if s.teller != nil && s.teller.Stop() {
		s.tellers.Done()
	}
	s.mu.Unlock()
	s.tellers.Wait()
	s.tellRefused(context.Background())
	return s.client.Close()
}
