// Package deadletter keeps the rows that could not be done: one Redis stream for each flow, with limits by count and age that
// show when they are reached. The coordinator puts letters in before it answers their client, and runs them again when an
// operator says so.
//
// It is exported for the project's own programs and changes with them: see docs/stability.md.
package deadletter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/kisgrid/kisgrid/internal/redisreply"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Defaults of Config.
const (
	DefaultMax    = 100_000
	DefaultMaxAge = 30 * 24 * time.Hour
	DefaultPrefix = "kisgrid:dead:"
)

// Config says where letters are kept, and how many.
type Config struct {
	// URL is redis:// or rediss://[user@]host:port[/database]. A password in it is refused: it would stand in the process list.
	URL string
	// PasswordFile has the user's password; Password is it.
	PasswordFile, Password string
	// TLS secures rediss://. Default: the system's authorities.
	TLS *tls.Config
	// Prefix is what every key begins with. Default "kisgrid:dead:".
	Prefix string
	// Max bounds the letters of a flow. Default 100,000.
	Max int
	// MaxAge bounds how long a letter is kept; negative: for ever. Default 30 days.
	MaxAge time.Duration
	// Timeout bounds each round trip of Keep, for which clients wait; what operators wait for may take five times as long.
	// Default 2 s.
	Timeout time.Duration
}

// Store is a store of dead letters. It is safe for concurrent use; every call blocks until it is answered, its context is
// over, or its time is (Config.Timeout). Errors are *batch.Error: CodeUnavailable where the store is away.
type Store struct {
	config  Config
	client  *goredis.Client
	lockFor time.Duration // but for tests, as the constant is

	mu     sync.Mutex
	flows  map[string]bool      // that the store knows of; guarded by mu
	looked map[string]time.Time // when a flow's oldest letters were looked at; guarded by mu
}

// memory is for how long ids of letters that are gone are known: as long as a row may run again late.
const memory = time.Hour

// Open makes a store. It does not wait for Redis; the error is a mistake in the configuration.
func Open(c Config) (*Store, error) {
	options, err := goredis.ParseURL(c.URL)
	if err != nil {
		return nil, fmt.Errorf("the store for dead letters: %w: it is redis://host:port or rediss://host:port", hidden(err))
	}
	if options.Password != "" {
		return nil, errors.New("the store for dead letters: the URL has a password, which everybody can read who lists processes: give it in a file, or in the environment")
	}
	if options.Password = c.Password; c.PasswordFile != "" {
		text, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("the store for dead letters: read its password: %w", err)
		}
		options.Password = strings.TrimRight(string(text), "\r\n")
	}
	switch {
	case options.TLSConfig == nil && c.TLS != nil:
		return nil, errors.New("the store for dead letters: its TLS is configured, but the URL does not begin with rediss://")
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
	options.MaxRetries = -1 // each call says itself what a second try means
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = c.Timeout, patience*c.Timeout, patience*c.Timeout
	client := goredis.NewClient(options)
	redisreply.Own(client)
	return &Store{config: c, client: client, lockFor: lockFor, flows: map[string]bool{}, looked: map[string]time.Time{}}, nil
}

// hidden leaves the URL, which may hold a secret, out of an error.
func hidden(err error) error {
	if unwrapped := errors.Unwrap(err); unwrapped != nil {
		return unwrapped
	}
	return errors.New("the URL is not one")
}

// Close ends the connections.
func (s *Store) Close() error { return s.client.Close() }

// Max is the most letters that a flow may have.
func (s *Store) Max() int { return s.config.Max }

func (s *Store) key(flow, name string) string { return s.config.Prefix + "{" + flow + "}:" + name }

func (s *Store) keys(flow string) []string {
	keys := make([]string, len(scriptKeys))
	for i, name := range scriptKeys {
		keys[i] = s.key(flow, name)
	}
	return keys
}

// patience is how much longer operators wait than clients.
const patience = 5

// call runs f, for an operator, and says what was being done when it fails.
func (s *Store) call(ctx context.Context, doing string, f func(context.Context) error) error {
	return s.within(ctx, patience*s.config.Timeout, doing, f)
}

// promptly is call for what clients wait for.
func (s *Store) promptly(ctx context.Context, doing string, f func(context.Context) error) error {
	return s.within(ctx, s.config.Timeout, doing, f)
}

func (s *Store) within(ctx context.Context, limit time.Duration, doing string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := f(ctx)
	var network net.Error
	switch {
	case err == nil:
		return nil
	case batch.CodeOf(err) != batch.CodeInternal:
		return err
	case errors.Is(err, context.Canceled):
		return batch.Errorf(batch.CodeCancelled, "%s: %w", doing, err)
	case redisreply.IsAnswer(err) && goredis.HasErrorPrefix(err, "OOM"):
		return batch.Errorf(batch.CodeOverloaded, "%s: %w: give Redis more memory, or redrive or drop letters", doing, err)
	case errors.As(err, &network), errors.Is(err, context.DeadlineExceeded):
		return batch.Errorf(batch.CodeUnavailable, "%s: the store at %s is away: %w", doing, s.client.Options().Addr, err)
	}
	return batch.Errorf(batch.CodeUnavailable, "%s: the store at %s: %w: correct its URL, password or rights, or wait until it is well, and try again",
		doing, s.client.Options().Addr, err)
}

