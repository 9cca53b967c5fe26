package connector_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shop opens connections that note what happens to them.
type shop struct {
	mu     sync.Mutex
	events []string                 // guarded by mu
	fail   func(addr string) error  // what opening ends with; nil: never fails
	block  map[string]chan struct{} // opening an address waits for its channel
	refuse map[string]error         // what closing a connection to an address ends with

	metrics *connector.Metrics // the pool's
}

func (s *shop) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, fmt.Sprintf(format, args...))
}

func (s *shop) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.events, ", ")
}

func (s *shop) open(ctx context.Context, c *definition.Connector) (connector.Connection, error) {
	addr := c.Addrs[0]
	if s.fail != nil {
		if err := s.fail(addr); err != nil {
			return nil, err
		}
	}
	if gate := s.block[addr]; gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			s.note("gave up %s", addr)
			return nil, ctx.Err()
		}
	}
	s.note("opened %s", addr)
	return &connection{shop: s, addr: addr}, nil
}

type connection struct {
	connector.Connection // not called
	shop                 *shop
	addr                 string
}

func (c *connection) Ping(context.Context) error { return nil }

func (c *connection) Close() error {
	c.shop.note("closed %s", c.addr)
	return c.shop.refuse[c.addr]
}

func (s *shop) pool(t *testing.T) *connector.Pool {
	t.Helper()
	lookup := func(name string) (string, bool) { return "resolved", name == "ADDR" }
	p := connector.NewPool(map[string]connector.Opener{"redis": s.open, "memory": s.open}, lookup, nil, s.metrics)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func document(addr string, revision int64) *definition.Connector {
	return &definition.Connector{
		Name: "Cache", Type: "redis", Addrs: []string{addr}, Params: map[string]string{"db": "1"}, Save: []string{fmt.Sprint(revision)},
		Document: definition.Document{Revision: revision, Path: "cache.yml"},
	}
}

func get(t *testing.T, p *connector.Pool, c *definition.Connector) connector.Connection {
	t.Helper()
	conn, err := p.Get(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func end(t *testing.T, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, s *shop, want string) {
	t.Helper()
	synctest.Wait()
	if got := s.log(); got != want {
		t.Errorf("events\n %s\nwant\n %s", got, want)
	}
}

func TestPoolSharesOneConnection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &shop{}
		p := s.pool(t)
		var group sync.WaitGroup
		for i := range 10 {
			group.Go(func() {
				c := get(t, p, document("a", int64(i))) // who uses it, and where it stands, makes no other connection
				end(t, c)
				end(t, c)
			})
		}
		group.Wait()
		expect(t, s, "opened a")
		end(t, get(t, p, document("${ADDR}", 20)))
		expect(t, s, "opened a, opened resolved, closed a")
		end(t, p)
		end(t, p)
		expect(t, s, "opened a, opened resolved, closed a, closed resolved")
		if _, err := p.Get(t.Context(), document("a", 1)); batch.CodeOf(err) != batch.CodeConnectorUnavailable {
			t.Errorf("Get after Close: %v", err)
		}
	})
}

func TestPoolReplacesAChangedDocument(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &shop{block: map[string]chan struct{}{"b": make(chan struct{})}}
		p := s.pool(t)
		first, second := get(t, p, document("a", 1)), get(t, p, document("a", 1))
		replaced := make(chan connector.Connection)
		go func() { replaced <- get(t, p, document("b", 2)) }()
		end(t, first)
		end(t, second)
		expect(t, s, "opened a") // nobody uses it, but the other is not open yet
		third := get(t, p, document("a", 1))
		close(s.block["b"])
		b := <-replaced
		expect(t, s, "opened a, opened b")
		fourth := get(t, p, document("a", 1)) // a flow that still runs on the older revision
		end(t, third)
		expect(t, s, "opened a, opened b")
		end(t, fourth)
		end(t, b)
		time.Sleep(10 * time.Second)
		expect(t, s, "opened a, opened b, closed a") // the newest stays

		// An older revision that is wanted once more gets its connection, and takes it away again.
		end(t, get(t, p, document("a", 1)))
		time.Sleep(10 * time.Second)
		expect(t, s, "opened a, opened b, closed a, opened a, closed a")
		// A document written anew that says the same is the newest from then on.
		end(t, get(t, p, document("b", 9)))
		end(t, get(t, p, document("c", 5)))
		time.Sleep(10 * time.Second)
		expect(t, s, "opened a, opened b, closed a, opened a, closed a, opened c, closed c")
	})
}

