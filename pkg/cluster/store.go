package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"

	"github.com/kisgrid/kisgrid/internal/network"
)

// Defaults of Config and of leases.
const (
	DefaultPrefix  = "/kisgrid/"      // begins every key
	DefaultTimeout = 5 * time.Second  // the limit for each call to etcd
	DefaultTTL     = 10 * time.Second // how long a lease lasts after it was last renewed
	// DefaultMaxOperations is the default of etcd's own limit, --max-txn-ops.
	DefaultMaxOperations = 128
)

// Config says how to reach etcd. Only Endpoints is required.
type Config struct {
	// Endpoints are the client addresses of one etcd cluster's members, each as host:port or a URL.
	Endpoints []string
	// Prefix begins every key. A slash is added if it does not end in one. Default "/kisgrid/".
	Prefix string
	// TLS secures the connection. Default nil: plain text.
	TLS *tls.Config
	// Credentials secure the connection instead of TLS, with files that may change while it is open. Default nil.
	Credentials credentials.TransportCredentials
	// Username signs in, if etcd asks for it. The password is the text of PasswordFile, which Open reads once. Default: no sign-in.
	Username     string
	PasswordFile string
	// Timeout is the limit for each call to etcd, beside the caller's context. Default 5 s.
	Timeout time.Duration
	// MaxOperations is the limit for the documents that one transaction writes. It must not be above etcd's --max-txn-ops. Default
	// DefaultMaxOperations.
	MaxOperations int
	// Network is the network over which to dial. Default nil: gRPC dials over that of the machine, through the proxy of the environment if
	// there is one.
	Network network.Network
	// Logger gets one message for each outage of etcd, and one for each record that can't be read. Default: no messages.
	Logger hclog.Logger
}

// Store reads and writes KisGrid's keys in one etcd. It is safe for concurrent use.
type Store struct {
	client     *clientv3.Client
	calls      *calls
	signer     *authenticator // nil means that no user signs in
	keys       keys
	endpoints  string        // for messages
	secure     bool          // the connection uses TLS
	timeout    time.Duration // of each call
	maxOps     int           // the limit for operations in one transaction
	outage     outage
	unreadable unreadableLog
	watches    atomic.Int64 // counts watches, to tell them apart
}

// Open checks the configuration, reads the password file, and makes a Store. It does not wait for etcd; Wait does.
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
	if c.Network != nil {
		dial = append(dial, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return c.Network.DialContext(ctx, "tcp", address)
		}))
	}
	if c.Credentials != nil {
		dial = append(dial, grpc.WithTransportCredentials(c.Credentials))
	}
	config := clientv3.Config{
		Endpoints:            c.Endpoints,
		TLS:                  c.TLS,
		Username:             c.Username,
		Password:             password,
		DialTimeout:          time.Hour, // after this time the etcd client would give up a lease that was never renewed; claim.renew decides that instead
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		MaxUnaryRetries:      20, // 25 ms apart; a caller that can wait longer has a loop of its own, which logs
		Logger:               zap.NewNop(),
		DialOptions:          append(slices.Clip(dial), grpc.WithChainUnaryInterceptor(calls.intercept), grpc.WithChainStreamInterceptor(watchStream)),
	}
	client, err := clientv3.New(config)
	if err == nil && c.Username != "" {
		config.DialOptions = append(slices.Clip(dial), grpc.WithChainUnaryInterceptor(failFast))
		calls.signer, err = newAuthenticator(config)
	}
	if err != nil {
		return nil, fmt.Errorf("open etcd at %s: %w", strings.Join(c.Endpoints, ","), err)
	}
	calls.opened.Store(true)
	s := &Store{
		client:    client,
		calls:     calls,
		signer:    calls.signer,
		keys:      keys{prefix: strings.TrimSuffix(c.Prefix, "/") + "/"},
		endpoints: strings.Join(c.Endpoints, ","),
		secure:    c.TLS != nil || c.Credentials != nil || strings.HasPrefix(c.Endpoints[0], "https://"),
		timeout:   c.Timeout,
		maxOps:    c.MaxOperations,
	}
	s.outage.logger = c.Logger.With("endpoints", s.endpoints)
	s.unreadable.logger = c.Logger
	return s, nil
}

// readPassword reads the file with the password of a user. Without a user name and a file it returns no password.
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

// LastAnswer returns when etcd answered last, by this process's clock; zero means never. While this process holds a Registration and etcd
// is in reach, the time is at most a third of the lease ago. The copies that Follow methods show are at least as new.
func (s *Store) LastAnswer() time.Time {
	if at := s.calls.heard.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// Outage reports whether a Follow method or a Campaign of this Store waits for etcd now, and why; the text is empty if none waits. It does
// not ask etcd.
func (s *Store) Outage() (away bool, why string) { return s.outage.now() }

// Close ends the connection. Every Follow method and Campaign then returns. The leases of this process run out, unless their owners have
// given them back before.
func (s *Store) Close() error {
	for _, err := range []error{s.client.Close(), s.signer.close()} {
		if err == nil || errors.Is(err, context.Canceled) {
			continue
		}
		return fmt.Errorf("close the connection to etcd at %s: %w", s.endpoints, err)
	}
	return nil
}

// waitPause is the pause between two tries of Wait.
const waitPause = 250 * time.Millisecond

// Wait blocks until etcd answers and accepts the user. While it does not, Wait calls progress with the reason, once each time that the
// reason has changed. progress may be nil. The error says that ctx has ended or the Store was closed.
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

// ping reads one key below workers/, the one prefix that the etcd roles of coordinators and workers both may read.
func (s *Store) ping(ctx context.Context) error {
	span := s.keys.workers()
	_, err := s.page(ctx, span.from, span.to, clientv3.WithLimit(1), clientv3.WithKeysOnly())
	return err
}
