package simetcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/network"
)

// Defaults of Config, which are those of etcd.
const (
	DefaultMaxOperations = 128
	DefaultMaxBytes      = 3 << 19 // 1.5 MiB
	DefaultElection      = time.Second
	DefaultTokenLasts    = 5 * time.Minute
)

// Config says how the members are set up. Only Members is required.
type Config struct {
	// Members are the servers. They share one state.
	Members []Member
	// MaxOperations is --max-txn-ops, MaxBytes --max-request-bytes. Default DefaultMaxOperations, DefaultMaxBytes.
	MaxOperations, MaxBytes int
	// Election is the election timeout: how long members wait for a leader before they elect another one. Default DefaultElection. The
	// shortest lease is one and a half of it, rounded up to whole seconds.
	Election time.Duration
	// TokenLasts is how long a sign-in is valid after its last use. Default DefaultTokenLasts.
	TokenLasts time.Duration
	// Delay is how long each answer takes. SetDelay changes it. Default 0.
	Delay time.Duration
	// TLS is with which the members serve clients. Default nil: plain text.
	TLS *tls.Config
	// Seed decides which member is elected, and when.
	Seed uint64
}

// Member is one server of the cluster.
type Member struct {
	Name    string
	Network network.Network // of its machine
	// Address is the host:port to listen at. Port 0 means a free one. An empty host means all addresses of the machine, which clients then
	// reach under the member's name.
	Address string
}

// Etcd is the cluster. Its methods may be called from several goroutines.
type Etcd struct {
	config  Config
	born    time.Time
	members []*member
	running sync.WaitGroup // servers, and goroutines of streams

	mu       sync.Mutex // guards the fields below, and all of state and members
	state    *state
	rand     *rand.Rand
	leader   *member // nil means that there is none
	term     uint64
	held     int           // calls of Elect that hold an election up
	election *time.Timer   // elects a leader; nil means that no election is under way
	expiry   *time.Timer   // ends leases
	changed  chan struct{} // closed, and made anew, when a leader or a member comes or goes
	delay    time.Duration
	rules    []*rule // what goes wrong with calls; replaced when it changes
	tokens   map[string]*token
	signed   uint64   // tokens that were given out
	lives    int      // how often the state was replaced by another one
	journal  []Change // everything that was ever written
	closed   bool
}

// Start starts the members, and elects the first one. It blocks only in the Listen methods of the members' networks. ctx bounds the start,
// not the life of the cluster. The error says which address can't be listened at.
func Start(ctx context.Context, c Config) (*Etcd, error) {
	if len(c.Members) == 0 {
		return nil, errors.New("start the simulated etcd: no members given")
	}
	if c.MaxOperations <= 0 {
		c.MaxOperations = DefaultMaxOperations
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.Election <= 0 {
		c.Election = DefaultElection
	}
	if c.TokenLasts <= 0 {
		c.TokenLasts = DefaultTokenLasts
	}
	e := &Etcd{
		config: c, born: time.Now(), rand: rand.New(rand.NewPCG(c.Seed, 0xe7cd)), term: 2, changed: make(chan struct{}),
		delay: c.Delay, tokens: map[string]*token{},
	}
	e.state = newState(e.rand.Uint64())
	e.expiry = time.AfterFunc(time.Hour, e.expire)
	e.expiry.Stop()
	for i, m := range c.Members {
		e.members = append(e.members, newMember(e, m, uint64(i)))
	}
	for _, m := range e.members {
		if err := m.start(ctx); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lead(e.members[0])
	return e, nil
}

// Close stops all members and waits until nothing of them runs any more.
func (e *Etcd) Close() error {
	e.mu.Lock()
	e.closed = true
	e.expiry.Stop()
	if e.election != nil {
		e.election.Stop()
	}
	e.mu.Unlock()
	for _, m := range e.members {
		m.stop()
	}
	e.running.Wait()
	return nil
}

// Addresses returns the addresses at which clients reach the members, in the order of Config.Members. They stay the same over restarts.
func (e *Etcd) Addresses() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	addresses := make([]string, len(e.members))
	for i, m := range e.members {
		addresses[i] = m.reachedAt()
	}
	return addresses
}

// member returns the member with a name. It panics if there is none, which is a mistake of the test.
func (e *Etcd) member(name string) *member {
	for _, m := range e.members {
		if m.Name == name {
			return m
		}
	}
	panic(fmt.Sprintf("the simulated etcd has no member %q", name))
}

// broadcast wakes everybody who waits for a leader or for a member. e.mu is held.
func (e *Etcd) broadcast() {
	close(e.changed)
	e.changed = make(chan struct{})
}
