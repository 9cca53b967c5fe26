package redis

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// impatient has a connection try again at once, so often that a test's server is back before it gives up.
var impatient = map[string]string{"retry_min": "5ms", "retry_max": "20ms", "retries": "1000000"}

// pipelines sees the pipelines of a connection.
type pipelines struct {
	before func(commands []goredis.Cmder) // an error on the first command ends the pipeline
}

func (p pipelines) DialHook(next goredis.DialHook) goredis.DialHook          { return next }
func (p pipelines) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook { return next }

func (p pipelines) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, commands []goredis.Cmder) error {
		p.before(commands)
		if err := commands[0].Err(); errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		return next(ctx, commands)
	}
}

func save(tb testing.TB, c connector.Connection, effects ...connector.Effect) {
	tb.Helper()
	if verdicts, err := c.Save(tb.Context(), connector.Cause{}, effects); err != nil || verdicts != nil {
		tb.Fatalf("Save: verdicts %v, error %v", verdicts, err)
	}
}

func patient(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	tb.Cleanup(cancel)
	return ctx
}

// The race of Save and Wait depends on it, in a window too small for a test to hit.
func TestSaveAsksForWaitersBehindItsEffects(t *testing.T) {
	c := open(t, document(miniredis.RunT(t).Addr()))
	var names []string
	c.client.AddHook(pipelines{func(commands []goredis.Cmder) {
		for _, command := range commands {
			names = append(names, command.Name())
		}
	}})
	for _, want := range []string{"evalsha pubsub eval pubsub", "evalsha pubsub"} { // Redis has to be told the script once
		names = nil
		save(t, c, set("a", "f", "v"), connector.Effect{Op: connector.Append, Key: "b", Value: "v"})
		if got := strings.Join(names, " "); got != want {
			t.Errorf("a Save made %q, not %q", got, want)
		}
	}
}

// Calls that come while the senders are busy go together, one caller that leaves harms no other, and its effect may happen.
func TestCallsGather(t *testing.T) {
	c := open(t, document(miniredis.RunT(t).Addr()))
	var trips atomic.Int64
	began, proceed := make(chan struct{}, 1000), make(chan struct{})
	save(t, c, set("k", "f", "v")) // from now on Redis knows the script
	c.client.AddHook(pipelines{func([]goredis.Cmder) {
		trips.Add(1)
		began <- struct{}{}
		<-proceed
	}})
	add := []connector.Effect{{Op: connector.Incr, Key: "sum", Field: "n", Value: "1"}}
	leaving, leave := context.WithCancel(t.Context())
	left := make(chan error, senders)
	for range senders {
		go func() { _, err := c.Save(leaving, connector.Cause{}, add); left <- err }()
		<-began
	}
	leave()
	for range senders {
		if err := <-left; batch.CodeOf(err) != batch.CodeCancelled || !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that left during its round trip: %v", err)
		}
	}
	if _, err := c.Save(leaving, connector.Cause{}, add); batch.CodeOf(err) != batch.CodeCancelled {
		t.Errorf("a caller that left before: %v", err)
	}
	const callers, rounds = 50, 10
	var calling, done sync.WaitGroup
	calling.Add(callers)
	for range callers {
		done.Go(func() {
			calling.Done()
			for range rounds {
				save(t, c, add...)
			}
		})
	}
	calling.Wait()
	close(proceed)
	done.Wait()
	if n := trips.Load(); n >= callers*rounds/2 {
		t.Errorf("%d Saves took %d round trips", callers*rounds, n)
	}
	values, err := c.Load(t.Context(), []string{"sum"})
	if want := strconv.Itoa(callers*rounds + senders); err != nil || values[0].Fields[0].Value != want {
		t.Errorf("the sum is %v, want %s (error %v)", values, want, err)
	}
}

