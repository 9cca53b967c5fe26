// Package redis is the connector to Redis: a single node, Sentinel or a Cluster.
//
// A document of type redis names its servers in addrs: one address (host:port, or the path of a unix socket), several of a
// Cluster, or those of the Sentinels. Beside key, tls, username, password_file and replicas it may say in params:
//
//	master             name of the master that the Sentinels in addrs watch; turns Sentinel on
//	sentinel_username, sentinel_password
//	cluster            true: the one address is a Cluster's (several addresses are one without it)
//	db                 database number, 0; a Cluster has no other
//	password           better ${NAME} from the environment, or password_file
//	pool_size          connections per node, 8
//	dial_timeout       5s      read_timeout, write_timeout  3s, each for a whole round trip
//	retries            how often a round trip is tried again while Redis is away, 10
//	retry_min          50ms, doubled each time up to retry_max, 2s: with 10 retries about ten seconds
//	replica_timeout    how long a Save waits for its replicas, 1s
//	once_window        how old a batch may be whose effects are carried out, 1h; what took place is remembered that long.
//	                   One that is raised holds for batches that are born from then on (docs/redis.md)
//	tls, tls_ca, tls_cert, tls_key, tls_server_name, tls_skip_verify      files in PEM form; any of them turns TLS on
//
// # What is kept how
//
// A key is the document's key followed by the row's key. Set and Incr make a hash, Append a list: other programs read them
// as they are.
//
// # What holds
//
// An effect takes place once, whoever saves it how often: a script (save.lua) carries out what gathered, and notes in records,
// hashes under kisgrid:once:, which effects took place. What Redis refuses is not noted, and costs no other effect. There is
// a record for each stream, flow and function, on a Cluster for each slot as well, where it lies with the keys. It forgets
// what lies below the stream's floor, and is gone a quarter longer than once_window after its last use: so it holds what a
// stream has open, a bit for each effect. A Save that Redis acknowledged lasts as long as Redis keeps it, and its record with
// it: what an asynchronous failover loses is lost, and done when it is asked for again, unless replicas says how many must
// have it.
//
// # How waiting works
//
// Who waits for a key subscribes to a channel of that key, and to one that says that somebody waits; once that is confirmed,
// the key is read. A Save asks at the end of its own round trip whether anybody waits, and only then publishes its keys. So
// whichever comes first, the reader sees the key or the Save sees the reader. Redis forgets who waits when their
// connection ends, and a connection that comes back subscribes and reads again. Writers that are not KisGrid publish
// nothing: all keys waited for are read again once a second. A user with restricted rights needs &kisgrid:* channels.
package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/redisreply"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Config is what a process gives its connections beside their documents. The zero Config works.
type Config struct {
	// Logger defaults to none.
	Logger hclog.Logger
	// Metrics may be nil.
	Metrics *connector.Metrics

	// tick is how often waiting keys are read again, a second; below zero never, so that a test sees a lost wake-up.
	tick time.Duration
	// now is time.Now, but for tests.
	now func() time.Time
}

// Open is Config's Open without logger and metrics.
func Open(ctx context.Context, c *definition.Connector) (connector.Connection, error) {
	return Config{}.Open(ctx, c)
}

// go-redis has one logger in a process, and reports there what calls return as errors too: it gets the first connection's, at
// level debug. hidden has the redactor of each connection, as it does not say whose line it is.
var (
	quiet  sync.Once
	hidden sync.Map // from *Connection to *definition.Redactor
)

type clientLog struct{ log hclog.Logger }

func (l clientLog) Printf(_ context.Context, format string, args ...any) {
	if !l.log.IsDebug() {
		return
	}
	line := fmt.Sprintf(format, args...)
	hidden.Range(func(_, r any) bool {
		line = r.(*definition.Redactor).Text(line)
		return true
	})
	l.log.Debug(line)
}

// Connection is an open connection to Redis: a pool of sockets, and the goroutines that gather calls and wait for keys.
type Connection struct {
	name, prefix, addrs string
	options             *options
	client              goredis.UniversalClient
	cluster             *goredis.ClusterClient // the client, if it is a Cluster's
	log                 hclog.Logger
	metrics             *connector.Metrics
	tick                time.Duration
	now                 func() time.Time

	guard        connector.Guard
	windows      windows
	saves, loads gatherer
	waits        waits
	health       health
	risks        risks        // see there
	longest      atomic.Int64 // bytes of one key, field or value that Redis takes; 0: not known

	closing    <-chan struct{}    // closed when Close begins
	cancel     context.CancelFunc // of the context that the goroutines work under
	goroutines sync.WaitGroup
	closeOnce  sync.Once
	closeErr   error
}

