package redis

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"google.golang.org/grpc/test/bufconn"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/world/simredis"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// openLog saves for so many positions of a log from the one first on, each of which changes a key of its own, in batches of 1,000.
func openLog(t *testing.T, c *Connection, log batch.LogID, first, n, floor uint64) {
	t.Helper()
	for at := first; at < first+n; at += 1000 {
		effects := make([]connector.Effect, min(1000, first+n-at))
		for i := range effects {
			effects[i] = connector.Effect{Op: connector.Set, Key: "k" + strconv.FormatUint(at+uint64(i), 10), Field: "f", Value: "v", Position: at + uint64(i)}
		}
		cause := connector.Cause{
			Flow: "F", Function: "s", Batch: batch.ID{Stream: batch.NewStreamID(), Sequence: 1}, Born: time.Now(),
			Log: &connector.Log{ID: log, Term: 1, Floor: floor},
		}
		if verdicts, err := c.Save(t.Context(), cause, effects); err != nil || verdicts != nil {
			t.Fatalf("Save: %v, %v", verdicts, err)
		}
	}
}

// logRecords returns the keys of the records of a log at one server.
func logRecords(t *testing.T, r *goredis.Client, log batch.LogID) []string {
	t.Helper()
	keys, err := r.Keys(t.Context(), "kisgrid:once:*log-"+log.String()+":*").Result()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// The record of a log is as small as decision 20 says, drops what lies below the floor, and is kept for connector.LogKeep.
func TestLogRecordsAreSmall(t *testing.T) {
	s := startServer(t, "")
	c := open(t, document(s.addr))
	r := goredis.NewClient(&goredis.Options{Network: "unix", Addr: s.addr})
	defer r.Close()
	log := batch.LogIDOf(t.Name())
	size := func() int64 {
		t.Helper()
		keys := logRecords(t, r, log)
		if len(keys) != 1 {
			t.Fatalf("the log has the records %v", keys)
		}
		if left := r.TTL(t.Context(), keys[0]).Val(); left < connector.LogKeep-time.Hour || left > connector.LogKeep {
			t.Errorf("the record is kept for %v", left)
		}
		n, err := r.MemoryUsage(t.Context(), keys[0], 0).Result()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const positions = 100_000
	openLog(t, c, log, 1<<40, positions, 1<<40)
	if n := size(); n > 32<<10 {
		t.Errorf("%d open positions take %d bytes", positions, n)
	}
	for at := uint64(1 << 40); at < 1<<40+20*positions; at += positions { // the floor follows
		openLog(t, c, log, at+positions, 1000, at+positions)
	}
	if n := size(); n > 32<<10 {
		t.Errorf("1,000 open positions take %d bytes, after the floor has risen", n)
	}
}

// On a Cluster a slot's record stays small, too.
func TestLogRecordsOfCluster(t *testing.T) {
	addrs := startCluster(t)
	c := open(t, document(addrs...))
	log := batch.LogIDOf(t.Name())
	const positions = 50_000
	openLog(t, c, log, 0, positions, 0)
	records, bytes := 0, int64(0)
	for _, addr := range addrs {
		r := goredis.NewClient(&goredis.Options{Addr: addr})
		keys := logRecords(t, r, log)
		records += len(keys)
		for _, key := range keys[:min(300, len(keys))] {
			bytes += r.MemoryUsage(t.Context(), key, 0).Val()
		}
		_ = r.Close()
	}
	each := bytes / int64(min(300, records/3)*3)
	t.Logf("%d records, %d bytes each", records, each)
	if each > 400 {
		t.Errorf("a slot's record takes %d bytes", each)
	}
}

// A reader that stands still for five once-windows changes nothing with the batch that it had made before; with new batches it goes on, and
// what its log had done is still known.
func TestReaderStandsStill(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &oneServer{listener: bufconn.Listen(1 << 20)}
		server, err := simredis.Start(t.Context(), simredis.Config{Listen: func(context.Context) (net.Listener, error) { return s.listener, nil }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Close)
		doc := document("redis:6379")
		doc.Params = map[string]string{"once_window": "2s"}
		c := openWith(t, Config{Network: s, tick: -1}, doc)
		log := batch.LogIDOf(t.Name())
		save := func(born time.Time, term uint64, positions ...uint64) error {
			var effects []connector.Effect
			for _, at := range positions {
				effects = append(effects, connector.Effect{Op: connector.Append, Key: "list", Value: strconv.FormatUint(at, 10), Position: at})
			}
			_, err := c.Save(t.Context(), connector.Cause{
				Flow: "F", Function: "s", Batch: batch.ID{Stream: batch.NewStreamID(), Sequence: 1}, Born: born, Log: &connector.Log{ID: log, Term: term},
			}, effects)
			return err
		}
		made := time.Now()
		if err := save(made, 1, 0, 1, 2); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if err := save(made, 1, 3, 4); batch.CodeOf(err) != batch.CodeBatchTooOld {
			t.Errorf("a batch that is five windows old: %v", err)
		}
		if err := save(time.Now(), 1, 1, 2, 3); err != nil { // the same reader, in a new batch
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		if err := save(time.Now(), 2, 0, 1, 2, 3, 4); err != nil { // another reader, from the beginning
			t.Error(err)
		}
		if err := save(time.Now(), 1, 4, 5); batch.CodeOf(err) != batch.CodeLogSuperseded {
			t.Errorf("the first reader, superseded: %v", err)
		}
		if got := strings.Join(server.List(0, "list"), " "); got != "0 1 2 3 4" {
			t.Errorf("the list has %s", got)
		}
	})
}
