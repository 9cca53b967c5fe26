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

	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// bufferSize is the size in bytes of each socket's buffer, in each direction. Most pipelines have thousands of commands.
const bufferSize = 128 << 10

// longest is the limit for once_window; a longer one counts as this one. Records are kept a quarter longer than once_window,
// and that must fit into a time.Duration.
const longest = 100 * 365 * 24 * time.Hour

// options are the settings that a connector's document makes: those of go-redis, and those of this package.
type options struct {
	client         *goredis.UniversalOptions
	retries        int
	retryMin       time.Duration
	retryMax       time.Duration
	replicas       int
	replicaTimeout time.Duration
	onceWindow     time.Duration
	onceKeep       time.Duration // how long records are kept: longer than onceWindow, for batches that are under way
	// ignored are parameters that mean nothing to this connector. They are no mistake: KisFlow's documents carry parameters of
	// the user's own.
	ignored []string
	known   []string // the parameters that mean something
}

// readOptions reads a document's options. The error joins all mistakes in the document. via is the network over which to dial; nil means
// that of the machine, over which go-redis dials by itself. log is the logger of files with certificates.
func readOptions(c *definition.Connector, via network.Network, log hclog.Logger) (*options, error) {
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
		// roundTrip does the retries: it reports each failure, and knows which commands need not be sent again.
		MaxRetries:       -1,
		DialerRetries:    1,
		PipelinePoolSize: -1,
		ReadBufferSize:   bufferSize,
		WriteBufferSize:  bufferSize,
	}
	p.tls(c.TLS, o.client, via, log)
	if via != nil && o.client.Dialer == nil {
		o.client.Dialer = network.Dialer(via, o.client.TLSConfig, o.client.DialTimeout)
	}
	if c.PasswordFile != "" {
		o.client.Password = p.file("password_file", c.PasswordFile, o.client.Password)
	}
	o.check(c, &p)
	if len(p.mistakes) > 0 {
		return nil, batch.Errorf(batch.CodeBadDocument, "connector %s (%s): %w; correct the document", c.Name, c.Document, errors.Join(p.mistakes...))
	}
	return o, nil
}

// check notes, as mistakes in p, options that exclude each other, and collects the parameters that this connector does not
// know.
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

// params reads a document's parameters. It collects the mistakes in them, and the names that the connector knows.
type params struct {
	values   map[string]string
	known    map[string]bool
	mistakes []error
}

// mistake notes a mistake in the document.
func (p *params) mistake(format string, args ...any) {
	p.mistakes = append(p.mistakes, fmt.Errorf(format, args...))
}

// given returns the text that messages show for a parameter: as the document has it, or value, the default. A value that is
// parsed and written anew, such as 1m0s for 60s, could no longer be recognized as a secret from the environment.
func (p *params) given(name string, value any) string {
	if text := p.values[name]; text != "" {
		return text
	}
	return fmt.Sprint(value)
}

// text returns a parameter, and "" if the document does not have it.
func (p *params) text(name string) string {
	p.known[name] = true
	return p.values[name]
}

// number reads a parameter that must be a whole number, at least least. If the document does not have it, or it is wrong,
// which number notes as a mistake, number returns value.
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

// duration reads a parameter that must be a time over 0. If the document does not have it, or it is wrong, which duration
// notes as a mistake, duration returns value.
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

// flag reads a parameter that must be true or false; anything else is noted as a mistake. Without the parameter it returns
// false.
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

// file reads a secret from a file, without one line break at its end. given is the same secret as another parameter gives it;
// having both is a mistake.
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

// tls makes the client options o use TLS if on is true, or if the document has any parameter about TLS. via is the network over which to
// dial. log is the logger of the files with certificates, which are read again when they change.
func (p *params) tls(on bool, o *goredis.UniversalOptions, via network.Network, log hclog.Logger) {
	files := transport.Config{
		TLSCA: p.text("tls_ca"), TLSCert: p.text("tls_cert"), TLSKey: p.text("tls_key"), TLSServerName: p.text("tls_server_name"),
		Network: via, Logger: log, SettingName: func(setting string) string { return strings.ReplaceAll(setting, "-", "_") },
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
		secure.InsecureSkipVerify = trusting // tls_skip_verify: the operator asked for it, for tests
		o.TLSConfig = secure
	}
}
