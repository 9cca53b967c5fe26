package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/kisgrid/kisgrid/internal/redisfault"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// What Redis answers about one key of several costs that key alone, unless it is about Redis. A key that is alone is judged as it
// would be among others.
func TestOneKeyOfSeveral(t *testing.T) {
	r := startRig(t, map[string]string{"retries": "0"})
	save(t, r.conn, set("bad", "f", "v"))
	others := []connector.Effect{set("a", "f", "v"), set("bad", "f", "w"), set("b", "f", "v"), set("bad", "g", "w"), {Op: connector.Append, Key: "c", Value: "v"}}
	for _, text := range redisfault.Answers() {
		f := faultOf(answerError(text))
		r.Let(func(args []string) redisfault.Fault {
			if args[0] == "hgetall" && args[1] == "bad" || args[0] == "evalsha" && slices.Contains(args, "bad") {
				return redisfault.Error(text)
			}
			return redisfault.Fault{}
		})
		for name, effects := range map[string][]connector.Effect{"several": others, "alone": {set("bad", "f", "w")}} {
			verdicts, err := r.conn.Save(patient(t), connector.Cause{}, effects)
			if strings.HasPrefix(text, "NOSCRIPT") { // then it is told the script
				continue
			}
			if f == storeFault {
				if batch.CodeOf(err) != batch.CodeConnectorUnavailable {
					t.Errorf("%s (%s): Save: %v, %v", text, name, verdicts, err)
				}
				continue
			}
			if err != nil || len(verdicts) != len(effects) {
				t.Errorf("%s (%s): Save: %v, %v", text, name, verdicts, err)
				continue
			}
			for i, e := range effects {
				if (batch.CodeOf(verdicts[i]) == batch.CodeSaveFailed) != (e.Key == "bad") {
					t.Errorf("%s (%s): the effect on %s: %v", text, name, e.Key, verdicts[i])
				}
			}
		}
		for name, keys := range map[string][]string{"several": {"a", "bad", "b"}, "alone": {"bad"}} {
			values, err := r.conn.Load(patient(t), keys)
			if f == storeFault {
				if batch.CodeOf(err) != batch.CodeConnectorUnavailable {
					t.Errorf("%s (%s): Load: %v, %v", text, name, values, err)
				}
				continue
			}
			for i, key := range keys {
				if err != nil || (batch.CodeOf(values[i].Err) == batch.CodeConversionFailed) != (key == "bad") {
					t.Errorf("%s (%s): Load of %s: %v, %v", text, name, key, values, err)
				}
			}
		}
	}
	if keys, err := r.backend.Keys(t.Context(), "*probe*").Result(); err != nil || len(keys) > 0 {
		t.Errorf("probes left %v behind, error %v", keys, err)
	}
}