// A replaced document's connection is not opened anew for each run of batches that began with it. It closes ten seconds after the last run,
// says nothing about the connector in that time, and takes its place again if the document comes back.
func TestPoolKeepsAReplacedConnectionBetweenRuns(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &shop{}
		p := s.pool(t)
		old := get(t, p, document("a", 1))
		end(t, get(t, p, document("b", 2)))
		end(t, old)
		for range 20 {
			time.Sleep(9 * time.Second)
			end(t, get(t, p, document("a", 1)))
		}
		expect(t, s, "opened a, opened b")
		time.Sleep(10*time.Second - 1)
		expect(t, s, "opened a, opened b")
		time.Sleep(time.Nanosecond)
		expect(t, s, "opened a, opened b, closed a")

		end(t, get(t, p, document("a", 1)))
		end(t, get(t, p, document("a", 3))) // the document comes back
		expect(t, s, "opened a, opened b, closed a, opened a, closed b")
		time.Sleep(time.Minute)
		end(t, get(t, p, document("a", 3)))
		expect(t, s, "opened a, opened b, closed a, opened a, closed b")
	})
}

// A replaced connection that nobody uses now does not make the connector one that can't be used.
func TestDownLeavesOutWhatLingers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		away := &doubtful{}
		p := connector.NewPool(map[string]connector.Opener{"redis": func(_ context.Context, c *definition.Connector) (connector.Connection, error) {
			if c.Addrs[0] == "a" {
				return away, nil
			}
			return &doubtful{}, nil
		}}, nil, nil, nil)
		defer p.Close()
		old := get(t, p, document("a", 1))
		end(t, get(t, p, document("b", 2)))
		away.why = errors.New("it is switched off")
		if down := p.Down(); len(down) != 1 {
			t.Errorf("a store that somebody uses is away, and down are %v", down)
		}
		end(t, old)
		if down := p.Down(); len(down) != 0 {
			t.Errorf("nobody uses the old store, and down are %v", down)
		}
	})
}

func TestPoolGivesUpWhatNobodyWants(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &shop{block: map[string]chan struct{}{"a": make(chan struct{})}}
		p := s.pool(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Get(ctx, document("a", 1)); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "the first try is under way") {
			t.Errorf("got %v", err)
		}
		expect(t, s, "") // it goes on opening
		end(t, get(t, p, document("b", 2)))
		expect(t, s, "opened b, gave up a")
	})
}

func TestPoolTriesAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var back atomic.Bool
		var tries atomic.Int64
		registry := prometheus.NewRegistry()
		s := &shop{metrics: connector.NewMetrics(registry), fail: func(string) error {
			if tries.Add(1); !back.Load() {
				return batch.Errorf(batch.CodeConnectorUnavailable, "nobody there")
			}
			return nil
		}}
		p := s.pool(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := p.Get(ctx, document("a", 1))
		if batch.CodeOf(err) != batch.CodeConnectorUnavailable || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		since := time.Now().Add(-time.Minute).Format(time.TimeOnly)
		for _, text := range []string{"connector Cache (redis at a)", "since " + since + " (1m0s)", fmt.Sprintf("tries so far: %d", tries.Load()), "nobody there"} {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("the error does not say %q: %v", text, err)
			}
		}
		if n := tries.Load(); n < 10 || n > 40 {
			t.Errorf("%d tries in a minute", n)
		}
		if up := ups(t, registry); !slices.Equal(up, []float64{0}) {
			t.Errorf("what does not open shows as %v", up)
		}
		back.Store(true)
		end(t, get(t, p, document("a", 1)))
		expect(t, s, "opened a")
		if up := ups(t, registry); len(up) > 0 {
			t.Errorf("the pool shows what is open: %v", up)
		}
	})
}

