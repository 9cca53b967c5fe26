package redis

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// echo is a server that answers each command with an error which says what it was, as Redis does where it knows less than we
// ask for.
func echo(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				for in := bufio.NewReader(conn); ; {
					line, err := in.ReadString('\n')
					n, _ := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "*")))
					if err != nil {
						return
					}
					var args []string
					for range n {
						size, err := in.ReadString('\n')
						length, _ := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(size, "$")))
						arg := make([]byte, length+2)
						if _, errArg := readFull(in, arg); err != nil || errArg != nil {
							return
						}
						args = append(args, strings.NewReplacer("\r", " ", "\n", " ").Replace(string(arg[:min(length, 128)])))
					}
					fmt.Fprintf(conn, "-ERR unknown command, with args beginning with: '%s'\r\n", strings.Join(args, "' '"))
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return l.Addr().String()
}

func readFull(in *bufio.Reader, into []byte) (n int, err error) {
	for n < len(into) && err == nil {
		var m int
		m, err = in.Read(into[n:])
		n += m
	}
	return n, err
}

// No message has a value that a document's ${NAME} stands for: neither an error nor a log line, wherever in the document the name
// stands, whatever goes wrong with it, and however the message shows it.
func TestValuesStandInNoMessage(t *testing.T) {
	t.Cleanup(func() { // go-redis looks once a second whether a server is back that it could not reach, and notices then that it is closed
		for tries := 0; tries < 30 && goleak.Find() != nil; tries++ {
		}
	})
	values := []string{
		"hunter2", "sesame-0pen", "p4ss \"w0rd\"\n%41/ü", "x7q", "90000ms1", strings.Repeat("longer than long, ", 12), "host.invalid:sesame", "a.invalid:1,b.invalid:hunter3",
		"redis://anna:sesame9@h.invalid:1/x", "\xff\xfehidden\x00", "[::sesame", "1h7m", "/no/such/secret/file",
	}
	live, mute := miniredis.RunT(t).Addr(), echo(t)
	locked := miniredis.RunT(t)
	locked.RequireUserAuth("worker", "other")
	spots := map[string]func(*definition.Connector){
		"addrs": func(c *definition.Connector) { c.Addrs = []string{"${S}"} }, "a host": func(c *definition.Connector) { c.Addrs = []string{"${S}:6379"} },
		"a port": func(c *definition.Connector) { c.Addrs = []string{"127.0.0.1:${S}"} }, "key": func(c *definition.Connector) { c.Key = "${S}" },
		"username": func(c *definition.Connector) { c.Username, c.Params["password"] = "${S}", "p" }, "password_file": func(c *definition.Connector) { c.PasswordFile = "${S}" },
	}
	for _, name := range []string{
		"password", "pool_size", "db", "retries", "retry_min", "retry_max", "replica_timeout", "read_timeout", "write_timeout", "dial_timeout", "once_window",
		"master", "sentinel_username", "sentinel_password", "cluster", "tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "tls_skip_verify", "unknown",
	} {
		spots[name] = func(c *definition.Connector) { c.Params[name] = "${S}" }
		spots["part of "+name] = func(c *definition.Connector) { c.Params[name] = "1${S}" }
	}
	var said atomic.Int64
	addrs := []string{live, mute, locked.Addr(), "127.0.0.1:1"}
	var group errgroup.Group
	group.SetLimit(16)
	for i, value := range values {
		lookup := func(name string) (string, bool) { return value, name == "S" }
		for j, spot := range slices.Sorted(maps.Keys(spots)) {
			c := document(addrs[(i+j)%len(addrs)])
			group.Go(func() error {
				c.Params = map[string]string{"retries": "0", "retry_min": "1ms", "dial_timeout": "100ms", "read_timeout": "100ms", "replica_timeout": "50ms"}
				spots[spot](c)
				var log bytes.Buffer
				logger := hclog.New(&hclog.LoggerOptions{Output: &locking{out: &log}, Level: hclog.Trace, DisableTime: true})
				pool := connector.NewPool(map[string]connector.Opener{"redis": Config{Logger: logger, tick: time.Hour}.Open}, lookup, logger, nil)
				told := messages(t, pool, c)
				if err := pool.Close(); err != nil {
					told = append(told, err.Error())
				}
				said.Add(int64(len(told)))
				for _, text := range append(told, log.String()) {
					for _, form := range []string{value, strings.Trim(strconv.Quote(value), `"`), value[:min(len(value), 24)]} {
						if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
							return fmt.Errorf("%q as %s: %s", value, spot, text)
						}
					}
					for _, part := range []string{"sesame", "hunter", "hidden"} {
						if strings.Contains(value, part) && strings.Contains(text, part) {
							return fmt.Errorf("a part of %q as %s: %s", value, spot, text)
						}
					}
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if n := said.Load(); n < int64(len(values)*len(spots)) {
		t.Errorf("only %d errors were looked at", n)
	}
}

// messages are the errors of all that a connection can do.
func messages(t *testing.T, pool *connector.Pool, c *definition.Connector) (told []string) {
	t.Helper()
	note := func(err error) {
		for ; err != nil; err = errors.Unwrap(err) {
			told = append(told, err.Error())
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	conn, err := pool.Get(ctx, c)
	if err != nil {
		note(err)
		return told
	}
	defer conn.Close()
	verdicts, err := conn.Save(ctx, connector.Cause{Flow: "F", Batch: batch.ID{Sequence: 1}}, []connector.Effect{
		set("k", "f", "v"), {Op: connector.Append, Key: "k", Value: "v", Command: 1}, set("kisgrid:x", "f", "v"),
	})
	note(err)
	values, err := conn.Load(ctx, []string{"k", "kisgrid:x"})
	note(err)
	note(conn.Ping(ctx))
	for _, verdict := range verdicts {
		note(verdict)
	}
	for _, v := range values {
		note(v.Err)
	}
	return slices.Compact(told)
}

// locking lets several write.
type locking struct {
	mu  sync.Mutex
	out *bytes.Buffer
}

func (l *locking) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// A message says which variable it was, and errors are to a program what they were.
func TestMessagesNameTheVariable(t *testing.T) {
	addr := miniredis.RunT(t).Addr()
	environment := map[string]string{"REDIS_PASSWORD": "hunter2", "REDIS_ADDR": addr}
	lookup := func(name string) (string, bool) { value, ok := environment[name]; return value, ok }
	pool := connector.NewPool(map[string]connector.Opener{"redis": Open}, lookup, nil, nil)
	defer pool.Close()
	doc := document(addr)
	doc.Params = map[string]string{"pool_size": "${REDIS_PASSWORD}"}
	_, err := pool.Get(t.Context(), doc)
	if batch.CodeOf(err) != batch.CodeBadDocument || !strings.Contains(err.Error(), `params: pool_size is "${REDIS_PASSWORD}", but must be a whole number from 1`) {
		t.Errorf("got %v", err)
	}
	doc.Params, doc.Addrs = nil, []string{"${REDIS_ADDR}"}
	conn, err := pool.Get(t.Context(), doc)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if err := conn.Ping(late); !errors.Is(err, context.DeadlineExceeded) || batch.CodeOf(err) != batch.CodeDeadline || !strings.Contains(err.Error(), "${REDIS_ADDR}") || strings.Contains(err.Error(), addr) {
		t.Errorf("got %v", err)
	}
}