// ask sends commands together. The error is that of the first one whose result was not read: all of the store's commands and scripts
// go through here, and none has a result by default.
func (s *Store) ask(ctx context.Context, commands ...goredis.Cmder) error {
	if len(commands) == 0 {
		return nil
	}
	p := s.client.Pipeline()
	_ = p.BatchProcess(ctx, commands...) // it only gathers
	_, _ = p.Exec(ctx)                   // the commands tell
	for _, command := range commands {
		if _, err := redisreply.Of(command); err != nil {
			return err
		}
	}
	return nil
}

// run runs a script, which the store is told when it does not know it.
func (s *Store) run(ctx context.Context, script *goredis.Script, keys []string, args ...any) *goredis.Cmd {
	p := s.client.Pipeline()
	command := script.EvalSha(ctx, p, keys, args...)
	_, _ = p.Exec(ctx) // the command tells
	if answered, err := redisreply.Of(command); answered && goredis.HasErrorPrefix(err, "NOSCRIPT") {
		command = script.Eval(ctx, p, keys, args...)
		_, _ = p.Exec(ctx) // the command tells
	}
	return command
}

// wrongNumber is the error of an answer that has not as many results as were asked for.
func wrongNumber(got, want int) error {
	return fmt.Errorf("%d results came for %d questions: see what stands between this process and Redis", got, want)
}

// Ping asks the store whether it is there, and warns, with text, of settings that may lose letters.
func (s *Store) Ping(ctx context.Context) (warning string, err error) {
	err = s.call(ctx, "look for the store of dead letters", func(ctx context.Context) error {
		if err := s.ask(ctx, goredis.NewStatusCmd(ctx, "ping")); err != nil {
			return err
		}
		// Whoever may not read the configuration is not warned.
		policy, _ := s.client.ConfigGet(ctx, "maxmemory-policy").Result()
		if p := policy["maxmemory-policy"]; strings.HasPrefix(p, "allkeys") {
			warning = "maxmemory-policy is " + p + ", so Redis may forget letters: set noeviction, or volatile-lru"
		}
		return nil
	})
	return warning, err
}

// Keep keeps letters of one flow, and tells of each whether it is kept: false where the flow has as many as it may. A letter
// whose id is known is kept already, or was dealt with. After an error some may be kept.
func (s *Store) Keep(ctx context.Context, flow string, letters []*Letter) ([]bool, error) {
	kept := make([]bool, 0, len(letters))
	if err := s.know(ctx, flow); err != nil {
		return nil, err
	}
	if err := s.expire(ctx, flow); err != nil {
		return nil, err
	}
	const doing = "keep dead letters"
	for len(letters) > 0 {
		args := []any{s.config.Max, memory.Milliseconds()}
		n, size := 0, 0
		for ; n < min(len(letters), scriptLetters) && size < scriptBytes; n++ {
			text, err := letters[n].encode()
			if err != nil {
				return kept, batch.Errorf(batch.CodeInternal, "%s: write letter %s: %w", doing, letters[n].ID, err)
			}
			args = append(args, letters[n].ID.String(), text)
			size += len(text)
		}
		letters = letters[n:]
		if err := s.promptly(ctx, doing, func(ctx context.Context) error {
			verdicts, err := s.run(ctx, keepScript, s.keys(flow), args...).Int64Slice()
			if err == nil && len(verdicts) != n {
				err = wrongNumber(len(verdicts), n)
			}
			if err != nil {
				return err
			}
			for _, v := range verdicts {
				kept = append(kept, v == 1)
			}
			return nil
		}); err != nil {
			return kept, err
		}
	}
	return kept, nil
}

// What one script is given: Redis does nothing else meanwhile.
const (
	scriptLetters = 500
	scriptBytes   = 4 << 20
)

// know adds a flow to the set of those that may have letters.
func (s *Store) know(ctx context.Context, flow string) error {
	s.mu.Lock()
	known := s.flows[flow]
	s.mu.Unlock()
	if known {
		return nil
	}
	err := s.promptly(ctx, "keep dead letters", func(ctx context.Context) error {
		return s.ask(ctx, goredis.NewIntCmd(ctx, "sadd", s.config.Prefix+"flows", flow))
	})
	if err == nil {
		s.mu.Lock()
		s.flows[flow] = true
		s.mu.Unlock()
	}
	return err
}

// expire forgets letters over their age. Now and then is often enough.
func (s *Store) expire(ctx context.Context, flow string) error {
	s.mu.Lock()
	due := s.config.MaxAge > 0 && time.Since(s.looked[flow]) > min(s.config.MaxAge/10, 10*time.Second)
	if due {
		s.looked[flow] = time.Now()
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.promptly(ctx, "forget old dead letters", func(ctx context.Context) error {
		for {
			entries := goredis.NewXMessageSliceCmd(ctx, "xrange", s.key(flow, "letters"), "-", "+", "count", 1)
			clock := goredis.NewTimeCmd(ctx, "time")
			if err := s.ask(ctx, entries, clock); err != nil {
				return err
			}
			oldest := entries.Val()
			if len(oldest) == 0 || timeOf(oldest[0].ID).Add(s.config.MaxAge).After(clock.Val()) {
				return nil
			}
			gone, err := s.run(ctx, expireScript, s.keys(flow), s.config.MaxAge.Milliseconds()).Int()
			if err != nil || gone == 0 {
				return err
			}
		}
	})
}

// timeOf is when an entry was added to a stream.
func timeOf(entry string) time.Time {
	text, _, _ := strings.Cut(entry, "-")
	ms, _ := strconv.ParseInt(text, 10, 64) // Redis's own
	return time.UnixMilli(ms)
}
