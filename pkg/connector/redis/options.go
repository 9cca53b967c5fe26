package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// bufferSize is that of each connection in each direction: most of what goes over it is pipelines of thousands of commands.
const bufferSize = 128 << 10

// longest bounds once_window: records kept for a quarter longer than the largest Duration would be kept for none at all.
const longest = 100 * 365 * 24 * time.Hour

// options are what a document says, beside what go-redis needs of it.
type options struct {
	client         *goredis.UniversalOptions
	retries        int
	retryMin       time.Duration
	retryMax       time.Duration
	replicas       int
	replicaTimeout time.Duration
	onceWindow     time.Duration
	onceKeep       time.Duration // how long records are kept: longer than batches may be old, for those under way
	// ignored are parameters that mean nothing here. They are no mistake: KisFlow's documents carry the user's own.
	ignored []string
	known   []string // those that mean something
}

// readOptions turns a document into options; the error joins every mistake.
func readOptions(c *definition.Connector, log hclog.Logger) (*options, error) {
	p := params{values: c.Params, known: map[string]bool{}}
	o := &options{
		retries:        p.number("retries", 10, 0),
		retryMin:       p.duration("retry_min", 50*time.Millisecond),
		retryMax:       p.duration("retry_max", 2*time.Second),
		replicas:       c.Replicas,
		replicaTimeout: p.duration("replica_timeout", time.Second),
		onceWindow:     p.duration("once_window", connector.OnceWindow),
	}
	o.onceWindow = min(o.onceWindow, longest)
	o.onceKeep = o.onceWindow + o.onceWindow/4
	o.client = &goredis.UniversalOptions{
		Addrs:            c.Addrs,
		ClientName:       "kisgrid",
		MasterName:       p.text("master"),
		SentinelUsername: p.text("sentinel_username"),
		SentinelPassword: p.text("sentinel_password"),
		IsClusterMode:    p.flag("cluster"),
		DB:               p.number("db", 0, 0),
		Username:         c.Username,
		Password:         p.text("password"),
		PoolSize:         p.number("pool_size", 8, 1),
		DialTimeout:      p.duration("dial_timeout", 5*time.Second),
		ReadTimeout:      p.duration("read_timeout", 3*time.Second),
		WriteTimeout:     p.duration("write_timeout", 3*time.Second),

		// The second version of the protocol: a hash comes as one flat list, and nothing is pushed.
		Protocol:                 2,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		DisableIdentity:          true,
		// Retries are roundTrip's: it reports each failure, and knows what need not be sent again.
		MaxRetries:       -1,
		DialerRetries:    1,
		PipelinePoolSize: -1,
		ReadBufferSize:   bufferSize,
		WriteBufferSize:  bufferSize,
	}
	p.tls(c.TLS, o.client, log)
	if c.PasswordFile != "" {
		o.client.Password = p.file("password_file", c.PasswordFile, o.client.Password)
	}
	o.check(c, &p)
	if len(p.mistakes) > 0 {
		return nil, batch.Errorf(batch.CodeBadDocument, "connector %s (%s): %w; correct the document", c.Name, c.Document, errors.Join(p.mistakes...))
	}
	return o, nil
}

// check finds what does not go together.
func (o *options) check(c *definition.Connector, p *params) {
	o.known = slices.Sorted(maps.Keys(p.known))
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		if !p.known[name] {
			o.ignored = append(o.ignored, name)
		}
	}
	if len(c.Addrs) == 0 {
		p.mistake("addrs names no server")
	}
	if o.retryMin > o.retryMax {
		p.mistake("params: retry_min (%s) is over retry_max (%s)", p.given("retry_min", o.retryMin), p.given("retry_max", o.retryMax))
	}
	if o.replicas > 0 && o.replicaTimeout >= o.client.ReadTimeout {
		p.mistake("params: replica_timeout (%s) must be under read_timeout (%s)",
			p.given("replica_timeout", o.replicaTimeout), p.given("read_timeout", o.client.ReadTimeout))
	}
	clustered := o.client.IsClusterMode || (len(c.Addrs) > 1 && o.client.MasterName == "")
	switch {
	case o.client.IsClusterMode && o.client.MasterName != "":
		p.mistake("params: master (Sentinel) and cluster exclude each other")
	case clustered && o.client.DB != 0:
		p.mistake("params: db is %s, but a Cluster has database 0 only", p.given("db", o.client.DB))
	case clustered && o.replicas > 0:
		p.mistake("replicas works with a single node or Sentinel; on a Cluster set min-replicas-to-write in its servers")
	}
}

// params reads a document's parameters, and gathers the mistakes in them and the names that were asked for.
type params struct {
	values   map[string]string
	known    map[string]bool
	mistakes []error
}

func (p *params) mistake(format string, args ...any) {
	p.mistakes = append(p.mistakes, fmt.Errorf(format, args...))
}

// given is how messages show a parameter: as the document has it, since a value that was read, and is written anew, is not known
// again as one from the environment; value is the default.
func (p *params) given(name string, value any) string {
	if text := p.values[name]; text != "" {
		return text
	}
	return fmt.Sprint(value)
}

func (p *params) text(name string) string {
	p.known[name] = true
	return p.values[name]
}

func (p *params) number(name string, value, least int) int {
	if s := p.text(name); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < least {
			p.mistake("params: %s is %q, but must be a whole number from %d", name, s, least)
			return value
		}
		return n
	}
	return value
}

func (p *params) duration(name string, value time.Duration) time.Duration {
	if s := p.text(name); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			p.mistake("params: %s is %q, but must be a time like 500ms or 3s", name, s)
			return value
		}
		return d
	}
	return value
}

func (p *params) flag(name string) bool {
	s := p.text(name)
	if s == "" {
		return false
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		p.mistake("params: %s is %q, but must be true or false", name, s)
	}
	return b
}

// file reads a secret; one that the document gives as well is a mistake. One line break at the file's end is not part of it.
func (p *params) file(name, path, given string) string {
	if given != "" {
		p.mistake("%s and params.password exclude each other", name)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		p.mistake("%s: %w", name, connector.Outside(err))
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
}

// tls has connections speak TLS if it is on, or any of its parameters is there.
func (p *params) tls(on bool, o *goredis.UniversalOptions, log hclog.Logger) {
	files := transport.Config{
		TLSCA: p.text("tls_ca"), TLSCert: p.text("tls_cert"), TLSKey: p.text("tls_key"), TLSServerName: p.text("tls_server_name"),
		Logger: log, SettingName: func(setting string) string { return strings.ReplaceAll(setting, "-", "_") },
	}
	trusting := p.flag("tls_skip_verify")
	given := files.TLSCA != "" || files.TLSCert != "" || files.TLSKey != ""
	on = p.flag("tls") || on || given || trusting || files.TLSServerName != ""
	switch {
	case !on:
	case given && !trusting:
		dial, err := files.Dialer()
		if err != nil {
			p.mistake("params: %w", connector.Outside(err))
			return
		}
		o.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, o.DialTimeout)
			defer cancel()
			return dial(ctx, network, address)
		}
	default:
		secure, err := files.ClientTLS()
		if err != nil {
			p.mistake("params: %w", connector.Outside(err))
			return
		}
		if secure == nil {
			secure = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: files.TLSServerName}
		}
		secure.InsecureSkipVerify = trusting // the operator's explicit choice, for tests
		o.TLSConfig = secure
	}
}
