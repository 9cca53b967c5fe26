package deadletter_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/redisfault"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
)

// TestFaults answers the store's handshakes and commands with every error, before or after they are carried out, and cuts connections
// off. If Redis can't be asked, the store returns an error, and never a wrong answer about letters or the lock.
func TestFaults(t *testing.T) {
	address := realRedis(t, "--requirepass", "secret")
	server := redisfault.Start(t, address)
	backend := goredis.NewClient(&goredis.Options{Addr: address, Password: "secret", DB: 1})
	t.Cleanup(func() { _ = backend.Close() })
	s, err := deadletter.Open(deadletter.Config{URL: "redis://" + server.Addr() + "/1", Password: "secret", MaxAge: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	n := 1
	if kept, err := s.Keep(t.Context(), "F", []*deadletter.Letter{letter("F", 0)}); err != nil || !kept[0] {
		t.Fatal(kept, err)
	}
	there := letter("F", 0).ID
	// try does all that can be done with the store, while something may be in the way.
	try := func(t *testing.T, what string) (failures int) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		fails := func(err error) bool {
			if err == nil {
				return false
			}
			failures++
			if code := batch.CodeOf(err); code != batch.CodeUnavailable && code != batch.CodeOverloaded {
				t.Errorf("%s: %v", what, err)
			}
			return true
		}
		fresh := letter("F", n)
		n++
		kept, err := s.Keep(ctx, "F", []*deadletter.Letter{fresh})
		if is := backend.HExists(ctx, "kisgrid:dead:{F}:index", fresh.ID.String()).Val(); !fails(err) && (!kept[0] || !is) {
			t.Errorf("%s: kept %v, and it is there: %v", what, kept, is)
		}
		if found, _, err := s.Get(ctx, "F", there); !fails(err) && len(found) != 1 {
			t.Errorf("%s: a letter that is there is not found", what)
		}
		if all, next, err := s.Page(ctx, "F", "", "", 10); !fails(err) && (len(all) == 0 || next == "") {
			t.Errorf("%s: the list is empty", what)
		}
		if status, err := s.Status(ctx, "F"); !fails(err) && status.Letters == 0 {
			t.Errorf("%s: %+v", what, status)
		}
		if last, err := s.Last(ctx, "F"); !fails(err) && last == "" {
			t.Errorf("%s: there is no last letter", what)
		}
		if flows, err := s.Flows(ctx); !fails(err) && len(flows) != 1 {
			t.Errorf("%s: flows %v", what, flows)
		}
		if begun, err := s.Begin(ctx, "F", []*deadletter.Letter{letter("F", 0)}); !fails(err) && len(begun) != 1 {
			t.Errorf("%s: a letter that is there does not begin", what)
		}
		err = s.WithLock(ctx, "F", "me", func(ctx context.Context) error {
			if backend.Get(ctx, "kisgrid:dead:{F}:redrive").Val() != "me" {
				t.Errorf("%s: a right is held that the store has not given", what)
			}
			return nil
		})
		fails(err)
		if dropped, err := s.Drop(ctx, "F", []*deadletter.Letter{fresh}); !fails(err) && backend.HExists(ctx, "kisgrid:dead:{F}:index", fresh.ID.String()).Val() {
			t.Errorf("%s: %d dropped, and it is still there", what, dropped)
		}
		_, err = s.Ping(ctx)
		fails(err)
		server.Let(nil)
		backend.Del(t.Context(), "kisgrid:dead:{F}:redrive")
		return failures
	}
	if failures := try(t, "nothing"); failures != 0 {
		t.Fatalf("%d calls fail with nothing in the way", failures)
	}
	faults := []redisfault.Fault{{Cut: true}, {Raw: "$-1\r\n"}, {Raw: "*-1\r\n"}, {Raw: "*0\r\n", Done: true, Cut: true, Bytes: 3}}
	for _, text := range redisfault.Answers() {
		faults = append(faults, redisfault.Error(text), redisfault.Fault{Answer: text, Done: true})
	}
	for _, step := range []string{"select", "client"} {
		for _, f := range faults {
			if f.Raw == "*0\r\n" || f.Done {
				continue
			}
			what := fmt.Sprintf("%s: %+v", step, f)
			server.Let(func(args []string) redisfault.Fault {
				if args[0] == step {
					return f
				}
				return redisfault.Fault{}
			})
			server.Cut()
			if named := step == "client" && f.Raw != ""; try(t, what) == 0 && !named { // a name is all that it asks for
				t.Errorf("%s: it is not noticed", what)
			}
		}
	}
	for _, name := range []string{"evalsha", "xrange", "hmget", "get", "xlen", "hgetall", "xrevrange", "smembers", "ping"} {
		for _, f := range faults {
			what := fmt.Sprintf("%s: %+v", name, f)
			if f.Raw == "$-1\r\n" && name == "get" {
				continue // that is how Redis says that there is none
			}
			server.Let(func(args []string) redisfault.Fault {
				if args[0] == name {
					return f
				}
				return redisfault.Fault{}
			})
			try(t, what)
		}
		for bytes := range 40 {
			server.Let(func(args []string) redisfault.Fault { return redisfault.Fault{Cut: args[0] == name, Bytes: bytes} })
			try(t, fmt.Sprintf("%s cut behind %d bytes", name, bytes))
		}
	}
}