// What a caller that left was saving is not sent again: it would come behind what was saved since.
func TestAbandonedSavesAreNotTriedAgain(t *testing.T) {
	doc := document(miniredis.RunT(t).Addr())
	doc.Params = map[string]string{"retry_min": "1ms", "retry_max": "1ms", "retries": "1000"}
	c := open(t, doc)
	var tries atomic.Int64
	began, proceed := make(chan struct{}), make(chan struct{})
	c.client.AddHook(pipelines{func(commands []goredis.Cmder) {
		if effectsOf(commands) < 2 { // what is not the abandoned one
			return
		}
		if tries.Add(1) == 1 {
			close(began)
			<-proceed
		}
		for _, command := range commands {
			command.SetErr(io.ErrUnexpectedEOF)
		}
	}})
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := c.Save(ctx, connector.Cause{}, []connector.Effect{set("k", "f", "old"), set("k", "g", "old")})
		left <- err
	}()
	<-began
	cancel()
	if err := <-left; batch.CodeOf(err) != batch.CodeCancelled {
		t.Errorf("got %v", err)
	}
	close(proceed)
	for range 200 {
		save(t, c, set("k", "f", "new"))
	}
	if n := tries.Load(); n != 1 {
		t.Errorf("it was sent %d times", n)
	}
}

// effectsOf is how many effects a pipeline's longest script has. Beside their keys it has one for each share, and one for the
// windows in use.
func effectsOf(commands []goredis.Cmder) (most int) {
	for _, command := range commands {
		if keys, ok := command.Args()[min(2, len(command.Args())-1)].(int); ok && strings.HasPrefix(command.Name(), "eval") {
			most = max(most, keys-2)
		}
	}
	return most
}

// A trip is bounded: a call is not added to one that is full.
func TestRoundTripsAreBounded(t *testing.T) {
	c := open(t, document(miniredis.RunT(t).Addr()))
	var longest atomic.Int64
	c.client.AddHook(pipelines{func(commands []goredis.Cmder) {
		longest.Store(max(longest.Load(), int64(effectsOf(commands))))
	}})
	var group sync.WaitGroup
	for i := range 5 {
		group.Go(func() { save(t, c, sets(strconv.Itoa(i)+":", tripCommands/2)...) })
	}
	group.Wait()
	if n := longest.Load(); n > tripCommands+1 { // and the second's record
		t.Errorf("a round trip of %d commands", n)
	}
	heavy := &request{keys: make([]string, 1), bytes: tripBytes}
	if reqs := c.saves.fill([]*request{heavy}); len(reqs) != 1 {
		t.Errorf("%d calls with the heavy one", len(reqs))
	}
}

func TestRedisAway(t *testing.T) {
	s := startServer(t, "")
	log, lines := logged()
	registry := prometheus.NewRegistry()
	metrics := connector.NewMetrics(registry)
	doc := document(s.addr)
	doc.Params = impatient
	c := openWith(t, Config{Logger: log, Metrics: metrics, tick: -1}, doc)
	up := func() float64 { return metric(t, registry, "kisgrid_connector_up") }
	if up() != 1 {
		t.Error("an open connection is not up")
	}

	ctx := patient(t)
	waiting := make(chan error, 1)
	go func() { waiting <- await(ctx, c, "k") }()
	s.stop()
	saving, loading := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := c.Save(ctx, connector.Cause{}, []connector.Effect{set("other", "f", "v")})
		saving <- err
	}()
	go func() { _, err := c.Load(ctx, []string{"other"}); loading <- err }()
	lines.await(t, "redis is away")
	if up() != 0 {
		t.Error("a connection whose server is gone is up")
	}
	if err := c.Ping(ctx); batch.CodeOf(err) != batch.CodeConnectorUnavailable || !strings.Contains(err.Error(), s.addr) {
		t.Errorf("Ping: %v", err)
	}

	startServer(t, s.addr)
	if err := errors.Join(<-saving, <-loading); err != nil {
		t.Errorf("Redis was away for a moment: %v", err)
	}
	lines.await(t, "redis is back")
	if up() != 1 {
		t.Error("a connection whose server is back is not up")
	}
	// The waiter's subscription is gone with the old server: it comes back, and reads.
	save(t, open(t, document(s.addr)), set("k", "f", "v"))
	if err := <-waiting; err != nil {
		t.Errorf("Wait: %v", err)
	}
}

