package simredis_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/world/simnet"
	"github.com/kisgrid/kisgrid/internal/world/simredis"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
)

// letterLife is one life of the stores of dead letters of a few coordinators.
type letterLife struct {
	*life
	stores []*deadletter.Store

	// The rest is guarded by life.mu.
	kept    map[batch.StreamID]bool // letters that a store called kept
	dropped map[batch.StreamID]bool // letters that a store called dropped
	holders map[string]context.Context
	held    int // how often the lock was held
}

// TestLettersInTrouble lets stores keep and drop letters, and take the lock, through every trouble of Redis and the network. A letter that is
// kept is there once, unless it was dropped or a failover has lost it; a dropped letter is not there; and nobody holds the lock while
// another counts on it.
func TestLettersInTrouble(t *testing.T) {
	for n := range *livesFlag {
		seed := *firstFlag + uint64(n)
		bubble.Test(t, func(t *testing.T) { liveWithLetters(t, seed) })
		if t.Failed() {
			t.Fatalf("it was the life with the seed %d: -life=%d -lives=1", seed, seed)
		}
	}
}

// liveWithLetters lives one life.
func liveWithLetters(t *testing.T, seed uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	l := &letterLife{
		life:    &life{t: t, random: rand.New(rand.NewPCG(seed, 1)), net: simnet.New(seed), begin: time.Now(), troubled: 20 * time.Second},
		kept:    map[batch.StreamID]bool{},
		dropped: map[batch.StreamID]bool{},
		holders: map[string]context.Context{},
	}
	var err error
	l.redis, err = simredis.Start(ctx, simredis.Config{
		Listen:   func(ctx context.Context) (net.Listener, error) { return l.net.Host("redis-1").Listen(ctx, ":6379") },
		Owner:    func(c net.Conn) string { return c.(*simnet.Conn).Peer() },
		Password: "one", Replicas: 1, Lag: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.redis.Close()
	for i := range 3 {
		name := "w" + strconv.Itoa(i+1)
		s, err := deadletter.Open(deadletter.Config{URL: "redis://redis-1:6379", Password: "one", MaxAge: -1, Network: l.net.Host(name).Process(name)})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		l.stores = append(l.stores, s)
	}
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() { l.keep(ctx, i, rand.New(rand.NewPCG(seed, 10+uint64(i)))) })
	}
	for i := range 3 {
		group.Go(func() { l.lock(ctx, i, rand.New(rand.NewPCG(seed, 20+uint64(i)))) })
	}
	group.Go(l.trouble)
	group.Wait()
	l.check(ctx)
}

// keep keeps letters, some of them again, and drops some.
func (l *letterLife) keep(ctx context.Context, keeper int, random *rand.Rand) {
	var mine []*deadletter.Letter
	for round := range 15 {
		var letters []*deadletter.Letter
		for n := range 1 + random.IntN(4) {
			row := batch.RowID{Batch: batch.ID{Stream: batch.StreamID{byte(keeper)}, Sequence: uint64(round + 1)}, Row: uint32(n)}
			letters = append(letters, &deadletter.Letter{
				ID: deadletter.NewID("F", row, 0, 0, "Save", 0), Sequence: 1, Flow: "F", Function: "Save", Code: batch.CodeFunctionError, Origin: row,
				Row: fmt.Appendf(nil, `{"n":%d}`, n),
			})
		}
		mine = append(mine, letters...)
		if random.IntN(3) == 0 { // the row of an earlier letter has run again
			letters = append(letters, mine[random.IntN(len(mine))])
		}
		for try := 0; ctx.Err() == nil; try++ {
			kept, err := l.stores[random.IntN(3)].Keep(ctx, "F", letters)
			l.note("keeper %d, round %d, try %d: %v, %v", keeper, round, try, kept, err)
			l.mu.Lock()
			for i, ok := range kept { // also those before an error
				if ok {
					l.kept[letters[i].ID] = true
				} else {
					l.t.Errorf("letter %s has no room", letters[i].ID)
				}
			}
			l.mu.Unlock()
			if err == nil {
				break
			}
			time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
		}
		if random.IntN(3) == 0 {
			gone := mine[random.IntN(len(mine))]
			n, err := l.stores[random.IntN(3)].Drop(ctx, "F", []*deadletter.Letter{gone})
			l.note("keeper %d drops %s: %d, %v", keeper, gone.ID, n, err)
			if err == nil && n == 1 { // 0: a failover has lost the letter, or an earlier Drop without an answer took it
				l.mu.Lock()
				l.dropped[gone.ID] = true
				l.mu.Unlock()
			}
		}
		time.Sleep(time.Duration(random.IntN(2500)) * time.Millisecond)
	}
}

// lock takes the lock, now and then.
func (l *letterLife) lock(ctx context.Context, who int, random *rand.Rand) {
	for n := 0; time.Since(l.begin) < l.troubled+10*time.Second; n++ {
		name := fmt.Sprintf("%d/%d", who, n)
		err := l.stores[random.IntN(3)].WithLock(ctx, "F", name, func(ctx context.Context) error {
			l.mu.Lock()
			for other, context := range l.holders {
				if context.Err() == nil && !l.lockLost() {
					l.t.Errorf("%s and %s hold the lock at %v", name, other, time.Since(l.begin))
				}
			}
			l.holders[name] = ctx //nolint:fatcontext // it belongs to this holder alone
			l.held++
			l.mu.Unlock()
			timer := time.NewTimer(time.Duration(random.IntN(9000)) * time.Millisecond)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			l.mu.Lock()
			delete(l.holders, name)
			l.mu.Unlock()
			return nil
		})
		l.note("lock %s: %v", name, err)
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
	}
}

// lockLost reports whether a failover has undone that somebody took the lock, or renewed it.
func (l *letterLife) lockLost() bool {
	for _, w := range l.redis.Journal() {
		if w.Lost && w.Name == "SET" {
			return true
		}
	}
	return false
}

// check holds the letters against what the keepers were told.
func (l *letterLife) check(ctx context.Context) {
	lostKept, lostDropped := map[string]bool{}, false
	for _, w := range l.redis.Journal() {
		switch {
		case w.Lost && w.Name == "XADD":
			lostKept[w.Args[3]] = true
		case w.Lost && w.Name == "XDEL":
			lostDropped = true
		}
	}
	seen := map[batch.StreamID]bool{}
	for after := ""; ; {
		letters, next, err := l.stores[0].Page(ctx, "F", after, "", 100)
		if err != nil {
			l.breach("", "after the troubles the letters can't be read: %v", err)
			return
		}
		for _, letter := range letters {
			switch {
			case seen[letter.ID]:
				l.breach(letter.ID.String(), "letter %s is there twice", letter.ID)
			case l.dropped[letter.ID] && !lostDropped:
				l.breach(letter.ID.String(), "letter %s was dropped, and is there", letter.ID)
			}
			seen[letter.ID] = true
		}
		if after = next; next == "" {
			break
		}
	}
	for id := range l.kept {
		if !seen[id] && !l.dropped[id] && !lostKept[id.String()] {
			gone := false // by a Drop that had no answer
			for _, w := range l.redis.Journal() {
				gone = gone || w.Name == "ZADD" && len(w.Args) > 2 && w.Args[2] == id.String()
			}
			if !gone {
				l.breach(id.String(), "letter %s is kept, and is not there", id)
			}
		}
	}
	if l.held == 0 || len(l.kept) == 0 {
		l.breach("", "the lock was held %d times, %d letters were kept", l.held, len(l.kept))
	}
}
