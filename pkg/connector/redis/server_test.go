package redis

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a redis-server that belongs to a test.
type server struct {
	addr string // a unix socket's path, or host:port
	stop func() // at once, as a crash does
}

// startServer starts a real redis-server that keeps nothing on disk, on a unix socket unless addr says otherwise. Without one on
// the machine the test is skipped.
func startServer(tb testing.TB, addr string, args ...string) *server {
	tb.Helper()
	if addr == "" {
		addr = testprocess.Socket(tb)
	}
	return &server{addr: addr, stop: testprocess.StartRedis(tb, addr, nil, args...)}
}

// startCluster starts three masters that share the slots.
func startCluster(tb testing.TB) (addrs []string) {
	tb.Helper()
	const nodes, slots = 3, 16384
	var clients []*goredis.Client
	meet := []any{"cluster", "meet"} // the first
	for i := range nodes {
		addr, bus := testprocess.Address(tb), testprocess.Address(tb)
		startServer(tb, addr, "--cluster-enabled", "yes", "--cluster-port", bus[strings.IndexByte(bus, ':')+1:])
		c := goredis.NewClient(&goredis.Options{Addr: addr})
		defer c.Close()
		addrs, clients = append(addrs, addr), append(clients, c)
		if i == 0 {
			meet = append(meet, "127.0.0.1", addr[strings.IndexByte(addr, ':')+1:], bus[strings.IndexByte(bus, ':')+1:])
		}
		if err := c.ClusterAddSlotsRange(tb.Context(), i*slots/nodes, (i+1)*slots/nodes-1).Err(); err != nil {
			tb.Fatal(err)
		}
	}
	for ctx, i := patient(tb), 0; i < nodes; {
		switch info, err := clients[i].ClusterInfo(ctx).Result(); {
		case err != nil:
			nodes, _ := clients[i].ClusterNodes(tb.Context()).Result()
			tb.Fatalf("the cluster does not form: %v\n%s\n%s", err, info, nodes)
		case strings.Contains(info, "cluster_state:ok"):
			i++
		default:
			for _, c := range clients[1:] { // again, as a meeting may fail without a word
				_ = c.Do(ctx, meet...).Err()
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return addrs
}

// document describes a connector at addrs.
func document(addrs ...string) *definition.Connector {
	return &definition.Connector{Name: "Test", Type: "redis", Addrs: addrs}
}

// open opens a connection without re-checks, and closes it when the test ends.
func open(tb testing.TB, doc *definition.Connector) *Connection {
	tb.Helper()
	return openWith(tb, Config{tick: -1}, doc)
}

func openWith(tb testing.TB, config Config, doc *definition.Connector) *Connection {
	tb.Helper()
	c, err := config.Open(tb.Context(), doc)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c.(*Connection)
}

// logged is a logger that keeps what it is told.
func logged() (hclog.Logger, *logBuffer) {
	b := &logBuffer{lines: make(chan string, 100)}
	return hclog.New(&hclog.LoggerOptions{Output: b, Level: hclog.Info}), b
}

type logBuffer struct{ lines chan string }

func (b *logBuffer) Write(p []byte) (int, error) {
	b.lines <- string(p)
	return len(p), nil
}

// await returns the first line that holds text.
func (b *logBuffer) await(tb testing.TB, text string) string {
	tb.Helper()
	for timeout := time.After(30 * time.Second); ; {
		select {
		case line := <-b.lines:
			if strings.Contains(line, text) {
				return line
			}
		case <-timeout:
			tb.Fatalf("nothing was logged with %q", text)
		}
	}
}

func set(key, field, value string) connector.Effect {
	return connector.Effect{Op: connector.Set, Key: key, Field: field, Value: value}
}

func sets(prefix string, n int) []connector.Effect {
	effects := make([]connector.Effect, n)
	for i := range effects {
		effects[i] = set(fmt.Sprintf("%s%d", prefix, i), "avg_score", "87.5")
	}
	return effects
}

// meter shows whether connectors are up.
type meter struct {
	registry *prometheus.Registry
	metrics  *connector.Metrics
}

func newMeter() *meter {
	r := prometheus.NewRegistry()
	return &meter{r, connector.NewMetrics(r)}
}

func (m *meter) up(tb testing.TB) float64 {
	tb.Helper()
	return metric(tb, m.registry, "kisgrid_connector_up")
}
