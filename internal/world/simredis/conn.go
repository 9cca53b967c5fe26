package simredis

import (
	"bufio"
	"net"
	"sync"
	"time"
)

// maxQueued is the limit for the bytes of answers and messages that a client has not taken. Beyond it the connection is cut, as Redis does
// to subscribers.
const maxQueued = 32 << 20

// conn is a client's connection. Its goroutine read carries commands out and queues their answers; its goroutine write sends them.
type conn struct {
	redis  *Redis
	socket net.Conn
	number int
	owner  string
	done   chan struct{} // closed when the connection has ended, or is cut

	// The rest, up to queue, is guarded by redis.mu.
	name          string
	authenticated bool
	resp3         bool
	database      int
	queued        [][]string // commands since MULTI
	inMulti       bool
	dirty         bool // a command since MULTI was refused
	channels      map[string]struct{}
	over          bool // done is closed

	queue queue
}

// queue has the bytes that are on their way to a client.
type queue struct {
	mu    sync.Mutex
	bytes []byte        // guarded by mu
	last  bool          // the connection ends behind the bytes; guarded by mu
	more  chan struct{} // tells write that there is something; buffers one
}

// newConn makes a connection. r.mu is held.
func (r *Redis) newConn(socket net.Conn) *conn {
	r.lastConn++
	c := &conn{redis: r, socket: socket, number: r.lastConn, owner: r.config.Owner(socket), done: make(chan struct{}), authenticated: r.password == ""}
	c.queue.more = make(chan struct{}, 1)
	r.conns[c] = struct{}{}
	return c
}

// send queues bytes for the client. If last is true, the connection ends behind them, and takes nothing more.
func (c *conn) send(b []byte, last bool) {
	q := &c.queue
	q.mu.Lock()
	if !q.last {
		q.bytes = append(q.bytes, b...)
		q.last = last || len(q.bytes) > maxQueued
	}
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// write sends what is queued, until the connection ends.
func (c *conn) write() {
	var buffer []byte
	for {
		select {
		case <-c.done:
			return
		case <-c.queue.more:
		}
		q := &c.queue
		q.mu.Lock()
		buffer, q.bytes = q.bytes, buffer[:0]
		last := q.last
		q.mu.Unlock()
		_, err := c.socket.Write(buffer)
		if err != nil || last {
			c.end()
			return
		}
	}
}

// read carries out the client's commands, one after the other.
func (c *conn) read() {
	defer c.end()
	commands := bufio.NewReaderSize(c.socket, 16<<10)
	for {
		args, err := readCommand(commands)
		if err != nil || !c.carry(args) {
			return
		}
	}
}

// carry treats one command as the rule says. It returns false when the connection must end, or takes no further command.
func (c *conn) carry(args []string) bool {
	r := c.redis
	if !c.wait() {
		return false
	}
	r.mu.Lock()
	if c.over {
		r.mu.Unlock()
		return false
	}
	f := r.faultOf(c, args)
	var answer []byte
	var later func() []byte // an answer that takes time
	carried := f.Answer == "" && !f.Hang && !f.Cut || f.Done
	if carried {
		answer, later = r.answer(c, args)
	}
	if f.Answer != "" {
		answer = appendError(nil, f.Answer)
	}
	if later == nil && f.Delay == 0 && !f.Hang {
		// It is queued before the next command of another client is carried out, so that a subscriber gets its confirmation first.
		c.queueAnswer(answer, f)
		r.mu.Unlock()
		return c.goesOn(f)
	}
	r.mu.Unlock()
	if later != nil && f.Answer == "" {
		answer = later()
	}
	if f.Hang {
		<-c.done
		return false
	}
	if !c.sleep(f.Delay) {
		return false
	}
	c.queueAnswer(answer, f)
	return c.goesOn(f)
}

// queueAnswer sends an answer, or as much of it as a cut leaves.
func (c *conn) queueAnswer(answer []byte, f Fault) {
	if f.Cut {
		answer = answer[:min(f.Bytes, len(answer))]
	}
	c.send(answer, f.Cut)
}

// goesOn reports whether the connection takes commands after a fault. If it does not, goesOn waits until write has sent the last bytes and
// ended it.
func (c *conn) goesOn(f Fault) bool {
	if f.Cut {
		<-c.done
	}
	return !f.Cut
}

// wait waits while Redis is paused or slow. It returns false if the connection ends meanwhile.
func (c *conn) wait() bool {
	r := c.redis
	slept := false
	for {
		r.mu.Lock()
		paused, slow := r.paused, r.slow
		r.mu.Unlock()
		switch {
		case paused != nil:
			select {
			case <-paused:
			case <-c.done:
				return false
			}
		case slow > 0 && !slept:
			if slept = true; !c.sleep(slow) {
				return false
			}
		default:
			return true
		}
	}
}

// sleep lets time pass. It returns false if the connection ends meanwhile.
func (c *conn) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.done:
		return false
	}
}

// end ends the connection, and forgets its subscriptions. It may be called several times.
func (c *conn) end() {
	_ = c.socket.Close()
	c.redis.mu.Lock()
	defer c.redis.mu.Unlock()
	if c.over {
		return
	}
	c.over = true
	close(c.done)
	delete(c.redis.conns, c)
	for channel := range c.channels {
		c.redis.unsubscribe(c, channel)
	}
}

// Cut ends connections at once: those for whose number and owner which returns true.
func (r *Redis) Cut(which func(number int, owner string) bool) {
	r.mu.Lock()
	var cut []*conn
	for c := range r.conns {
		if which(c.number, c.owner) {
			cut = append(cut, c)
		}
	}
	r.mu.Unlock()
	for _, c := range cut {
		c.end()
	}
}

// CutAll ends all connections at once. New ones are served.
func (r *Redis) CutAll() { r.Cut(func(int, string) bool { return true }) }

// Connections returns the number of connections of each owner.
func (r *Redis) Connections() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	owners := map[string]int{}
	for c := range r.conns {
		owners[c.owner]++
	}
	return owners
}
