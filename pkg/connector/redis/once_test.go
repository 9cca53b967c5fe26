package redis

import (
	"flag"
	"strconv"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

var recordRows = flag.Int("records.rows", 400_000, "rows that TestRecordsAreBounded saves")

// What Redis remembers is bounded by streams and what they have open, however many rows have gone through.
func TestRecordsAreBounded(t *testing.T) {
	s := startServer(t, "")
	c := open(t, document(s.addr))
	client := goredis.NewClient(&goredis.Options{Addr: s.addr})
	defer client.Close()
	const streams, open, rows = 4, 8, 1000 // batches that are open, and rows of a batch
	var causes [streams]connector.Cause
	for i := range causes {
		causes[i] = connector.Cause{Flow: "F", Function: "s", Batch: batch.ID{Stream: batch.NewStreamID()}}
	}
	effects := make([]connector.Effect, rows)
	for i := range effects {
		effects[i] = connector.Effect{Op: connector.Incr, Key: strconv.Itoa(i), Field: "n", Value: "1", Row: uint32(i)}
	}
	batches := *recordRows / rows / streams
	most, bytes := int64(0), int64(0)
	for n := range batches {
		for i := range causes {
			cause := &causes[i]
			cause.Batch.Sequence, cause.Floor = uint64(n+1), uint64(max(1, n-open))
			if verdicts, err := c.Save(t.Context(), *cause, effects); err != nil || verdicts != nil {
				t.Fatal(verdicts, err)
			}
			if n%50 == 49 {
				most = max(most, client.HLen(t.Context(), record(cause, "")).Val())
				bytes = max(bytes, client.MemoryUsage(t.Context(), record(cause, ""), 0).Val())
			}
		}
	}
	t.Logf("%d rows: a record has %d fields at the most, in %d bytes", streams*batches*rows, most, bytes)
	if limit := int64(2*(open+4) + 64 + 2); most > limit {
		t.Errorf("a record of %d open batches has %d fields, over %d", open, most, limit)
	}
	records := client.Keys(t.Context(), "kisgrid:once:*").Val()
	if len(records) != streams {
		t.Errorf("%d records of %d streams", len(records), streams)
	}
	for _, key := range records {
		if left := client.PTTL(t.Context(), key).Val(); left <= connector.OnceWindow || left > 2*connector.OnceWindow {
			t.Errorf("a record is kept for %v", left)
		}
	}
	if n := client.HGet(t.Context(), "0", "n").Val(); n != strconv.Itoa(streams*batches) {
		t.Errorf("a counter is %s, not %d", n, streams*batches)
	}
}

// A record that is gone while the process goes on, as after a restart of Redis, and a script that Redis forgot, are no errors.
func TestRedisForgets(t *testing.T) {
	s := startServer(t, "")
	c := open(t, document(s.addr))
	client := goredis.NewClient(&goredis.Options{Addr: s.addr})
	defer client.Close()
	cause := connector.Cause{Flow: "F", Function: "s", Batch: batch.ID{Sequence: 1}, Born: time.Now()}
	for n := range 3 {
		if verdicts, err := c.Save(t.Context(), cause, []connector.Effect{{Op: connector.Incr, Key: "k", Field: "n", Value: "1"}}); err != nil || verdicts != nil {
			t.Fatal(verdicts, err)
		}
		if n == 0 {
			client.ScriptFlush(t.Context())
		} else if got := client.HGet(t.Context(), "k", "n").Val(); got != "1" {
			t.Errorf("the effect took place %s times", got)
		}
	}
	client.Del(t.Context(), record(&cause, ""))
	if _, err := c.Save(t.Context(), cause, []connector.Effect{{Op: connector.Incr, Key: "k", Field: "n", Value: "1"}}); err != nil {
		t.Fatal(err)
	}
	if got := client.HGet(t.Context(), "k", "n").Val(); got != "2" {
		t.Errorf("without its record the effect took place %s times in all", got)
	}
}
