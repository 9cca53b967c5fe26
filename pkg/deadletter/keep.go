package deadletter

import (
	goredis "github.com/redis/go-redis/v9"

	"context"
	"slices"
	"time"
)

// goneFor is how long Redis remembers the ids of letters that were settled or dropped. If the row of such a letter runs again in this
// time, and dies again, it is not kept as a letter once more.
const goneFor = time.Hour

// Keep keeps letters of one flow. For each letter, in their order, it returns whether the letter is kept: false means that the flow has as
// many letters as it may. A letter whose id is known counts as kept: it was kept before, and may have been settled since. After an error
// the results of some or all letters are missing; these letters may have been kept all the same.
func (s *Store) Keep(ctx context.Context, flow string, letters []*Letter) ([]bool, error) {
	kept := make([]bool, 0, len(letters))
	if err := s.addFlow(ctx, flow); err != nil {
		return nil, err
	}
	if err := s.expire(ctx, flow); err != nil {
		return nil, err
	}
	var record []byte
	for len(letters) > 0 {
		args := make([]any, 2, 2+2*min(len(letters), scriptLetters))
		args[0], args[1] = s.config.Max, goneFor.Milliseconds()
		n, size := 0, 0
		for ; n < min(len(letters), scriptLetters) && size < scriptBytes; n++ {
			id := letters[n].ID.String()
			record = letters[n].appendRecord(record[:0], id)
			args = append(args, id, string(record))
			size += len(record)
		}
		letters = letters[n:]
		if err := s.clientCall(ctx, "keep dead letters", func(ctx context.Context) error {
			verdicts, err := s.runScript(ctx, keepScript, s.keys(flow), args...).Int64Slice()
			if err == nil && len(verdicts) != n {
				err = wrongNumber(len(verdicts), n)
			}
			if err != nil {
				return err
			}
			for _, v := range verdicts {
				if v != 1 {
					pointFull.Hit()
				}
				kept = append(kept, v == 1)
			}
			return nil
		}); err != nil {
			return kept, err
		}
	}
	s.noteRoom(flow, !slices.Contains(kept, false))
	return kept, nil
}

// addFlow adds a flow to the set of flows that may have letters, unless this process has done so before.
func (s *Store) addFlow(ctx context.Context, flow string) error {
	s.mu.Lock()
	known := s.flows[flow]
	s.mu.Unlock()
	if known {
		return nil
	}
	err := s.clientCall(ctx, "keep dead letters", func(ctx context.Context) error {
		return s.send(ctx, goredis.NewIntCmd(ctx, "sadd", s.config.Prefix+"flows", flow))
	})
	if err == nil {
		s.mu.Lock()
		s.flows[flow] = true
		s.mu.Unlock()
	}
	return err
}

// expire removes letters of a flow that are older than MaxAge. It does nothing if MaxAge is negative, or if this process has looked for
// such letters of the flow a moment ago: within a tenth of MaxAge, 10 s at most.
func (s *Store) expire(ctx context.Context, flow string) error {
	s.mu.Lock()
	due := s.config.MaxAge > 0 && time.Since(s.expired[flow]) > min(s.config.MaxAge/10, 10*time.Second)
	if due {
		s.expired[flow] = time.Now()
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.clientCall(ctx, "forget old dead letters", func(ctx context.Context) error {
		for {
			entries := goredis.NewXMessageSliceCmd(ctx, "xrange", s.key(flow, "letters"), "-", "+", "count", 1)
			clock := goredis.NewTimeCmd(ctx, "time")
			if err := s.send(ctx, entries, clock); err != nil {
				return err
			}
			oldest := entries.Val()
			if len(oldest) == 0 || timeOf(oldest[0].ID).Add(s.config.MaxAge).After(clock.Val()) {
				return nil
			}
			gone, err := s.runScript(ctx, expireScript, s.keys(flow), s.config.MaxAge.Milliseconds()).Int()
			if err != nil || gone == 0 {
				return err
			}
		}
	})
}
