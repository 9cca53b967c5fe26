package redis

import (
	"flag"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

var (
	windowSeed   = flag.Uint64("windows.seed", 0, "seed of TestWindowsAtRandom; 0 draws one")
	windowRounds = flag.Int("windows.rounds", 10, "how many histories TestWindowsAtRandom goes through")
)

// windowed is a document with a once-window.
func windowed(window string, addrs ...string) *definition.Connector {
	doc := document(addrs...)
	doc.Params = map[string]string{"once_window": window}
	return doc
}

// count carries out one effect of a batch, which counts how often it took place.
func count(t *testing.T, c *Connection, cause connector.Cause) error {
	t.Helper()
	verdicts, err := c.Save(t.Context(), cause, []connector.Effect{{
		Op: connector.Incr, Key: "n" + strconv.FormatUint(cause.Batch.Sequence, 10), Field: "n", Value: "1",
	}})
	if verdicts != nil {
		t.Fatal(verdicts)
	}
	return err
}

// A window that is raised holds for the batches from then on. Those before go by the old one, as their records do: they were
// saved twice. What a narrower window saves meanwhile takes nothing from the wider one's records.
func TestRaisedWindow(t *testing.T) {
	for name, addrs := range map[string][]string{"single": {startServer(t, "").addr}, "cluster": startCluster(t)} {
		t.Run(name, func(t *testing.T) {
			client := goredis.NewUniversalClient(&goredis.UniversalOptions{Addrs: addrs})
			defer client.Close()
			cause := connector.Cause{Flow: "F", Function: "s", Batch: batch.ID{Stream: batch.NewStreamID()}, Floor: 1}
			next := func() connector.Cause {
				cause.Batch.Sequence++
				cause.Born = time.Now()
				return cause
			}
			expect := func(c connector.Cause, n string) {
				t.Helper()
				if got := client.HGet(t.Context(), "n"+strconv.FormatUint(c.Batch.Sequence, 10), "n").Val(); got != n {
					t.Errorf("the effect of batch %d took place %q times, not %q", c.Batch.Sequence, got, n)
				}
			}
			narrow := open(t, windowed("200ms", addrs...))
			before := next()
			if err := count(t, narrow, before); err != nil {
				t.Fatal(err)
			}
			tag := ""
			if narrow.cluster != nil {
				tag = slotTags()[slotOf("n1")]
			}
			for ctx := patient(t); client.Exists(ctx, record(&before, tag)).Val() > 0; {
				time.Sleep(10 * time.Millisecond)
			}
			wide := open(t, windowed("1h", addrs...))
			if err := count(t, wide, before); batch.CodeOf(err) != batch.CodeBatchTooOld {
				t.Errorf("a batch from before the window was raised, older than the old one: %v", err)
			}
			expect(before, "1")
			if wide.cluster != nil {
				return // others hear of it later there: TestWindowsAtRandom goes on
			}
			after, other := next(), next()
			for _, c := range []*Connection{wide, narrow, wide} {
				if err := count(t, c, after); err != nil {
					t.Fatal(err)
				}
			}
			if err := count(t, narrow, other); err != nil {
				t.Fatal(err)
			}
			for _, c := range []connector.Cause{after, other} {
				if left := client.PTTL(t.Context(), record(&c, "")).Val(); left < time.Hour {
					t.Errorf("the record is kept for %v", left)
				}
			}
			for time.Since(other.Born) < 300*time.Millisecond {
				time.Sleep(10 * time.Millisecond)
			}
			for _, c := range []connector.Cause{after, other} {
				if err := count(t, wide, c); err != nil {
					t.Errorf("a batch from after: %v", err)
				}
				expect(c, "1")
				if err := count(t, narrow, c); batch.CodeOf(err) != batch.CodeBatchTooOld {
					t.Errorf("over the narrow window: %v", err)
				}
			}
		})
	}
}

// Whatever windows connections have, in whatever order they come and go, no effect takes place twice; and a batch is refused
// only if it is older than its connection's window, or was there before that was, and is older than another.
func TestWindowsAtRandom(t *testing.T) {
	seed := *windowSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	for round := range *windowRounds {
		randomWindows(t, rand.New(rand.NewPCG(seed, uint64(round))))
	}
}

func randomWindows(t *testing.T, dice *rand.Rand) {
	t.Helper()
	server := miniredis.RunT(t)
	defer server.Close()
	now := time.Unix(1_800_000_000, 0)
	server.SetTime(now)
	sizes := []time.Duration{time.Second, 10 * time.Second, time.Minute, time.Hour}
	type user struct {
		*Connection
		window time.Duration
		since  time.Time // it has been in use without a pause
		last   time.Time
	}
	var users []*user
	defer func() {
		for _, u := range users {
			_ = u.Close()
		}
	}()
	cause := connector.Cause{Flow: "F", Function: "s", Batch: batch.ID{Stream: batch.NewStreamID()}, Floor: 1}
	type sent struct {
		connector.Cause
		narrowest time.Duration // in use when it was born, or since
		saved     bool
	}
	var batches []*sent
	for range 120 {
		pass := time.Duration(dice.Int64N(int64(sizes[dice.IntN(len(sizes))]) / 2)).Truncate(time.Millisecond)
		now = now.Add(pass)
		server.SetTime(now)
		server.FastForward(pass)
		switch {
		case len(users) == 0 || dice.IntN(8) == 0:
			u := &user{window: sizes[dice.IntN(len(sizes))], since: now, last: now}
			c, err := Config{tick: -1, now: func() time.Time { return now }}.Open(t.Context(), windowed(u.window.String(), server.Addr()))
			if err != nil {
				t.Fatal(err)
			}
			u.Connection = c.(*Connection)
			users = append(users, u)
		case len(users) > 1 && dice.IntN(12) == 0:
			i := dice.IntN(len(users))
			_ = users[i].Close()
			users = append(users[:i], users[i+1:]...)
		}
		narrowest := users[0].window
		for _, u := range users {
			narrowest = min(narrowest, u.window)
		}
		for _, b := range batches {
			b.narrowest = min(b.narrowest, narrowest)
		}
		var b *sent
		if len(batches) == 0 || dice.IntN(2) == 0 {
			cause.Batch.Sequence++
			cause.Born = now
			b = &sent{Cause: cause, narrowest: narrowest}
			batches = append(batches, b)
		} else {
			b = batches[max(0, len(batches)-1-dice.IntN(10))]
		}
		u := users[dice.IntN(len(users))]
		if now.Sub(u.last) > u.window {
			u.since = now
		}
		u.last = now
		age := now.Sub(b.Born)
		switch err := count(t, u.Connection, b.Cause); {
		case err == nil:
			b.saved = true
		case batch.CodeOf(err) != batch.CodeBatchTooOld:
			t.Fatal(err)
		case age <= min(u.window, b.narrowest), age <= u.window && !u.since.After(b.Born):
			t.Fatalf("a batch of %v is too old for a window of %v, where the narrowest was %v", age, u.window, b.narrowest)
		}
		if got := server.HGet("n"+strconv.FormatUint(b.Batch.Sequence, 10), "n"); b.saved && got != "1" {
			t.Fatalf("the effect took place %s times", got)
		}
	}
}

// A connection that raised its window goes on after the key is gone, or may not be used, as by its document alone.
func TestWindowsMayNotBeUsed(t *testing.T) {
	s := startServer(t, "", "--user", "worker", "on", "nopass", "resetchannels", "&kisgrid:*", "~stu_*", "~kisgrid:once:*", "+@all")
	doc := windowed("2h", s.addr)
	doc.Key, doc.Username = "stu_", "worker"
	doc.Params["password"] = "any"
	log, lines := logged()
	c := openWith(t, Config{Logger: log, tick: -1}, doc)
	if line := lines.await(t, windowsKey); !strings.Contains(line, "[INFO]") {
		t.Errorf("got %s", line)
	}
	cause := connector.Cause{Flow: "F", Function: "s", Batch: batch.ID{Stream: batch.NewStreamID(), Sequence: 1}, Floor: 1, Born: time.Now().Add(-90 * time.Minute)}
	for range 2 {
		if err := count(t, c, cause); err != nil {
			t.Fatal(err)
		}
	}
	if values, err := c.Load(t.Context(), []string{"n1"}); err != nil || values[0].Fields[0].Value != "1" {
		t.Errorf("%v, %v", values, err)
	}
}

// Rights to the key for windows may come and go while a connection is open, and it may hold something that a row of an older build put
// there: Saves go on, and the windows count as soon as they can be used.
func TestWindowsMayBeUsedNowAndThen(t *testing.T) {
	s := startServer(t, "", "--user", "worker", "on", "nopass", "resetchannels", "&kisgrid:*", "~stu_*", "~kisgrid:once:*", "+@all")
	admin := goredis.NewClient(&goredis.Options{Addr: s.addr})
	defer admin.Close()
	do := func(args ...any) {
		t.Helper()
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	doc := windowed("1h", s.addr)
	doc.Key, doc.Username = "stu_", "worker"
	doc.Params["password"], doc.Params["retries"] = "any", "0"
	c := openWith(t, Config{tick: -1, now: func() time.Time { return now }}, doc)
	cause := connector.Cause{Flow: "F", Function: "s", Batch: batch.ID{Stream: batch.NewStreamID()}, Floor: 1, Born: now.Add(-time.Second)}
	saved := func(tries int) {
		t.Helper()
		cause.Batch.Sequence++
		var err error
		for range tries {
			if err = count(t, c, cause); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := admin.HGet(t.Context(), "stu_n"+strconv.FormatUint(cause.Batch.Sequence, 10), "n").Val(); got != "1" {
			t.Errorf("the effect took place %q times", got)
		}
	}
	known := func(want bool) {
		t.Helper()
		if got := admin.HExists(t.Context(), windowsKey, strconv.Itoa(3_600_000)).Val(); got != want {
			t.Errorf("Redis knows of the window: %v", got)
		}
	}
	saved(1)
	known(false)
	do("acl", "setuser", "worker", "~kisgrid:window")
	now = now.Add(windowGrace)
	saved(1)
	known(true)
	do("acl", "setuser", "worker", "resetkeys", "~stu_*", "~kisgrid:once:*")
	saved(2) // the first try may find out
	saved(1)
	do("acl", "setuser", "worker", "~kisgrid:window")
	for _, leftover := range [][]any{{"rpush", windowsKey, "v"}, {"hset", windowsKey, "x", "1 2", "keep", "x"}, {"set", windowsKey, "v"}} {
		do("del", windowsKey)
		do(leftover...)
		now = now.Add(windowGrace)
		saved(1)
		c = openWith(t, Config{tick: -1, now: func() time.Time { return now }}, doc)
		saved(1)
	}
	do("del", windowsKey)
	now = now.Add(windowGrace)
	saved(1)
	known(true)
}
