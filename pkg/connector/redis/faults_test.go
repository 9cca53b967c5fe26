package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/redisfault"
	"github.com/kisgrid/kisgrid/internal/redisreply"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// Each answer that Redis may give has its place.
func TestFaults(t *testing.T) {
	row := []string{
		"WRONGTYPE", "BUSYKEY", "BUSYGROUP", "NOGROUP", "ERR hash value", "ERR value is", "ERR increment", "ERR string exceeds", "ERR no such key",
		"ERR index out", "ERR offset", "ERR Error running script (call to f_437ce46f116f39e706bc4a7bb0529560cbd43251): @user_script:1: WRONGTYPE",
	}
	key := []string{
		"NOPERM this user has no permissions to access one of the keys", "NOPERM No permissions to access a key",
		"ERR The user executing the script can't access at least one of the keys", "ERR ACL failure in script: No permissions to access a key",
	}
	command := []string{"NOPERM", "ERR The user executing", "ERR ACL failure"}
	odd := []string{"ERR something that no list has", "FROZEN", "?"}
	for _, text := range redisfault.Answers() {
		want := storeFault
		switch {
		case hasAnyPrefix(text, row):
			want = rowFault
		case hasAnyPrefix(text, key):
			want = keyFault
		case hasAnyPrefix(text, command):
			want = commandFault
		case hasAnyPrefix(text, odd), text == "ERR":
			want = oddFault
		}
		if got := faultOf(answerError(text)); got != want {
			t.Errorf("%q is fault %d, not %d", text, got, want)
		}
		// The same words are nobody's answer when they were said to the handshake.
		if got := faultOf(&redisreply.Unread{Reason: answerError(text)}); got != storeFault {
			t.Errorf("a handshake that ends with %q is fault %d, not the store's", text, got)
		}
	}
	for _, err := range []error{io.EOF, context.DeadlineExceeded, errors.New("x"), &redisreply.Unread{}} {
		if got := faultOf(err); got != storeFault {
			t.Errorf("%v is fault %d, not the store's", err, got)
		}
	}
}

// rig is a connection whose Redis is behind a server that answers as a test says.
type rig struct {
	*redisfault.Server
	conn    *Connection
	backend *goredis.Client
	saved   atomic.Int64 // names keys
}

func startRig(t *testing.T, params map[string]string, args ...string) *rig {
	t.Helper()
	s := startServer(t, "", args...)
	r := &rig{Server: redisfault.Start(t, s.addr)}
	doc := document(r.Addr())
	doc.Params = map[string]string{"retry_min": "1ms", "retry_max": "2ms", "retries": "2", "pool_size": "2", "dial_timeout": "5s", "db": "1"}
	maps.Copy(doc.Params, params)
	r.conn = open(t, doc)
	r.backend = goredis.NewClient(&goredis.Options{Addr: s.addr, DB: 1, Password: doc.Params["password"]})
	t.Cleanup(func() { _ = r.backend.Close() })
	save(t, r.conn, set("there", "f", "v"))
	return r
}

// try saves and loads once. Whatever becomes of that, nothing is done that is not, and nothing is missing that is there.
func (r *rig) try(t *testing.T, what string) (saving, loading error) {
	t.Helper()
	ctx := patient(t)
	n := strconv.FormatInt(r.saved.Add(1), 10)
	cause := connector.Cause{Flow: "F", Function: "s", Batch: batch.ID{Stream: batch.StreamID{1}, Sequence: uint64(r.saved.Load())}}
	effects := []connector.Effect{set("new"+n, "f", "v"), {Op: connector.Incr, Key: "count" + n, Field: "n", Value: "1", Command: 1}}
	verdicts, saving := r.conn.Save(ctx, cause, effects)
	if saving == nil && verdicts != nil {
		saving = errors.Join(verdicts...)
	}
	for i, e := range effects {
		if done := saving == nil || verdicts != nil && verdicts[i] == nil; done && r.backend.Exists(ctx, e.Key).Val() == 0 {
			t.Errorf("%s: the Save of %s is done, and there is none", what, e.Key)
		}
	}
	values, loading := r.conn.Load(ctx, []string{"there"})
	if loading == nil {
		loading = values[0].Err
		if values[0].Missing() {
			t.Errorf("%s: a key that is there is missing", what)
		}
	}
	// Saved again when nothing is in the way, each effect has taken place once.
	r.Let(nil)
	if verdicts, err := r.conn.Save(ctx, cause, effects); err != nil || verdicts != nil {
		t.Errorf("%s: saved again: %v, %v", what, verdicts, err)
	}
	if sum := r.backend.HGet(ctx, effects[1].Key, "n").Val(); sum != "1" {
		t.Errorf("%s: the sum is %s", what, sum)
	}
	return saving, loading
}