func TestPoolRefusesAWrongDocument(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		wrong := true
		s := &shop{fail: func(string) error {
			if wrong {
				return fmt.Errorf("opening: %w", batch.Errorf(batch.CodeBadDocument, "no such parameter"))
			}
			return nil
		}}
		p := s.pool(t)
		start := time.Now()
		if _, err := p.Get(t.Context(), document("a", 1)); batch.CodeOf(err) != batch.CodeBadDocument || !strings.Contains(err.Error(), "no such parameter") {
			t.Errorf("got %v", err)
		}
		if time.Since(start) > 0 {
			t.Error("it was tried again")
		}
		wrong = false // a file that the document names is there now
		end(t, get(t, p, document("a", 1)))

		unknown := document("a", 1)
		unknown.Type = "es"
		if _, err := p.Get(t.Context(), unknown); batch.CodeOf(err) != batch.CodeBadDocument || !strings.Contains(err.Error(), "use one of memory, redis") {
			t.Errorf("an unknown type: %v", err)
		}
		if _, err := p.Get(t.Context(), document("${NOWHERE}", 1)); batch.CodeOf(err) != batch.CodeBadDocument || !strings.Contains(err.Error(), "NOWHERE") {
			t.Errorf("an unset variable: %v", err)
		}
	})
}

func TestPoolCloseEndsOpenings(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		s := &shop{block: map[string]chan struct{}{"a": make(chan struct{})}, refuse: map[string]error{"b": broken}}
		p := s.pool(t)
		waiting := make(chan error)
		go func() { _, err := p.Get(t.Context(), document("a", 2)); waiting <- err }()
		held := get(t, p, document("b", 1))
		synctest.Wait()
		for range 2 {
			go func() {
				if err := p.Close(); !errors.Is(err, broken) {
					t.Errorf("Close: %v", err)
				}
			}()
		}
		if err := <-waiting; batch.CodeOf(err) != batch.CodeConnectorUnavailable {
			t.Errorf("the one who waited: %v", err)
		}
		end(t, held)
		expect(t, s, "opened b, gave up a, closed b")
	})
}

// What opens after its last user has left is closed again.
func TestPoolClosesWhatOpensTooLate(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &shop{}
		started, proceed := make(chan struct{}), make(chan struct{})
		late := func(ctx context.Context, c *definition.Connector) (connector.Connection, error) {
			close(started)
			<-proceed // it does not look at ctx
			return s.open(ctx, c)
		}
		p := connector.NewPool(map[string]connector.Opener{"redis": late}, nil, nil, nil)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() { _, err := p.Get(ctx, document("a", 1)); gone <- err }()
		<-started
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		closed := make(chan error)
		go func() { closed <- p.Close() }()
		synctest.Wait()
		close(proceed)
		if err := <-closed; err != nil {
			t.Error(err)
		}
		expect(t, s, "opened a, closed a")
	})
}

func TestNilMetrics(*testing.T) {
	m := connector.NewMetrics(nil)
	m.RoundTrip("c", "save", time.Second)
	m.Up("c", 1, 0)
	m.Waiting("c", 1)
}

