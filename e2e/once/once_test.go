//go:build linux

// Package once checks that effects take place once. Rows go through an expansion and a loop of jumps, and batches are sent again,
// also through other coordinators. Workers are killed and stopped all the time. In the end Redis must have each effect exactly once.
package once

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/internal/testprocess"
)

// The defaults are those of the test suite; `make soak-once` sets larger ones.
var (
	rowsFlag = flag.Int("once.rows", 250_000, "rows, of all producers together")
	seedFlag = flag.Uint64("once.seed", 1, "what is drawn follows from it")
	gapFlag  = flag.Duration("once.gap", 700*time.Millisecond, "time from one death of a worker to the next")
)

func TestOnce(t *testing.T) {
	t.Logf("seed %d", *seedFlag)
	address := testprocess.Address(t)
	_, r := testgrid.RealRedis(t, address)
	g := startGrid(t, 2, 3, fmt.Sprintf("addrs: %q\nkey: \"once:\"\nsave: [Count]\n", address), documents())
	const producers = 6
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(*rowsFlag)*2*time.Millisecond)
	defer cancel()
	var all []*producer
	for i := range producers {
		p := newProducer(g, i, *seedFlag)
		all = append(all, p)
		bad := p.keys[len(p.keys)-1]
		if err := r.Set(ctx, "once:list0:"+bad, "no list", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	over := make(chan struct{})
	var breaking, producing sync.WaitGroup
	var killed, stopped int
	breaking.Go(func() { killed, stopped = disturb(g, over) })
	for _, p := range all {
		producing.Go(func() {
			if err := p.produce(ctx, *rowsFlag/producers); err != nil {
				t.Error(err)
			}
		})
	}
	producing.Wait()
	took := time.Since(began)
	close(over)
	breaking.Wait()
	batches, resent := 0, 0
	for _, p := range all {
		batches, resent = batches+int(p.sequence), resent+p.resent
		verify(t, r, p)
	}
	t.Logf("%d rows in %d batches, %d of them sent again, took %v; %d workers were killed, %d stopped past their lease",
		*rowsFlag, batches, resent, took.Round(time.Millisecond), killed, stopped)
	if killed == 0 || stopped == 0 {
		t.Errorf("%d workers were killed and %d stopped: this shows nothing", killed, stopped)
	}
	checkRecords(t, r, producers)
}

// disturb kills one worker after the other until over is closed. It stops one in four of them for longer than its lease before it
// kills it. Another worker takes the place of each.
func disturb(g *grid, over <-chan struct{}) (killed, stopped int) {
	random := rand.New(rand.NewPCG(*seedFlag, 1<<32))
	for n := 0; ; n++ {
		select {
		case <-over:
			return killed, stopped
		case <-time.After(*gapFlag):
		}
		w := g.TakeWorker(random.IntN(3))
		g.StartWorker("")
		if n%4 != 1 {
			killed++
			w.Kill()
			continue
		}
		stopped++
		w.Signal(syscall.SIGSTOP)
		time.Sleep(2 * lease)
		w.Signal(syscall.SIGCONT)
		time.Sleep(lease) // meanwhile the worker goes on with the rows that it has
		w.Kill()
	}
}

// verify compares the data of a producer's keys in Redis with the rows that the producer has sent.
func verify(t *testing.T, r *redis.Client, p *producer) {
	t.Helper()
	for _, key := range p.keys {
		n := p.sent[key]
		bad := strings.HasPrefix(key, badPrefix)
		visits := 3 // Count runs for both halves, and for the second half once more
		if bad {
			visits = 2 // Redis refuses the lists of these keys, so that no row comes to Again
		}
		sums, err := r.HGetAll(t.Context(), "once:sum:"+key).Result()
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 && (sums["rows"] != strconv.Itoa(visits*n) || sums["n"] != strconv.Itoa(visits*n*(n+1)/2)) {
			t.Errorf("key %s, of %d rows: the counters are %v, not %d and %d", key, n, sums, visits*n, visits*n*(n+1)/2)
		}
		if bad {
			continue
		}
		for visit, halves := range []int{2, 1} {
			list, err := r.LRange(t.Context(), fmt.Sprintf("once:list%d:%s", visit, key), 0, -1).Result()
			if err != nil {
				t.Fatal(err)
			}
			if len(list) != n*halves {
				t.Errorf("key %s, visit %d: %d entries, not %d", key, visit, len(list), n*halves)
			}
			for i, entry := range list {
				if want := fmt.Sprintf("%d/%d", i/halves+1, i%halves+2-halves); entry != want {
					t.Errorf("key %s, visit %d: entry %d is %s, not %s", key, visit, i, entry, want)
					break
				}
			}
		}
	}
}

// checkRecords checks that the records of effects are bounded by the streams and their open batches, not by the rows.
func checkRecords(t *testing.T, r *redis.Client, streams int) {
	t.Helper()
	records, err := r.Keys(t.Context(), "kisgrid:once:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != streams {
		t.Errorf("%d records for %d streams", len(records), streams)
	}
	for _, record := range records {
		fields, errFields := r.HLen(t.Context(), record).Result()
		left, errLeft := r.PTTL(t.Context(), record).Result()
		if errFields != nil || errLeft != nil || left <= 0 {
			t.Fatalf("record %s is kept for %v: %v, %v", record, left, errFields, errLeft)
		}
		if fields > 2000 {
			t.Errorf("record %s has %d fields", record, fields)
		}
	}
}
