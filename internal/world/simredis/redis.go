package simredis

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// Config says how a Redis is set up. Listen is required.
type Config struct {
	// Listen opens the listener at which clients find Redis. It is called at the start, and whenever Redis comes back after Down.
	Listen func(context.Context) (net.Listener, error)
	// Owner names the process at the other end of an accepted connection, for rules and the journal. nil means the address of that end.
	Owner func(net.Conn) string
	// Password is the password of the user default. Empty means that there is none.
	Password string
	// Replicas is the number of replicas, which WAIT counts.
	Replicas int
	// Lag is how far replicas are behind: a failover loses the writes of so much time, and WAIT takes so long.
	Lag time.Duration
	// Settings are answers of CONFIG GET and INFO, by name, beside the defaults of Redis.
	Settings map[string]string
}

// Redis is a simulated Redis server. Its methods may be called from several goroutines, but not by a Rule. None of them waits for
// clients, except Close and Down, which wait for the connections' goroutines.
type Redis struct {
	config Config
	group  sync.WaitGroup // the goroutines that accept, and those of connections

	// mu makes commands one after the other, as Redis does: a command is carried out, and its answer queued, under it. It guards
	// everything below, and everything in a conn that is marked so.
	mu       sync.Mutex
	listener net.Listener // nil while Redis is down
	conns    map[*conn]struct{}
	lastConn int           // number of the newest connection
	commands int           // commands that have come, from all clients
	rule     Rule          // nil means that nothing goes wrong
	password string        // of the user default; empty means that none is needed
	paused   chan struct{} // closed when Redis goes on; nil while it runs
	slow     time.Duration // passes before each command
	troubles troubles
	engine   *engine
	journal  []Write
	channels map[string]map[*conn]struct{} // subscribers by channel
}

// Start starts an empty Redis. It ends with Close.
func Start(ctx context.Context, c Config) (*Redis, error) {
	if c.Owner == nil {
		c.Owner = func(conn net.Conn) string { return conn.RemoteAddr().String() }
	}
	r := &Redis{config: c, password: c.Password, conns: map[*conn]struct{}{}, channels: map[string]map[*conn]struct{}{}}
	e, err := newEngine(r)
	if err != nil {
		return nil, err
	}
	r.engine = e
	return r, r.Up(ctx)
}

// Up makes Redis listen again after Down. It does nothing while Redis is up.
func (r *Redis) Up(ctx context.Context) error {
	r.mu.Lock()
	up := r.listener != nil
	r.mu.Unlock()
	if up {
		return nil
	}
	l, err := r.config.Listen(ctx)
	if err != nil {
		return fmt.Errorf("start the simulated Redis: %w", err)
	}
	r.mu.Lock()
	r.listener = l
	r.mu.Unlock()
	r.group.Go(func() { r.accept(l) })
	return nil
}

// Down ends Redis's process as a crash does: connections break, and new ones are refused. The data stays for Up; Lose drops it.
func (r *Redis) Down() {
	r.mu.Lock()
	l := r.listener
	r.listener = nil
	r.resume()
	r.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	r.CutAll()
	r.group.Wait()
}

// Close ends Redis, and waits until its goroutines have ended. The data can still be read.
func (r *Redis) Close() { r.Down() }

// accept serves the clients of a listener until the listener is closed.
func (r *Redis) accept(l net.Listener) {
	for {
		socket, err := l.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		if r.listener != l {
			r.mu.Unlock()
			_ = socket.Close()
			return
		}
		c := r.newConn(socket)
		r.group.Go(c.read)
		r.group.Go(c.write)
		r.mu.Unlock()
	}
}