// A connection whose handshake fails carries out nothing, whatever Redis says in it, and however it ends.
func TestHandshakes(t *testing.T) {
	r := startRig(t, map[string]string{"password": "secret"}, "--requirepass", "secret")
	for _, step := range []string{"hello", "auth", "select", "client"} {
		faults := []redisfault.Fault{{Raw: "$-1\r\n"}, {Raw: "*0\r\n"}, {Cut: true}, {Cut: true, Bytes: 3}, {Answer: "ERR x", Cut: true, Bytes: 5}}
		for _, text := range redisfault.Answers() {
			faults = append(faults, redisfault.Error(text))
		}
		for _, f := range faults {
			what := fmt.Sprintf("%s: %+v", step, f)
			var met atomic.Bool
			r.Let(func(args []string) redisfault.Fault {
				if args[0] != step && (step != "auth" || args[0] != "hello") { // AUTH comes only behind a HELLO that failed
					return redisfault.Fault{}
				}
				if args[0] != step {
					return redisfault.Error("ERR unknown command 'HELLO'")
				}
				met.Store(true)
				return f
			})
			r.Cut()
			saving, loading := r.try(t, what)
			if !met.Load() {
				t.Errorf("%s: it was not asked for", what)
			}
			for name, err := range map[string]error{"Save": saving, "Load": loading} {
				// Without HELLO, or with a result that says nothing, the connection is as good.
				fine := step == "hello" && f.Answer != "" && !f.Cut || f.Raw != "" && err == nil
				if err == nil && !fine || err != nil && batch.CodeOf(err) != batch.CodeConnectorUnavailable {
					t.Errorf("%s: %s: %v", what, name, err)
				}
			}
		}
	}
}

// Every command that goes to Redis, answered with every error, in place of being carried out or behind that.
func TestErrorsInPlaceOfAnswers(t *testing.T) {
	r := startRig(t, nil)
	for _, name := range []string{"evalsha", "eval", "hgetall", "pubsub", "exists", "ping", "publish"} {
		for _, text := range redisfault.Answers() {
			for _, done := range []bool{false, true} {
				what := fmt.Sprintf("%s (carried out: %v): %s", name, done, text)
				if name == "eval" {
					r.backend.ScriptFlush(t.Context())
				}
				r.Let(func(args []string) redisfault.Fault {
					if args[0] == name {
						return redisfault.Fault{Answer: text, Done: done}
					}
					return redisfault.Fault{}
				})
				saving, loading := r.try(t, what)
				err, own := saving, batch.CodeSaveFailed
				switch name {
				case "hgetall":
					err, own = loading, batch.CodeConversionFailed
				case "pubsub", "exists", "ping", "publish":
					if saving != nil || loading != nil {
						t.Errorf("%s: %v, %v", what, saving, loading)
					}
					continue
				}
				want := batch.CodeConnectorUnavailable
				if faultOf(answerError(text)) == rowFault {
					want = own
				}
				if strings.HasPrefix(text, "NOSCRIPT") && name == "evalsha" {
					want = 0 // then it is told the script
				}
				if got := batch.CodeOf(errorOf(err)); got != want {
					t.Errorf("%s: %v, not %v: %v", what, got, want, err)
				}
			}
		}
	}
}

// errorOf is the first of joined errors.
func errorOf(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { // as errors.Join makes it
		return joined.Unwrap()[0]
	}
	return err
}