// What documents may not read is never opened. What the defaults alone forbid is refused when it is new, and in a program.
func TestPoolRestricts(t *testing.T) {
	file, name := document("a", 7), document("${KISGRID_ADDR:b}", 7)
	file.PasswordFile = "/etc/passwd"
	inProgram := document("${KISGRID_ADDR:b}", 0)
	bubble.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			name             string
			access           definition.Access
			document         *definition.Connector
			checks, new, get bool
		}{
			{"a file, by default", definition.Access{}, file, true, false, true},
			{"a file elsewhere", definition.Access{Files: []string{"/usr"}}, file, false, false, false},
			{"a file that may be read", definition.Access{Files: []string{"/etc"}}, file, true, true, true},
			{"a name, by default", definition.Access{}, name, true, false, true},
			{"a name, in a program", definition.Access{}, inProgram, true, false, false},
			{"another name", definition.Access{Env: []string{"ADDR"}}, name, false, false, false},
			{"a name that may be read", definition.Access{Env: []string{"KISGRID_A*"}}, name, true, true, true},
			{"another address", definition.Access{Files: []string{"/etc"}, Addresses: []string{"elsewhere"}}, file, false, false, false},
			{"the address", definition.Access{Files: []string{"/etc"}, Addresses: []string{"*"}}, file, true, true, true},
		} {
			s := &shop{}
			p := s.pool(t)
			p.Restrict(test.access)
			ok := func(doing string, err error, want bool) {
				t.Helper()
				if (err == nil) != want || err != nil && batch.CodeOf(err) != batch.CodeBadDocument {
					t.Errorf("%s, %s: %v", test.name, doing, err)
				}
			}
			ok("Check", p.Check(test.document), test.checks)
			ok("CheckNew", p.CheckNew(test.document), test.new)
			_, err := p.Get(t.Context(), test.document)
			ok("Get", err, test.get)
			if opened := s.log() != ""; opened != test.get {
				t.Errorf("%s: it was opened: %v", test.name, opened)
			}
			end(t, p)
		}
	})
}

