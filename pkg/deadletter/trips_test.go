package deadletter

import (
	"context"
	"net"
	"testing"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// trips counts the trips of a client to Redis.
type trips struct{ n int }

// DialHook implements goredis.Hook.
func (*trips) DialHook(next goredis.DialHook) goredis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return next(ctx, network, address)
	}
}

// ProcessHook implements goredis.Hook.
func (c *trips) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, command goredis.Cmder) error { c.n++; return next(ctx, command) }
}

// ProcessPipelineHook implements goredis.Hook.
func (c *trips) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, commands []goredis.Cmder) error { c.n++; return next(ctx, commands) }
}

// TestTrips counts the trips to Redis: they follow the letters of a call in large steps, and letters that are refused because the flow is
// known to be full need none.
func TestTrips(t *testing.T) {
	s, err := Open(Config{URL: "redis://" + miniredis.RunT(t).Addr(), Max: 2000})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	next := 0
	keep := func(n int) (trip int) {
		counter := &trips{}
		s.client.AddHook(counter)
		letters := make([]*Letter, n)
		for i := range letters {
			next++
			row := batch.RowID{Batch: batch.ID{Sequence: uint64(next)}}
			letters[i] = &Letter{ID: NewID("F", row, 0, 0, "f", 0), Sequence: 1, Flow: "F", Row: []byte(`{"a":1}`), Origin: row}
		}
		if _, err := s.Keep(t.Context(), "F", letters); err != nil {
			t.Fatal(err)
		}
		return counter.n
	}
	keep(1) // the first call also sends the script, and looks for old letters
	if one, many := keep(1), keep(500); one != 1 || many != 1 {
		t.Errorf("a letter took %d trips, and 500 letters %d", one, many)
	}
	if n := keep(1600); n != 4 {
		t.Errorf("1,600 letters took %d trips", n)
	}
	counter := &trips{}
	s.client.AddHook(counter)
	if !s.Full("F") {
		t.Fatal("the flow is not known to be full")
	}
	s.Refuse("F", 1000)
	if counter.n != 0 {
		t.Errorf("1,000 refused letters took %d trips", counter.n)
	}
}
