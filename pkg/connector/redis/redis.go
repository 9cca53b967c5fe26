package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/redisreply"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Config is the logger, the metrics and the network that a process gives to its connections. The zero Config works.
type Config struct {
	// Logger is the logger of the connections. nil means no log.
	Logger hclog.Logger
	// Metrics measures the connections. nil means no metrics.
	Metrics *connector.Metrics
	// Network is the network over which to dial Redis. nil means that of the machine.
	Network network.Network

	// tick is how often keys that are waited for are read again. 0 means one second. Below 0 they are never read again, so that a
	// test sees a lost notification.
	tick time.Duration
	// now is the clock, for tests. nil means time.Now.
	now func() time.Time
}

// Open connects to the Redis that a resolved document describes, as Config.Open does, without a log and without metrics.
func Open(ctx context.Context, c *definition.Connector) (connector.Connection, error) {
	return Config{}.Open(ctx, c)
}

// go-redis has one logger for the whole process, and logs errors there that its calls return as well. It gets the logger of the
// first connection, at level debug. A line of it does not say which connection it is about, so that each line goes through the
// redactors of all connections.
var (
	setLogger sync.Once
	redactors sync.Map // maps each open *Connection to its *definition.Redactor
)

// clientLog is the logger that the library go-redis gets. It takes secrets out of each line, and logs it at level debug.
type clientLog struct{ log hclog.Logger }

// Printf implements the logger of go-redis. A line goes through the redactors of all connections, since it does not say which one
// it is about.
func (l clientLog) Printf(_ context.Context, format string, args ...any) {
	if !l.log.IsDebug() {
		return
	}
	line := fmt.Sprintf(format, args...)
	redactors.Range(func(_, r any) bool {
		line = r.(*definition.Redactor).Text(line)
		return true
	})
	l.log.Debug(line)
}

// Connection is an open connection to Redis: a pool of sockets, the goroutines that send requests in batches, and those that wait
// for keys.
type Connection struct {
	// The connector's name, its key prefix, and the addresses of its servers, separated by commas.
	name, prefix, addrs string
	options             *options
	client              goredis.UniversalClient
	cluster             *goredis.ClusterClient // client, if it is that of a Cluster; else nil
	log                 hclog.Logger
	metrics             *connector.Metrics
	tick                time.Duration
	now                 func() time.Time

	guard        connector.Guard // keeps rows away from KisGrid's own keys
	windows      onceWindows
	saves, loads batcher
	watched      watchedKeys
	health       health
	settings     settings

	closing    <-chan struct{}    // closed when Close begins
	cancel     context.CancelFunc // ends the context that the goroutines work under
	goroutines sync.WaitGroup
	closeOnce  sync.Once
	closeErr   error
}

var _ connector.Opener = Config{}.Open

// Open connects to the Redis that a resolved document describes. The error has CodeBadDocument if the document is wrong, and
// CodeConnectorUnavailable if Redis does not answer a ping.
func (config Config) Open(ctx context.Context, doc *definition.Connector) (connector.Connection, error) {
	o, err := readOptions(doc, config.Network, config.Logger)
	if err != nil {
		return nil, err
	}
	c := &Connection{
		name: doc.Name, prefix: doc.Key, addrs: strings.Join(doc.Addrs, ","), options: o, metrics: config.Metrics,
		log: config.Logger, tick: config.tick, now: config.now,
	}
	if c.now == nil {
		c.now = time.Now
	}
	c.guard = connector.NewGuard(doc)
	c.windows.init(c, o)
	c.health.conn, c.settings.conn, c.settings.found = c, c, risks{}
	if c.log == nil {
		c.log = hclog.NewNullLogger()
	}
	redactor := connector.RedactorOf(ctx)
	setLogger.Do(func() { goredis.SetLogger(clientLog{c.log.Named("go-redis")}) })
	redactors.Store(c, redactor)
	c.log = connector.Redacting(c.log, redactor)
	c.log = c.log.With("connector", c.name, "redis", c.addrs)
	if len(o.ignored) > 0 {
		c.log.Warn("parameters that a Redis connector does not know are ignored", "ignored", o.ignored, "known", o.known)
	}
	if c.tick == 0 {
		c.tick = time.Second
	}
	c.client = goredis.NewUniversalClient(o.client)
	redisreply.Own(c.client)
	c.cluster, _ = c.client.(*goredis.ClusterClient)
	if err := c.ping(ctx); err != nil {
		_ = c.client.Close()
		redactors.Delete(c)
		return nil, err
	}
	c.metrics.Up(c.name, 1, 0)
	if err := c.windows.refresh(ctx, c.now()); err != nil {
		c.log.Debug("redis has not noted the once-window; the first save asks again", "error", err)
	}
	c.settings.inspect(ctx)
	c.start(ctx)
	return c, nil
}

// start starts the connection's goroutines. They do not end with ctx, but with Close.
func (c *Connection) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.closing, c.cancel = ctx.Done(), cancel
	c.watched.start(ctx, c)
	c.saves.start(ctx, c, c.sendSaves)
	c.loads.start(ctx, c, c.sendLoads)
}

// Ping implements connector.Connection: it asks Redis once whether it is there, which takes at most dial_timeout, and notes the
// result in the connection's health.
func (c *Connection) Ping(ctx context.Context) error {
	if c.isClosing() {
		return connector.Closed(c.name)
	}
	err := c.ping(ctx)
	if ctx.Err() == nil {
		c.health.reached(err)
	}
	return err
}

// ping asks Redis once whether it is there. Unlike Ping it does not look whether the connection is closing, and does not report
// to its health.
func (c *Connection) ping(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, c.options.client.DialTimeout)
	defer cancel()
	start := time.Now()
	err := c.client.Ping(bounded).Err()
	c.metrics.RoundTrip(c.name, "ping", time.Since(start))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return connector.Ended(ctx, c.name, "asking "+c.addrs+" whether it is there")
	}
	return c.unavailable("ping", err)
}

// Close ends the connection. It waits for the round trips under way, which the connection's timeouts bound, and does not retry
// them. A request that has not been sent ends with an error. Watchers are told nothing more.
func (c *Connection) Close() error {
	c.closeOnce.Do(func() {
		c.cancel()
		c.goroutines.Wait()
		c.settings.close()
		if c.health.close() {
			c.metrics.Up(c.name, -1, 0)
		} else {
			c.metrics.Up(c.name, -1, -1)
		}
		defer redactors.Delete(c)
		if err := c.client.Close(); err != nil && !errors.Is(err, goredis.ErrClosed) {
			c.closeErr = fmt.Errorf("closing the connection of connector %s: %w", c.name, err)
		}
	})
	return c.closeErr
}