// An opener that panics costs its connector, not the process, and says no value either.
func TestPoolSurvivesPanics(t *testing.T) {
	p := connector.NewPool(map[string]connector.Opener{"redis": func(_ context.Context, c *definition.Connector) (connector.Connection, error) {
		panic("can't dial " + c.Addrs[0])
	}}, func(string) (string, bool) { return "hunter2", true }, nil, nil)
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.Notify(cancel) // the first try has failed
	_, err := p.Get(ctx, document("${ADDR}", 1))
	if err == nil || !strings.Contains(err.Error(), "panicked") || !strings.Contains(err.Error(), "can't dial ${ADDR}") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

// doubtful is a connection that tells when its store is of no use.
type doubtful struct {
	connector.Connection
	why error
}

func (d *doubtful) Down() error  { return d.why }
func (d *doubtful) Close() error { return nil }

// The pool tells which stores are of no use: those that do not open, and those whose connection says so. It tells no secret.
func TestDown(t *testing.T) {
	opened := &doubtful{}
	p := connector.NewPool(map[string]connector.Opener{
		"opens": func(context.Context, *definition.Connector) (connector.Connection, error) { return opened, nil },
		"not": func(_ context.Context, c *definition.Connector) (connector.Connection, error) {
			return nil, errors.New("it is away with " + c.Params["password"])
		},
	}, func(string) (string, bool) { return "hunter2", true }, nil, nil)
	defer p.Close()
	if _, err := p.Get(t.Context(), &definition.Connector{Name: "A", Type: "opens"}); err != nil {
		t.Fatal(err)
	}
	if down := p.Down(); len(down) != 0 {
		t.Errorf("all is well, and down are %v", down)
	}
	opened.why = errors.New("it is full")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Get(ctx, &definition.Connector{Name: "B", Type: "not", Params: map[string]string{"password": "${SECRET}"}}); err == nil {
		t.Error("it opened")
	}
	down := p.Down()
	if len(down) != 2 || down["A"] != "it is full" || !strings.Contains(down["B"], "it is away") || strings.Contains(down["B"], "hunter2") {
		t.Errorf("down are %v", down)
	}
}

// A document that is kept is opened beside the one that is used, and takes its place when it is used or in force; one that never is
// leaves the other alone. A connection that was kept closes when nobody keeps and nobody uses it.
func TestPoolKeeps(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &shop{}
		p := s.pool(t)
		stands := func(k *connector.Kept, want connector.Standing) {
			t.Helper()
			synctest.Wait()
			if got, why := k.Standing(); got != want {
				t.Errorf("it stands %v (%s), want %v", got, why, want)
			}
		}
		a := p.Keep(document("a", 1))
		stands(a, connector.Connected)
		end(t, get(t, p, document("a", 1)))
		rejected := p.Keep(document("b", 2))
		stands(rejected, connector.Connected)
		expect(t, s, "opened a, opened b")
		for range 3 { // while b is there, and nobody's
			end(t, get(t, p, document("a", 1)))
		}
		rejected.Release()
		rejected.Release()
		expect(t, s, "opened a, opened b, closed b")

		c := p.Keep(document("c", 3))
		c.InForce() // before it is open
		expect(t, s, "opened a, opened b, closed b, opened c, closed a")
		d := p.Keep(document("d", 4))
		expect(t, s, "opened a, opened b, closed b, opened c, closed a, opened d")
		end(t, get(t, p, document("d", 4))) // as flows of coordinators that say nothing do
		expect(t, s, "opened a, opened b, closed b, opened c, closed a, opened d, closed c")
		c.Renew(5) // flows go back to it
		c.Renew(5)
		stands(c, connector.Connected)
		c.InForce()
		expect(t, s, "opened a, opened b, closed b, opened c, closed a, opened d, closed c, opened c, closed d")
		user := get(t, p, document("c", 6))
		c.Release()
		d.Release()
		a.Release()
		expect(t, s, "opened a, opened b, closed b, opened c, closed a, opened d, closed c, opened c, closed d")
		end(t, user) // nobody keeps it any more: it was the last flow's
		expect(t, s, "opened a, opened b, closed b, opened c, closed a, opened d, closed c, opened c, closed d, closed c")
	})
}

// What is outside of a document does not make it wrong: it is tried again, and the reason is told meanwhile.
func TestPoolKeepsTrying(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var away atomic.Pointer[error]
		set := func(err error) { away.Store(&err) }
		s := &shop{fail: func(string) error { return *away.Load() }}
		p := s.pool(t)
		var told atomic.Int32
		p.Notify(func() { told.Add(1) })
		set(batch.Errorf(batch.CodeBadDocument, "connector Cache: %w", errors.Join(errors.New("x"), connector.Outside(errors.New("no such file")))))
		k := p.Keep(document("${ADDR}", 1))
		synctest.Wait()
		if standing, why := k.Standing(); standing != connector.Degraded || !strings.Contains(why, "no such file") || told.Load() == 0 {
			t.Errorf("it stands %v (%s), and was told %d times", standing, why, told.Load())
		}
		time.Sleep(time.Minute)
		set(nil)
		time.Sleep(10 * time.Second) // more than the longest pause
		synctest.Wait()
		if standing, why := k.Standing(); standing != connector.Connected {
			t.Errorf("it stands %v (%s)", standing, why)
		}
		// One that is wrong for good is told too.
		wrong := document("a", 2)
		wrong.Type = "song"
		if standing, why := p.Keep(wrong).Standing(); standing != connector.Degraded || !strings.Contains(why, "song") {
			t.Errorf("it stands %v (%s)", standing, why)
		}
		set(batch.Errorf(batch.CodeBadDocument, "db is x"))
		k = p.Keep(document("b", 3))
		synctest.Wait()
		if standing, why := k.Standing(); standing != connector.Degraded || !strings.Contains(why, "db is x") {
			t.Errorf("it stands %v (%s)", standing, why)
		}
	})
}