// Rights that the user lacks to one key cost that key's rows, rights to a command are for somebody to mend: the rows wait.
func TestRights(t *testing.T) {
	s := startServer(t, "")
	client := goredis.NewClient(&goredis.Options{Addr: s.addr})
	defer client.Close()
	for _, rights := range []string{"+@all", "+@all -rpush", "+@all -hset"} {
		for _, keys := range []string{"~ok* ~{}* ~kisgrid:once:*", "~ok* ~kisgrid:once:*"} {
			for _, of := range []batch.StreamID{{}, {1}} {
				name := fmt.Sprintf("%s %s, batch of %v", rights, keys, of)
				client.FlushAll(t.Context())
				user := []any{"acl", "setuser", "worker", "reset", "on", ">secret", "&*"}
				for right := range strings.FieldsSeq(rights + " " + keys) {
					user = append(user, right)
				}
				if err := client.Do(t.Context(), user...).Err(); err != nil {
					t.Fatal(err)
				}
				doc := document(s.addr)
				doc.Username, doc.Params = "worker", map[string]string{"password": "secret", "retries": "0"}
				c := open(t, doc)
				cause := connector.Cause{Flow: "F", Function: "s"}
				if cause.Batch.Stream = of; of != (batch.StreamID{}) {
					cause.Batch.Sequence = 1
				}
				client.HSet(t.Context(), "ok-gone", "f", "v")
				effects := []connector.Effect{
					{Op: connector.Incr, Key: "ok1", Field: "n", Value: "1"}, {Op: connector.Incr, Key: "no", Field: "n", Value: "1"},
					{Op: connector.Append, Key: "ok2", Value: "v"}, {Op: connector.Incr, Key: "ok3", Field: "n", Value: "1"},
					set("ok-gone", "f", "v"), {Op: connector.Delete, Key: "ok-gone"},
				}
				for i := range effects {
					effects[i].Row = uint32(i)
				}
				verdicts, err := c.Save(patient(t), cause, effects)
				if rights == "+@all" {
					for i := range effects {
						if err != nil || len(verdicts) != len(effects) || (batch.CodeOf(verdicts[i]) == batch.CodeSaveFailed) != (i == 1) {
							t.Fatalf("%s: %v, %v", name, verdicts, err)
						}
					}
				} else if batch.CodeOf(err) != batch.CodeConnectorUnavailable || !strings.Contains(err.Error(), "give the user the rights") {
					t.Errorf("%s: %v, %v", name, verdicts, err)
				}
				sum := "1"
				if rights == "+@all -hset" && cause.Batch.Sequence > 0 {
					sum = "" // what takes place can't be noted
				}
				for _, key := range []string{"ok1", "ok3"} {
					if got := client.HGet(t.Context(), key, "n").Val(); got != sum {
						t.Errorf("%s: %s is %q, not %q", name, key, got, sum)
					}
				}
				// What could not be set is not deleted before it is.
				if there := client.Exists(t.Context(), "ok-gone").Val() == 1; there != (rights == "+@all -hset") {
					t.Errorf("%s: the key set and deleted is there: %v", name, there)
				}
				values, err := c.Load(patient(t), []string{"ok1", "no"})
				if err != nil || values[0].Missing() != (sum == "") || batch.CodeOf(values[1].Err) != batch.CodeConversionFailed {
					t.Errorf("%s: Load: %v, %v", name, values, err)
				}
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// One value that can't be added holds up nobody.
func TestBadAddendHoldsUpNobody(t *testing.T) {
	doc := document(startServer(t, "").addr)
	doc.Params = map[string]string{"retry_min": "1h", "retry_max": "1h"} // a pause would not end
	c := open(t, doc)
	save(t, c, set("held", "f", "inf"))
	ctx := patient(t)
	for _, e := range []connector.Effect{
		{Op: connector.Incr, Key: "n", Field: "f", Value: "inf"}, {Op: connector.Incr, Key: "n", Field: "f", Value: "nan"},
		{Op: connector.Incr, Key: "held", Field: "f", Value: "1"}, {Op: connector.Incr, Key: "n", Field: "f", Value: "1e5000"},
	} {
		verdicts, err := c.Save(ctx, connector.Cause{}, []connector.Effect{set("before", "f", "v"), e, set("behind", "f", "v")})
		if err != nil || len(verdicts) != 3 || verdicts[0] != nil || verdicts[2] != nil || batch.CodeOf(verdicts[1]) != batch.CodeSaveFailed {
			t.Errorf("%+v: %v, %v", e, verdicts, err)
		}
	}
}

// A Redis that refuses writes and answers reads is not up, until it takes writes again; which is seen although nobody saves.
func TestOutageOfWrites(t *testing.T) {
	s := startServer(t, "")
	client := goredis.NewClient(&goredis.Options{Addr: s.addr})
	defer client.Close()
	config := func(settings ...string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			for i := 0; i < len(settings); i += 2 {
				if err := client.ConfigSet(t.Context(), settings[i], settings[i+1]).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	acl := func(right string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if err := client.Do(t.Context(), "acl", "setuser", "worker", right).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := client.Do(t.Context(), "acl", "setuser", "worker", "on", "nopass", "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	replica := func(of ...any) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if err := client.Do(t.Context(), append([]any{"replicaof"}, of...)...).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		breaks, mends func(*testing.T)
		says          string
	}{
		"full":        {config("maxmemory", "1"), config("maxmemory", "0"), "raise maxmemory"},
		"no replicas": {config("min-replicas-to-write", "3"), config("min-replicas-to-write", "0"), "min-replicas-to-write"},
		"a replica":   {replica("127.0.0.1", "1"), replica("no", "one"), "addrs must lead to the master"},
		"no right":    {acl("-hset"), acl("+hset"), "give the user the rights"},
		"no key":      {acl("resetkeys"), acl("~*"), "give the user the rights"},
		"read only":   {acl("-@write"), acl("+@write"), "give the user the rights"},
		"no script":   {acl("-evalsha"), acl("+evalsha"), "give the user the rights"},
	} {
		t.Run(name, func(t *testing.T) {
			log, lines := logged()
			m := newMeter()
			doc := document(s.addr)
			doc.Username, doc.Params = "worker", map[string]string{"password": "x", "retries": "1", "retry_min": "1ms", "retry_max": "1ms"}
			c := openWith(t, Config{Logger: log, Metrics: m.metrics, tick: 5 * time.Millisecond}, doc)
			save(t, c, set("k", "f", "v"))
			test.breaks(t)
			_, err := c.Save(patient(t), connector.Cause{}, []connector.Effect{set("k", "f", "v")})
			if batch.CodeOf(err) != batch.CodeConnectorUnavailable || !strings.Contains(err.Error(), test.says) {
				t.Errorf("Save: %v", err)
			}
			lines.await(t, "redis does not take what is saved")
			// Nothing that Redis does meanwhile hides it.
			for range 30 {
				_ = c.Ping(t.Context())
				_, _ = c.Load(t.Context(), []string{"k"})
				if up := m.up(t); up != 0 {
					t.Fatalf("up is %v while nothing can be saved", up)
				}
			}
			test.mends(t)
			lines.await(t, "redis takes what is saved again")
			for up := 0.0; up != 1; up = m.up(t) { // reads may have failed, too
				if err := patient(t).Err(); err != nil {
					t.Fatal(err)
				}
			}
			save(t, c, set("k", "f", "v"))
		})
	}
}

// A value, a field or a key that is longer than Redis takes costs its row alone: Redis would cut the connection of all.
func TestTooLongForRedis(t *testing.T) {
	s := startServer(t, "", "--proto-max-bulk-len", "1mb")
	doc := document(s.addr)
	doc.Params = map[string]string{"retry_min": "1h", "retry_max": "1h"} // a pause would not end
	c := open(t, doc)
	ctx, long := patient(t), strings.Repeat("x", 1<<20+1)
	most := long[1:]
	for _, e := range []connector.Effect{
		set("k", "f", long), set("k", long, "v"), set(long, "f", "v"), {Op: connector.Append, Key: "l", Value: long}, {Op: connector.Delete, Key: long},
		{Op: connector.Incr, Key: "n", Field: long, Value: "1"},
	} {
		verdicts, err := c.Save(ctx, connector.Cause{Flow: "F", Function: "s"}, []connector.Effect{set("before", "f", "v"), e, set("behind", "f", most)})
		if err != nil || len(verdicts) != 3 || verdicts[0] != nil || verdicts[2] != nil || batch.CodeOf(verdicts[1]) != batch.CodeSaveFailed ||
			!strings.Contains(verdicts[1].Error(), "proto-max-bulk-len") {
			t.Errorf("op %v: %v, %v", e.Op, verdicts, err)
		}
	}
	values, err := c.Load(ctx, []string{"before", long, "behind"})
	if err != nil || batch.CodeOf(values[1].Err) != batch.CodeConversionFailed || values[0].Missing() || values[2].Missing() {
		t.Errorf("Load: %v", err)
	}
	if values, err := c.Load(ctx, []string{long}); err != nil || batch.CodeOf(values[0].Err) != batch.CodeConversionFailed {
		t.Errorf("Load of the long key alone: %v", err)
	}
}

// Who has no time left for a Redis that is of no use hears why it is.
func TestEndedCallTellsWhatKeptIt(t *testing.T) {
	s := startServer(t, "")
	client := goredis.NewClient(&goredis.Options{Addr: s.addr})
	defer client.Close()
	doc := document(s.addr)
	doc.Params = map[string]string{"retry_min": "1h", "retry_max": "1h"} // a pause would not end
	log, lines := logged()
	c := openWith(t, Config{Logger: log, tick: -1}, doc)
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(patient(t))
	defer cancel()
	var saving errgroup.Group
	saving.Go(func() error {
		_, err := c.Save(ctx, connector.Cause{}, []connector.Effect{set("k", "f", "v")})
		return err
	})
	lines.await(t, "redis does not take what is saved")
	cancel()
	err := saving.Wait()
	if batch.CodeOf(err) != batch.CodeCancelled || !errors.Is(err, context.Canceled) || !strings.Contains(fmt.Sprint(err), "OOM command not allowed") ||
		!strings.Contains(fmt.Sprint(err), "raise maxmemory") {
		t.Errorf("the error is %v", err)
	}
}