// What the metric shows goes with the connections of a name, also with those whose Redis is away.
func TestUp(t *testing.T) {
	registry := prometheus.NewRegistry()
	config := Config{Metrics: connector.NewMetrics(registry), tick: -1}
	away := miniredis.RunT(t)
	there, gone := openWith(t, config, document(miniredis.RunT(t).Addr())), openWith(t, config, document(away.Addr()))
	away.Close()
	if err := gone.Ping(t.Context()); batch.CodeOf(err) != batch.CodeConnectorUnavailable {
		t.Fatalf("Ping: %v", err)
	}
	if up := metric(t, registry, "kisgrid_connector_up"); up != 0 {
		t.Errorf("of two connections one is away, the metric shows %v", up)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	_ = gone.Ping(t.Context()) // says nothing any more
	if up := metric(t, registry, "kisgrid_connector_up"); up != 1 {
		t.Errorf("the one that is left is there, the metric shows %v", up)
	}
	if err := there.Close(); err != nil {
		t.Fatal(err)
	}
	if shows(t, registry, "kisgrid_connector_up") {
		t.Error("without connections the metric shows the connector")
	}
}

// shows reports whether there is a series of a name.
func shows(tb testing.TB, r *prometheus.Registry, name string) bool {
	tb.Helper()
	families, err := r.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	return slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name })
}

// metric is the sum of the gauges of a name, or how many series there are of another metric.
func metric(tb testing.TB, r *prometheus.Registry, name string) float64 {
	tb.Helper()
	families, err := r.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		if f.GetType() == dto.MetricType_GAUGE {
			sum := 0.0
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue()
			}
			return sum
		}
		return float64(len(f.GetMetric()))
	}
	tb.Fatalf("no metric %s", name)
	return 0
}

