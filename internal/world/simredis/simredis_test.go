package simredis_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"google.golang.org/grpc/test/bufconn"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/redisfault"
	"github.com/kisgrid/kisgrid/internal/world/simredis"
)

// wire is a network of one server: a listener, which may be opened again after its end, and the dialer to it.
type wire struct {
	mu       sync.Mutex
	listener *bufconn.Listener // nil while nobody listens; guarded by mu
}

// Listen is simredis.Config.Listen.
func (w *wire) Listen(context.Context) (net.Listener, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listener = bufconn.Listen(64 << 10)
	return w.listener, nil
}

// Dial connects to the server.
func (w *wire) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	w.mu.Lock()
	l := w.listener
	w.mu.Unlock()
	return l.DialContext(ctx)
}

// rig is a Redis and a client, in a bubble.
type rig struct {
	*simredis.Redis
	*wire
	client *goredis.Client
}

// inBubble runs a test in a bubble with a Redis.
func inBubble(t *testing.T, c simredis.Config, test func(t *testing.T, r rig)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		w := &wire{}
		c.Listen = w.Listen
		s, err := simredis.Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		r := rig{Redis: s, wire: w}
		r.client = r.newClient(c.Password)
		defer r.client.Close()
		test(t, r)
	})
}

// newClient makes a client that tries nothing twice.
func (r rig) newClient(password string) *goredis.Client {
	return goredis.NewClient(&goredis.Options{
		Dialer: r.Dial, Password: password, Protocol: 2, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true, ClientName: "test", PoolSize: 4, ReadTimeout: 2 * time.Minute,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// reconnect lets the client notice that its connections are cut.
func (r rig) reconnect(t *testing.T) {
	t.Helper()
	for range 10 {
		if r.client.Ping(t.Context()).Err() == nil {
			return
		}
	}
	t.Fatal("the client does not reach Redis")
}

// do fails the test unless a command has a result.
func (r rig) do(t *testing.T, want any, args ...any) {
	t.Helper()
	got, err := r.client.Do(t.Context(), args...).Result()
	if errors.Is(err, goredis.Nil) {
		got, err = nil, nil
	}
	if err != nil {
		t.Errorf("%v: %v", args, err)
	} else if got != want {
		t.Errorf("%v: got %#v, want %#v", args, got, want)
	}
}

// refused fails the test unless a command is answered with an error that begins so.
func (r rig) refused(t *testing.T, want string, args ...any) {
	t.Helper()
	err := r.client.Do(t.Context(), args...).Err()
	var said goredis.Error
	if !errors.As(err, &said) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v: got %v, want %q", args, err, want)
	}
}

func TestTimeIsVirtual(t *testing.T) {
	inBubble(t, simredis.Config{}, func(t *testing.T, r rig) {
		r.do(t, "OK", "set", "k", "v", "px", "60000")
		time.Sleep(59 * time.Second)
		r.do(t, "v", "get", "k")
		r.do(t, int64(1000), "pttl", "k")
		time.Sleep(time.Second)
		r.do(t, nil, "get", "k")
		if keys := r.Keys(0); len(keys) != 0 {
			t.Errorf("keys %q", keys)
		}
	})
}

func TestMessages(t *testing.T) {
	inBubble(t, simredis.Config{}, func(t *testing.T, r rig) {
		sub := r.client.Subscribe(t.Context(), "a", "b")
		defer sub.Close()
		messages := sub.Channel()
		synctest.Wait()
		r.do(t, int64(1), "publish", "a", "1")
		r.do(t, int64(0), "publish", "c", "2")
		if n := r.client.PubSubNumSub(t.Context(), "b", "c").Val(); n["b"] != 1 || n["c"] != 0 {
			t.Errorf("subscribers %v", n)
		}
		if m := <-messages; m.Channel != "a" || m.Payload != "1" {
			t.Errorf("got %v", m)
		}
		r.CutAll() // go-redis subscribes again
		time.Sleep(5 * time.Second)
		r.reconnect(t)
		r.do(t, int64(1), "publish", "b", "3")
		if m := <-messages; m.Payload != "3" {
			t.Errorf("got %v", m)
		}
	})
}

func TestPasswords(t *testing.T) {
	inBubble(t, simredis.Config{Password: "one"}, func(t *testing.T, r rig) {
		r.do(t, "OK", "set", "k", "v")
		r.SetPassword("two")
		r.do(t, "v", "get", "k") // the connection stays
		r.CutAll()
		for _, c := range []struct{ password, want string }{{"one", "WRONGPASS"}, {"", "NOAUTH"}, {"two", ""}} {
			client := r.newClient(c.password)
			err := client.Get(t.Context(), "k").Err()
			if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("with the password %q: %v", c.password, err)
			}
			_ = client.Close()
		}
	})
}

const scripted = `redis.call('HSET', KEYS[1], 'f', ARGV[1])
redis.call('RPUSH', KEYS[2], ARGV[1])
return redis.call('HINCRBY', KEYS[1], 'n', 2)`

func TestTroubles(t *testing.T) {
	inBubble(t, simredis.Config{}, func(t *testing.T, r rig) {
		r.do(t, int64(2), "eval", scripted, 2, "h", "l", "x")
		r.Fill(true)
		r.refused(t, "OOM command not allowed when used memory > 'maxmemory'.", "hset", "h", "f", "y")
		r.refused(t, "OOM command not allowed when used memory > 'maxmemory'. script: ", "eval", scripted, 2, "h", "l", "y")
		r.do(t, int64(1), "del", "l")
		r.do(t, int64(2), "eval", "redis.call('DEL', KEYS[1]) "+scripted, 2, "h", "l", "x") // it has written before
		r.do(t, "x", "hget", "h", "f")
		r.Fill(false)
		r.ReadOnly(true)
		r.refused(t, "READONLY You can't write against a read only replica.", "del", "h")
		r.do(t, "x", "hget", "h", "f")
		r.ReadOnly(false)
		r.Load(true)
		r.refused(t, "LOADING", "hget", "h", "f")
		r.Load(false)
		r.RefuseWrites("MISCONF Errors writing to the AOF file: No space left on device")
		r.refused(t, "MISCONF", "hset", "h", "f", "y")
		r.RefuseWrites("")
		r.do(t, int64(0), "hset", "h", "f", "y")
	})
}

func TestFailover(t *testing.T) {
	inBubble(t, simredis.Config{Replicas: 1, Lag: time.Second}, func(t *testing.T, r rig) {
		r.do(t, int64(2), "eval", scripted, 2, "h", "l", "old")
		r.do(t, "1-1", "xadd", "s", "1-1", "f", "v")
		r.do(t, "OK", "set", "k", "v", "px", "60000")
		begin := time.Now()
		r.do(t, int64(0), "wait", 1, 500)
		r.do(t, int64(1), "wait", 1, 0)
		if took := time.Since(begin); took != time.Second {
			t.Errorf("WAIT took %v", took)
		}
		time.Sleep(10 * time.Second)
		r.do(t, int64(4), "eval", scripted, 2, "h", "l", "new")
		time.Sleep(time.Second / 2)
		if err := r.Failover(); err != nil {
			t.Fatal(err)
		}
		if got := r.Hash(0, "h"); got["f"] != "old" || got["n"] != "2" {
			t.Errorf("the hash is %v", got)
		}
		if got := r.List(0, "l"); !slices.Equal(got, []string{"old"}) {
			t.Errorf("the list is %v", got)
		}
		r.reconnect(t)
		r.do(t, int64(48500), "pttl", "k")
		r.do(t, int64(1), "xlen", "s")
		lost := 0
		for _, w := range r.Journal() {
			if w.Lost {
				lost++
			}
		}
		if lost != 3 {
			t.Errorf("%d writes of the journal are lost, not 3", lost)
		}
		if err := r.Restart(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		r.reconnect(t)
		r.do(t, "old", "hget", "h", "f")
		if err := r.Restart(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		r.reconnect(t)
		r.do(t, int64(0), "dbsize")
	})
}

func TestFaults(t *testing.T) {
	inBubble(t, simredis.Config{}, func(t *testing.T, r rig) {
		r.do(t, "PONG", "ping")
		unread := func(what string) {
			t.Helper()
			var said goredis.Error
			if err := r.client.Incr(t.Context(), "n").Err(); err == nil || errors.As(err, &said) {
				t.Errorf("%s: %v", what, err)
			}
		}
		counted := func(what, want string) {
			t.Helper()
			r.Let(nil)
			if got := r.client.Get(t.Context(), "n").Val(); got != want {
				t.Errorf("%s: it was counted %s times, not %s", what, got, want)
			}
		}
		r.do(t, int64(1), "incr", "n")
		r.Let(simredis.At(1, simredis.Fault{Cut: true}, "incr"))
		unread("cut before")
		counted("cut before", "1")
		r.Let(simredis.At(1, simredis.Fault{Cut: true, Done: true}, "incr"))
		unread("cut behind")
		counted("cut behind", "2")
		r.Let(simredis.At(1, simredis.Fault{Cut: true, Done: true, Bytes: 2}, "incr"))
		unread("cut within")
		counted("cut within", "3")
		for _, text := range redisfault.Answers() {
			r.Let(simredis.At(1, simredis.Fault{Answer: text}, "get"))
			if err := r.client.Get(t.Context(), "n").Err(); err == nil || strings.TrimSpace(err.Error()) != strings.TrimSpace(text) {
				t.Errorf("answered %q: %v", text, err)
			}
		}
		begin := time.Now()
		r.Let(simredis.At(1, simredis.Fault{Delay: time.Second}, "get"))
		r.do(t, "3", "get", "n")
		if took := time.Since(begin); took != time.Second {
			t.Errorf("the late answer came after %v", took)
		}
		r.Let(simredis.At(1, simredis.Fault{Hang: true}, "get"))
		time.AfterFunc(time.Minute, r.CutAll)
		if err := r.client.Get(t.Context(), "n").Err(); !errors.Is(err, io.EOF) || time.Since(begin) != time.Minute+time.Second {
			t.Errorf("the hanging command ended with %v after %v", err, time.Since(begin))
		}
		r.Let(nil)
		begin = time.Now()
		r.Pause()
		time.AfterFunc(time.Minute, r.Resume)
		r.do(t, "3", "get", "n")
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("the paused Redis answered after %v", took)
		}
	})
}

func TestTransactions(t *testing.T) {
	inBubble(t, simredis.Config{}, func(t *testing.T, r rig) {
		pipe := r.client.TxPipeline()
		pipe.Incr(t.Context(), "n")
		got := pipe.Get(t.Context(), "n")
		if _, err := pipe.Exec(t.Context()); err != nil || got.Val() != "1" {
			t.Errorf("got %v, %v", got, err)
		}
		if n := len(r.Journal()); n != 1 {
			t.Errorf("the journal has %d writes", n)
		}
	})
}