var _ connector.Opener = Config{}.Open

// Open connects to the Redis that a resolved document describes: it fails when the document is wrong (CodeBadDocument) or
// Redis does not answer once (CodeConnectorUnavailable).
func (config Config) Open(ctx context.Context, doc *definition.Connector) (connector.Connection, error) {
	o, err := readOptions(doc, config.Logger)
	if err != nil {
		return nil, err
	}
	c := &Connection{
		name: doc.Name, prefix: doc.Key, addrs: strings.Join(doc.Addrs, ","), options: o, metrics: config.Metrics,
		log: config.Logger, tick: config.tick, now: config.now, risks: risks{},
	}
	if c.now == nil {
		c.now = time.Now
	}
	c.guard = connector.NewGuard(doc)
	c.windows.init(o)
	if c.log == nil {
		c.log = hclog.NewNullLogger()
	}
	redactor := connector.RedactorOf(ctx)
	quiet.Do(func() { goredis.SetLogger(clientLog{c.log.Named("go-redis")}) })
	hidden.Store(c, redactor)
	c.log = connector.Redacting(c.log, redactor)
	c.log = c.log.With("connector", c.name, "redis", c.addrs)
	if len(o.ignored) > 0 {
		c.log.Warn("parameters that mean nothing to a Redis connector are ignored", "ignored", o.ignored, "known", o.known)
	}
	if c.tick == 0 {
		c.tick = time.Second
	}
	c.client = goredis.NewUniversalClient(o.client)
	redisreply.Own(c.client)
	c.cluster, _ = c.client.(*goredis.ClusterClient)
	if err := c.ping(ctx); err != nil {
		_ = c.client.Close()
		hidden.Delete(c)
		return nil, err
	}
	c.metrics.Up(c.name, 1, 0)
	if err := c.hearWindows(ctx, c.now()); err != nil {
		c.log.Debug("redis has not noted the once-window; the first save asks again", "error", err)
	}
	c.inspect(ctx)
	c.start(ctx)
	return c, nil
}

// start makes the connection work until it is closed, however ctx ends.
func (c *Connection) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.closing, c.cancel = ctx.Done(), cancel
	c.waits.start(ctx, c)
	c.saves.start(ctx, c, c.sendSaves)
	c.loads.start(ctx, c, c.sendLoads)
}

func (c *Connection) isClosing() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

// Ping asks Redis once whether it is there, for at most dial_timeout.
func (c *Connection) Ping(ctx context.Context) error {
	if c.isClosing() {
		return connector.Closed(c.name)
	}
	err := c.ping(ctx)
	if ctx.Err() == nil {
		c.reached(err)
	}
	return err
}

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

// Close ends the connection. It waits for the round trips under way, which their timeouts bound, and tries none again. Calls
// that have not been sent, and Waits, end with an error.
func (c *Connection) Close() error {
	c.closeOnce.Do(func() {
		c.cancel()
		c.goroutines.Wait()
		for r := range c.risks {
			c.setRisk(r, false)
		}
		c.health.mu.Lock()
		c.health.closed = true
		down := c.health.down() != nil
		c.health.mu.Unlock()
		if down {
			c.metrics.Up(c.name, -1, -1)
		} else {
			c.metrics.Up(c.name, -1, 0)
		}
		defer hidden.Delete(c)
		if err := c.client.Close(); err != nil && !errors.Is(err, goredis.ErrClosed) {
			c.closeErr = fmt.Errorf("closing the connection of connector %s: %w", c.name, err)
		}
	})
	return c.closeErr
}

// ended is the error of a call whose ctx is over. Where Redis is of no use now it says why, as nobody will hear of that otherwise.
func (c *Connection) ended(ctx context.Context, doing string) error {
	err := connector.Ended(ctx, c.name, doing)
	down := c.Down()
	if down == nil {
		return err
	}
	return batch.Errorf(batch.CodeOf(err), "connector %s: %s at redis %s was not done in time: %w, as redis is of no use: %v; %s",
		c.name, doing, c.addrs, ctx.Err(), down, c.advice(down))
}

// unavailable says that Redis could not be asked, or did not do it, and what to do about it.
func (c *Connection) unavailable(doing string, err error) error {
	return batch.Errorf(batch.CodeConnectorUnavailable, "connector %s: %s at redis %s: %w; %s", c.name, doing, c.addrs, err, c.advice(err))
}

// advice says what to do about an error that is Redis's own.
func (c *Connection) advice(err error) string {
	return cmp.Or(storeAdvice(err, c.prefix), "see that Redis runs there and can be reached from here; then try again")
}
