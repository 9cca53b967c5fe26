package deadletter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/redisreply"
)

// Defaults of Config.
const (
	DefaultMax    = 100_000             // the number of letters that a flow may have
	DefaultMaxAge = 30 * 24 * time.Hour // how long a letter is kept
	DefaultPrefix = "kisgrid:dead:"     // begins every key in Redis
)

// Config says where letters are kept, and how many.
type Config struct {
	// URL is redis:// or rediss://[user@]host:port[/database]. A URL with a password is refused, because it would be visible in the list of
	// processes.
	URL string
	// PasswordFile is a file with the user's password. Password is the password itself; PasswordFile takes precedence.
	PasswordFile, Password string
	// TLS is for a rediss:// URL. Default: the certificate authorities of the system.
	TLS *tls.Config
	// Prefix begins every key. Default "kisgrid:dead:".
	Prefix string
	// Max is the limit for the letters of one flow. Default 100,000.
	Max int
	// MaxAge is how long a letter is kept; a negative one means for ever. Default 30 days.
	MaxAge time.Duration
	// Timeout is the limit for each round trip of Keep, which clients wait for. Calls that operators wait for have five times as long.
	// Default 2 s.
	Timeout time.Duration
	// Network is the network over which to dial Redis. Default: that of the machine.
	Network network.Network
}

// Store keeps the dead letters of all flows. It is safe for concurrent use. Each call to Redis ends when Redis answers, when the context is
// over, or after the time that Config.Timeout sets. Errors are *batch.Error; CodeUnavailable means that Redis can't be reached or refused
// the call.
type Store struct {
	config  Config
	client  *goredis.Client
	lockFor time.Duration // how long a lock lasts that is not renewed: the constant lockFor, except in tests

	mu      sync.Mutex
	flows   map[string]bool      // flows that are in the set of flows already; guarded by mu
	expired map[string]time.Time // when this process last looked for letters that are too old, by flow; guarded by mu
	full    map[string]*fullFlow // flows that have no room for letters; guarded by mu
	teller  *time.Timer          // calls tellRefused; nil while nothing is to be told; guarded by mu
	closed  bool                 // Close was called; guarded by mu
	tellers sync.WaitGroup       // the call of tellRefused that teller makes
}

// Open makes a Store. It does not wait for Redis. An error says what is wrong in the configuration.
func Open(c Config) (*Store, error) {
	options, err := goredis.ParseURL(c.URL)
	if err != nil {
		return nil, fmt.Errorf("the store for dead letters: %w: write redis://host:port or rediss://host:port", hidden(err))
	}
	if options.Password != "" {
		return nil, errors.New("the store for dead letters: the URL has a password, which is visible in the list of processes: give the password in a file, or in the environment")
	}
	if options.Password = c.Password; c.PasswordFile != "" {
		text, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("the store for dead letters: read the password: %w", err)
		}
		options.Password = strings.TrimRight(string(text), "\r\n")
	}
	switch {
	case options.TLSConfig == nil && c.TLS != nil:
		return nil, errors.New("the store for dead letters: TLS is configured, but the URL does not begin with rediss://")
	case c.TLS != nil:
		secure := c.TLS.Clone()
		if secure.ServerName == "" {
			secure.ServerName = options.TLSConfig.ServerName
		}
		options.TLSConfig = secure
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.Max <= 0 {
		c.Max = DefaultMax
	}
	if c.MaxAge == 0 {
		c.MaxAge = DefaultMaxAge
	}
	if c.Timeout <= 0 {
		c.Timeout = 2 * time.Second
	}
	options.Protocol, options.DisableIdentity, options.ClientName = 2, true, "kisgrid"
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	options.ContextTimeoutEnabled = true
	options.DialerRetries = 1
	options.MaxRetries = -1 // each method decides itself whether a second try is safe
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = c.Timeout, operatorFactor*c.Timeout, operatorFactor*c.Timeout
	if c.Network != nil {
		options.Dialer = network.Dialer(c.Network, options.TLSConfig, options.DialTimeout)
	}
	client := goredis.NewClient(options)
	redisreply.Own(client)
	return &Store{config: c, client: client, lockFor: lockFor, flows: map[string]bool{}, expired: map[string]time.Time{}, full: map[string]*fullFlow{}}, nil
}

// hidden returns the reason within an error of parsing a URL, without the URL itself, which may hold a secret.
func hidden(err error) error {
	if unwrapped := errors.Unwrap(err); unwrapped != nil {
		return unwrapped
	}
	return errors.New("the URL can't be parsed")
}

// Max returns the limit for the letters of one flow.
func (s *Store) Max() int { return s.config.Max }

// Ping checks that Redis answers. If warning is not empty, Redis has a setting by which it may lose letters; the warning names it.
func (s *Store) Ping(ctx context.Context) (warning string, err error) {
	err = s.operatorCall(ctx, "look for the store of dead letters", func(ctx context.Context) error {
		if err := s.send(ctx, goredis.NewStatusCmd(ctx, "ping")); err != nil {
			return err
		}
		// A user who may not read the configuration gets no warning.
		policy, _ := s.client.ConfigGet(ctx, "maxmemory-policy").Result()
		if p := policy["maxmemory-policy"]; strings.HasPrefix(p, "allkeys") {
			warning = "maxmemory-policy is " + p + ", so Redis may forget letters: set noeviction, or volatile-lru"
		}
		return nil
	})
	return warning, err
}