// The connection ends behind every byte of an answer, and before the first.
func TestCutAnswers(t *testing.T) {
	r := startRig(t, nil)
	for _, name := range []string{"evalsha", "eval", "hgetall", "pubsub"} {
		for bytes := range 200 {
			what := fmt.Sprintf("%s cut behind %d bytes", name, bytes)
			if name == "eval" {
				r.backend.ScriptFlush(t.Context())
			}
			r.Let(func(args []string) redisfault.Fault {
				return redisfault.Fault{Cut: args[0] == name, Bytes: bytes}
			})
			saving, loading := r.try(t, what)
			if saving == nil && loading == nil && name != "pubsub" {
				if bytes == 0 {
					t.Errorf("%s: it was not noticed", what)
				}
				break // that was all of it
			}
			for _, err := range []error{saving, loading} {
				if err != nil && batch.CodeOf(err) != batch.CodeConnectorUnavailable {
					t.Errorf("%s: %v", what, err)
				}
			}
			if name == "pubsub" && bytes > 60 {
				break
			}
		}
	}
}

// What Redis says to WAIT decides of a Save that wants replicas, and nothing else does.
func TestWaitIsAskedForEachSave(t *testing.T) {
	s := startServer(t, "")
	server := redisfault.Start(t, s.addr)
	doc := document(server.Addr())
	doc.Replicas, doc.Params = 1, map[string]string{"retry_min": "1ms", "retry_max": "2ms", "retries": "3", "replica_timeout": "10ms"}
	c := open(t, doc)
	faults := []redisfault.Fault{{Raw: ":0\r\n"}, {Raw: "$-1\r\n"}, {Cut: true}, {Raw: ":1\r\n", Cut: true, Bytes: 2}}
	for _, text := range redisfault.Answers() {
		faults = append(faults, redisfault.Error(text))
	}
	for _, f := range faults {
		server.Let(func(args []string) redisfault.Fault {
			if args[0] == "wait" {
				return f
			}
			return redisfault.Fault{}
		})
		if _, err := c.Save(patient(t), connector.Cause{}, []connector.Effect{set("k", "f", "v")}); batch.CodeOf(err) != batch.CodeConnectorUnavailable {
			t.Errorf("WAIT ends with %+v: %v", f, err)
		}
	}
	// A WAIT behind what was sent later says nothing of what went before: its master may have been another one.
	var waits atomic.Int64
	server.Let(func(args []string) redisfault.Fault {
		if args[0] == "wait" {
			return redisfault.Fault{Raw: fmt.Sprintf(":%d\r\n", min(1, waits.Add(1)-1))}
		}
		return redisfault.Fault{}
	})
	if _, err := c.Save(patient(t), connector.Cause{}, sets("k", maxPart+1)); batch.CodeOf(err) != batch.CodeConnectorUnavailable || waits.Load() != 2 {
		t.Errorf("the first of two WAITs failed: %v", err)
	}
	server.Let(func(args []string) redisfault.Fault {
		if args[0] == "wait" {
			return redisfault.Fault{Raw: ":1\r\n"}
		}
		return redisfault.Fault{}
	})
	save(t, c, set("k", "f", "v"))
}

// A key that could not be looked for is not missing for those who wait for it, and costs no other key.
func TestWaitingBehindFaults(t *testing.T) {
	s := startServer(t, "")
	server := redisfault.Start(t, s.addr)
	c := openWith(t, Config{tick: 5 * time.Millisecond}, document(server.Addr()))
	save(t, c, set("one", "f", "v"))
	for _, text := range redisfault.Answers() {
		// All keys together can't be asked for, and neither can one of them.
		server.Let(func(args []string) redisfault.Fault {
			if args[0] == "exists" && (len(args) > 2 || args[1] == "bad") {
				return redisfault.Error(text)
			}
			return redisfault.Fault{}
		})
		if err := await(patient(t), c, "bad", "one", "never"); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A subscription that Redis answers with an error is asked for again: a Load elsewhere is told of the Save, and need not look.
func TestSubscriptionsAreAskedForAgain(t *testing.T) {
	s := startServer(t, "")
	server := redisfault.Start(t, s.addr)
	c := open(t, document(server.Addr()))
	var refused atomic.Int64
	server.Let(func(args []string) redisfault.Fault {
		if args[0] == "subscribe" && refused.Add(1) == 1 {
			return redisfault.Error("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.")
		}
		return redisfault.Fault{}
	})
	ctx := patient(t)
	waiting := make(chan error, 1)
	go func() { waiting <- await(ctx, c, "later") }()
	client := goredis.NewClient(&goredis.Options{Addr: s.addr})
	defer client.Close()
	awaitSubscribed(t, client, 1)
	save(t, open(t, document(s.addr)), set("later", "f", "v"))
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}
