// Package cluster is everything that KisGrid keeps in etcd: the definitions, the history and status of flows, who is a
// member, and who leads. A Store is one connection to etcd; every key is built in keys.go.
//
// Errors are *batch.Error: CodeUnavailable when etcd does not answer or refuses the user, CodeConflict when somebody else
// was faster, CodeCancelled and CodeDeadline when the caller's context ended.
//
// It is exported for the project's own programs and changes with them: see docs/stability.md.
package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
)

// Defaults of Config and of leases.
const (
	DefaultPrefix  = "/kisgrid/"
	DefaultTimeout = 5 * time.Second
	DefaultTTL     = 10 * time.Second
	// DefaultMaxOperations is what etcd's --max-txn-ops is where nobody sets it.
	DefaultMaxOperations = 128
)

// Config says how to reach etcd. Only Endpoints must be given.
type Config struct {
	// Endpoints are etcd's client addresses, each host:port or a URL. The members of one etcd cluster.
	Endpoints []string
	// Prefix begins every key; a slash is added where it doesn't end in one. Default "/kisgrid/".
	Prefix string
	// TLS secures the connection. Default nil: plain text.
	TLS *tls.Config
	// Credentials secure it in place of TLS, with files that may change while it is open. Default nil.
	Credentials credentials.TransportCredentials
	// Username signs in where etcd asks for it, with the password in PasswordFile, read once, by Open. Default: no sign-in.
	Username     string
	PasswordFile string
	// Timeout bounds each call to etcd, beside the caller's context. Default 5 s.
	Timeout time.Duration
	// MaxOperations is how many documents one transaction may write: no more than etcd's --max-txn-ops. Default
	// DefaultMaxOperations.
	MaxOperations int
	// Logger gets outages of etcd, once each, and records that can't be read, once each. Default: nobody.
	Logger hclog.Logger
}

// Store is what KisGrid keeps in one etcd. Its methods may be called by several goroutines at the same time.
type Store struct {
	client    *clientv3.Client
	calls     *calls
	door      *door // nil without a user
	keys      keys
	endpoints string // for messages
	timeout   time.Duration
	most      int // operations of a transaction
	outage    outage
	skipped   skipped
}

// Open checks the configuration and makes a Store. It does not wait for etcd: Wait does.
func Open(c Config) (*Store, error) {
	if len(c.Endpoints) == 0 {
		return nil, errors.New("open etcd: no endpoint given: name at least one, as host:port")
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.MaxOperations <= 0 {
		c.MaxOperations = DefaultMaxOperations
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	password, err := readPassword(c.Username, c.PasswordFile)
	if err != nil {
		return nil, err
	}
	calls := &calls{}
	dial := []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: c.Timeout,
		}),
	}
	if c.Credentials != nil {
		dial = append(dial, grpc.WithTransportCredentials(c.Credentials))
	}
	config := clientv3.Config{
		Endpoints:            c.Endpoints,
		TLS:                  c.TLS,
		Username:             c.Username,
		Password:             password,
		DialTimeout:          time.Hour, // when the client would give up a lease before its first renewal: claim.renew decides that
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		MaxUnaryRetries:      20, // 25 ms apart: whoever can wait longer does so in a loop that tells about it
		Logger:               zap.NewNop(),
		DialOptions:          append(slices.Clip(dial), grpc.WithChainUnaryInterceptor(calls.intercept)),
	}
	client, err := clientv3.New(config)
	if err == nil && c.Username != "" {
		config.DialOptions = append(slices.Clip(dial), grpc.WithChainUnaryInterceptor(failFast))
		calls.door, err = openDoor(config)
	}
	if err != nil {
		return nil, fmt.Errorf("open etcd at %s: %w", strings.Join(c.Endpoints, ","), err)
	}
	calls.opened.Store(true)
	s := &Store{
		client:    client,
		calls:     calls,
		door:      calls.door,
		keys:      keys{prefix: strings.TrimSuffix(c.Prefix, "/") + "/"},
		endpoints: strings.Join(c.Endpoints, ","),
		timeout:   c.Timeout,
		most:      c.MaxOperations,
	}
	s.outage.logger = c.Logger.With("endpoints", s.endpoints)
	s.skipped.logger = c.Logger
	return s, nil
}

func readPassword(username, file string) (string, error) {
	switch {
	case username == "" && file == "":
		return "", nil
	case username == "":
		return "", errors.New("open etcd: a password file without a user name: give both, or neither")
	case file == "":
		return "", fmt.Errorf("open etcd: user %q without a password file: give both, or neither", username)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the password of etcd user %q: %w", username, err)
	}
	password := strings.TrimRight(string(data), "\r\n")
	if password == "" {
		return "", fmt.Errorf("read the password of etcd user %q: %s is empty", username, file)
	}
	return password, nil
}

// LastAnswer is when etcd answered last, by this process's clock; zero: it never did. While somebody holds a Registration, that is no
// longer ago than a third of its lease, unless etcd is away. What is followed stands then as it did in etcd, or is newer.
func (s *Store) LastAnswer() time.Time {
	if at := s.calls.heard.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// Outage reports whether somebody who follows etcd waits for it, and why. It does not ask etcd.
func (s *Store) Outage() (away bool, why string) { return s.outage.now() }

// Close ends the connection. Every Follow and Campaign returns, and leases run out unless their owners closed them before.
func (s *Store) Close() error {
	for _, err := range []error{s.client.Close(), s.door.close()} {
		if err == nil || errors.Is(err, context.Canceled) {
			continue
		}
		return fmt.Errorf("close the connection to etcd at %s: %w", s.endpoints, err)
	}
	return nil
}

// waitPause is between two tries of Wait.
const waitPause = 250 * time.Millisecond

// Wait blocks until etcd answers and lets this user in. While it does not, progress, if not nil, is called with the reason,
// once for each different one.
func (s *Store) Wait(ctx context.Context, progress func(error)) error {
	told := ""
	for {
		err := s.ping(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return s.explain(ctx, "waiting for it", ctx.Err())
		}
		if progress != nil && err.Error() != told {
			told = err.Error()
			progress(err)
		}
		select {
		case <-time.After(waitPause):
		case <-ctx.Done():
		case <-s.client.Ctx().Done():
			return s.explain(ctx, "waiting for it", s.client.Ctx().Err())
		}
	}
}

// ping reads below workers/, the one prefix that the role of every process allows.
func (s *Store) ping(ctx context.Context) error {
	span := s.keys.workers()
	_, err := s.page(ctx, span.from, span.to, clientv3.WithLimit(1), clientv3.WithKeysOnly())
	return err
}

// pageSize bounds one answer to a list, in records.
const pageSize = 256

// list reads a range as it stands at one revision, sorted by key.
func (s *Store) list(ctx context.Context, span keyRange, options ...clientv3.OpOption) (kvs []*mvccpb.KeyValue, revision int64, err error) {
	for from := span.from; ; {
		page, err := s.page(ctx, from, span.to, append(options, clientv3.WithLimit(pageSize), clientv3.WithRev(revision))...)
		if errors.Is(err, rpctypes.ErrCompacted) {
			kvs, revision, from = nil, 0, span.from
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = page.Header.Revision
		}
		kvs = append(kvs, page.Kvs...)
		if !page.More {
			return kvs, revision, nil
		}
		from = string(kvs[len(kvs)-1].Key) + "\x00"
	}
}

func (s *Store) page(ctx context.Context, from, to string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	call, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	page, err := s.client.Get(call, from, append(options, clientv3.WithRange(to))...)
	if err != nil {
		return nil, s.explain(ctx, "reading "+from, err)
	}
	return page, nil
}
