//go:build linux

package chaos

import (
	"bytes"
	"net"
	"regexp"
	"sync"
	"syscall"
	"testing"
)

// proxy is a relay of TCP connections to one address, which can cut some clients off. The kernel drops the bytes of such a client
// without acknowledging them, as a broken network does. The proxy of a worker ends with the worker, because coordinators take a
// refused connection as the proof of a death. Package testprocess has a simpler relay, Line, which closes connections or stops
// reading from them.
type proxy struct {
	to       string
	listener net.Listener
	done     sync.WaitGroup

	mu     sync.Mutex
	pairs  map[*pair]bool  // guarded by mu
	cutOff map[string]bool // ids of coordinators that are cut off; "" means all clients; guarded by mu
	healed chan struct{}   // closed and replaced by heal; guarded by mu
	closed bool            // guarded by mu
}

// pair is one connection through the proxy.
type pair struct {
	in, out *net.TCPConn
	who     string // id of the coordinator that dialled, once its handshake has it; guarded by the proxy's mu
	deaf    bool   // the client is cut off; guarded by the proxy's mu
}

// coordinatorID matches the id of a coordinator in its handshake.
var coordinatorID = regexp.MustCompile(`coordinator-[0-9a-f]{12}`)

// startProxy starts a proxy to an address. It ends with the test.
func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{to: to, listener: l, pairs: map[*pair]bool{}, cutOff: map[string]bool{}, healed: make(chan struct{})}
	p.done.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// address is where the proxy takes clients.
func (p *proxy) address() string { return p.listener.Addr().String() }

// accept takes clients, each on a goroutine, until the proxy ends.
func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.done.Go(func() { p.connect(in.(*net.TCPConn)) })
	}
}

// connect relays one client until either side closes.
func (p *proxy) connect(in *net.TCPConn) {
	defer in.Close()
	out, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer out.Close()
	c := &pair{in: in, out: out.(*net.TCPConn)}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.pairs[c] = true
	if p.cutOff[""] {
		p.deafen(c)
	}
	p.mu.Unlock()
	p.done.Go(func() {
		p.forward(c, c.out, c.in)
		c.in.Close()
	})
	p.forward(c, c.in, c.out)
	c.out.Close()
	p.mu.Lock()
	delete(p.pairs, c)
	p.mu.Unlock()
}

// forward copies bytes one way until one side is closed. While the client is cut off, it holds back bytes that it has read.
func (p *proxy) forward(c *pair, from, to *net.TCPConn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if from == c.in {
				p.recognize(c, buffer[:n])
			}
			p.await(c)
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// recognize looks for the id of the coordinator in the bytes that a client has sent.
func (p *proxy) recognize(c *pair, sent []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.who != "" || !bytes.Contains(sent, []byte("coordinator-")) {
		return
	}
	c.who = string(coordinatorID.Find(sent))
	if p.cutOff[c.who] {
		p.deafen(c)
	}
}

// await blocks while the client of the connection is cut off.
func (p *proxy) await(c *pair) {
	p.mu.Lock()
	deaf, healed := c.deaf, p.healed
	p.mu.Unlock()
	if deaf {
		<-healed
	}
}

// deafen makes the kernel drop all bytes that the client of a connection sends. The caller holds p.mu.
func (p *proxy) deafen(c *pair) {
	c.deaf = true
	control(c.in, func(fd int) {
		_ = syscall.AttachLsf(fd, []syscall.SockFilter{*syscall.LsfStmt(syscall.BPF_RET|syscall.BPF_K, 0)}) //nolint:staticcheck // x/net/bpf makes filters, and attaches none
	})
}

// control calls f with the file descriptor of a connection.
func control(c *net.TCPConn, f func(fd int)) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}

// cut cuts off the coordinator whose id is who, or all clients if who is empty.
func (p *proxy) cut(who string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutOff[who] = true
	for c := range p.pairs {
		if who == "" || c.who == who {
			p.deafen(c)
		}
	}
}

// heal ends all cuts.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.cutOff)
	for c := range p.pairs {
		if c.deaf {
			c.deaf = false
			control(c.in, func(fd int) { _ = syscall.DetachLsf(fd) }) //nolint:staticcheck // as above
		}
	}
	close(p.healed)
	p.healed = make(chan struct{})
}

// breakAll breaks all connections at once, as a firewall does when it forgets them.
func (p *proxy) breakAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pairs {
		_ = c.in.SetLinger(0)
		_ = c.in.Close()
		_ = c.out.Close()
	}
}

// close ends the proxy. New connections are refused from then on.
func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.breakAll()
	p.heal()
	p.done.Wait()
}