func TestRedisAwayForGood(t *testing.T) {
	s := startServer(t, "")
	doc := document(s.addr)
	doc.Params = map[string]string{"retry_min": "1ms", "retry_max": "1ms", "retries": "2"}
	c := open(t, doc)
	s.stop()
	_, errSave := c.Save(t.Context(), connector.Cause{}, []connector.Effect{set("k", "f", "v")})
	_, errLoad := c.Load(t.Context(), []string{"k"})
	_, errOpen := Open(t.Context(), doc)
	for name, err := range map[string]error{"Save": errSave, "Load": errLoad, "Open": errOpen} {
		if batch.CodeOf(err) != batch.CodeConnectorUnavailable || !strings.Contains(err.Error(), "connector Test") ||
			!strings.Contains(err.Error(), s.addr) || !strings.Contains(err.Error(), "see that Redis runs there") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A stopped Redis takes connections and says nothing: opening ends with the timeouts.
func TestRedisSilent(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	doc := document(l.Addr().String())
	doc.Params = map[string]string{"read_timeout": "20ms", "dial_timeout": "40ms"}
	if _, err := Open(t.Context(), doc); batch.CodeOf(err) != batch.CodeConnectorUnavailable {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, doc); batch.CodeOf(err) != batch.CodeCancelled {
		t.Errorf("got %v", err)
	}
}

// A Redis that falls silent ends calls with the timeouts, as one that is gone does: their rows are parked. It is back when it
// answers.
func TestRedisFallsSilent(t *testing.T) {
	server := miniredis.RunT(t)
	doc := document(server.Addr())
	doc.Params = map[string]string{"read_timeout": "20ms", "dial_timeout": "40ms", "retry_min": "1ms", "retry_max": "1ms", "retries": "2"}
	c := open(t, doc)
	save(t, c, set("k", "f", "v"))
	server.Close()
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", doc.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	ctx := patient(t)
	_, errSave := c.Save(ctx, connector.Cause{}, []connector.Effect{set("k", "f", "w")})
	_, errLoad := c.Load(ctx, []string{"k"})
	for name, err := range map[string]error{"Save": errSave, "Load": errLoad, "Ping": c.Ping(ctx)} {
		if batch.CodeOf(err) != batch.CodeConnectorUnavailable || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := silent.Close(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	save(t, c, set("k", "f", "x"))
	if values, err := c.Load(ctx, []string{"k"}); err != nil || values[0].Missing() {
		t.Errorf("it answers again: %v, %v", values, err)
	}
}

// Who writes without KisGrid tells nobody: the keys are read again.
func TestOtherWriters(t *testing.T) {
	s := startServer(t, "")
	doc := document(s.addr)
	doc.Key, doc.Params = "stu_", map[string]string{"db": "2"}
	c := openWith(t, Config{tick: 10 * time.Millisecond}, doc)
	client := goredis.NewClient(&goredis.Options{Addr: s.addr, DB: 2})
	defer client.Close()
	ctx := patient(t)
	keys := make([]string, 3*maxKeysPerCommand)
	for i := range keys {
		keys[i] = strconv.Itoa(i)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- await(ctx, c, keys...) }()
	awaitSubscribed(t, client, len(keys))
	if err := client.HSet(ctx, "stu_"+keys[len(keys)-1], "f", "v").Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	// Nobody waits any more: nothing stays behind in Redis.
	awaitSubscribed(t, client, -1)
}

// await watches keys, and blocks until one of them may be there. If ctx ends first, it takes the keys back and returns ctx's error.
func await(ctx context.Context, c connector.Connection, keys ...string) error {
	woken := make(chan struct{}, len(keys))
	w := c.Watch(func(string) { woken <- struct{}{} })
	w.Add(keys...)
	defer w.Remove(keys...)
	select {
	case <-woken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitSubscribed blocks until so many keys are waited for, and one channel says that somebody waits.
func awaitSubscribed(tb testing.TB, client *goredis.Client, keys int) {
	tb.Helper()
	for ctx := patient(tb); ; {
		channels, err := client.PubSubChannels(ctx, "kisgrid:*").Result()
		if err != nil {
			tb.Fatalf("%d channels: %v", len(channels), err)
		}
		if len(channels) == keys+1 {
			return
		}
	}
}

// Channels know no databases: who waits in another one is not woken.
func TestDatabasesAreApart(t *testing.T) {
	s := startServer(t, "")
	other := document(s.addr)
	other.Params = map[string]string{"db": "1"}
	here, there := open(t, document(s.addr)), open(t, other)
	client := goredis.NewClient(&goredis.Options{Addr: s.addr})
	defer client.Close()
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() { waiting <- await(ctx, here, "k") }()
	awaitSubscribed(t, client, 1)
	save(t, there, set("k", "f", "v"))
	save(t, there, set("k", "f", "v")) // the news of the first has gone by
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	c := openWith(t, Config{Metrics: connector.NewMetrics(registry), tick: -1}, document(miniredis.RunT(t).Addr()))
	save(t, c, set("k", "f", "v"))
	if _, err := c.Load(t.Context(), []string{"k"}); err != nil {
		t.Fatal(err)
	}
	waiting := func() float64 { return metric(t, registry, "kisgrid_connector_waiting_keys") }
	one, two := &watcher{wake: func(string) {}}, &watcher{wake: func(string) {}}
	c.watched.add(one, []string{"a", "b", "a"})
	c.watched.add(two, []string{"b", "c"})
	if waiting() != 3 {
		t.Errorf("%v keys waiting, want 3", waiting())
	}
	c.watched.wake([]string{"b", "b", "z"})
	c.watched.remove(one, []string{"a", "b", "a"})
	if waiting() != 1 {
		t.Errorf("%v keys waiting, want 1", waiting())
	}
	c.watched.remove(two, []string{"b", "c"})
	if waiting() != 0 || c.watched.watching.Load() != 0 {
		t.Errorf("%v keys waiting, want 0", waiting())
	}
	if n := metric(t, registry, "kisgrid_connector_round_trip_seconds"); n < 3 {
		t.Errorf("%v operations are timed, want ping, save and load at least", n)
	}
}

func TestWarnings(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		says []string
	}{
		"evicts, keeps nothing": {[]string{"--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"}, []string{"drops keys when it is full", "keeps nothing on disk"}},
		"keeps all":             {[]string{"--maxmemory", "100mb", "--appendonly", "yes"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, "", test.args...)
			log, lines := logged()
			registry := prometheus.NewRegistry()
			c := openWith(t, Config{Logger: log, Metrics: connector.NewMetrics(registry), tick: -1}, document(s.addr))
			log.Info("opened")
			var said strings.Builder
			for !strings.Contains(said.String(), "opened") {
				said.WriteString(<-lines.lines)
			}
			if n := strings.Count(said.String(), "[WARN]"); n != len(test.says) {
				t.Errorf("%d warnings, want %d:\n%s", n, len(test.says), &said)
			}
			for _, text := range test.says {
				if !strings.Contains(said.String(), text) {
					t.Errorf("nothing was logged with %q:\n%s", text, &said)
				}
			}
			if n := metric(t, registry, "kisgrid_connector_risk"); n != float64(len(test.says)) {
				t.Errorf("the metric shows %v risks, want %d", n, len(test.says))
			}
			// Settings that change are seen, and said once.
			for _, setting := range [][2]string{{"maxmemory-policy", "noeviction"}, {"appendonly", "yes"}} {
				if err := c.client.ConfigSet(t.Context(), setting[0], setting[1]).Err(); err != nil {
					t.Fatal(err)
				}
			}
			c.settings.inspect(t.Context())
			if n := metric(t, registry, "kisgrid_connector_risk"); n != 0 {
				t.Errorf("the metric shows %v risks although there are none any more", n)
			}
			if err := c.client.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lfu").Err(); err != nil {
				t.Fatal(err)
			}
			c.settings.inspect(t.Context())
			c.settings.inspect(t.Context())
			log.Info("again")
			if line := <-lines.lines; !strings.Contains(line, "drops keys when it is full") {
				t.Errorf("logged %q", line)
			}
			if line := <-lines.lines; !strings.Contains(line, "again") {
				t.Errorf("logged %q", line)
			}
			// What a connection shows goes with it, and with no other of the same name.
			other, err := Config{Metrics: c.metrics, tick: -1}.Open(t.Context(), document(s.addr))
			if err != nil {
				t.Fatal(err)
			}
			if n := metric(t, registry, "kisgrid_connector_risk"); n != 2 {
				t.Errorf("the metric shows %v connections at risk, want 2", n)
			}
			for i, closing := range []connector.Connection{c, other} {
				if err := closing.Close(); err != nil {
					t.Error(err)
				}
				if i == 1 {
					if families, err := registry.Gather(); err != nil || slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "kisgrid_connector_risk" }) {
						t.Errorf("with no connection left there is a metric of risks, or error %v", err)
					}
				} else if n := metric(t, registry, "kisgrid_connector_risk"); n != 1 {
					t.Errorf("with one of two connections closed, the metric shows %v at risk", n)
				}
			}
		})
	}
}

func TestSentinel(t *testing.T) {
	master := startServer(t, testprocess.Address(t))
	addr := testprocess.Address(t)
	testprocess.StartSentinel(t, addr, "students", master.addr)
	doc := document(addr)
	doc.Params = map[string]string{"master": "students"}
	c := open(t, doc)
	save(t, c, set("k", "f", "v"))
	if err := await(patient(t), c, "k"); err != nil {
		t.Error(err)
	}
	client := goredis.NewClient(&goredis.Options{Addr: master.addr})
	defer client.Close()
	if v, err := client.HGet(t.Context(), "k", "f").Result(); err != nil || v != "v" {
		t.Errorf("the master holds %q (error %v)", v, err)
	}
}

func TestReplicas(t *testing.T) {
	master := startServer(t, testprocess.Address(t), "--repl-diskless-sync-delay", "0")
	doc := document(master.addr)
	doc.Replicas, doc.Params = 1, map[string]string{"replica_timeout": "10ms"}
	_, err := open(t, doc).Save(t.Context(), connector.Cause{}, []connector.Effect{set("k", "f", "v")})
	if batch.CodeOf(err) != batch.CodeConnectorUnavailable || !strings.Contains(err.Error(), "0 of 1 replicas had it after 10ms") {
		t.Errorf("without a replica: %v", err)
	}
	host, port, _ := net.SplitHostPort(master.addr)
	startServer(t, "", "--replicaof", host+" "+port)
	doc.Params = map[string]string{"replica_timeout": "20s", "read_timeout": "30s"}
	save(t, open(t, doc), set("k", "f", "v"))
}

func TestUnknownEffect(t *testing.T) {
	_, err := open(t, document(miniredis.RunT(t).Addr())).Save(t.Context(), connector.Cause{Function: "F"}, []connector.Effect{{Key: "k"}})
	if batch.CodeOf(err) != batch.CodeInternal || !strings.Contains(err.Error(), "function F") {
		t.Errorf("got %v", err)
	}
}
