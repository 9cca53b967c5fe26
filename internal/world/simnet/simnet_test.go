package simnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/world/simnet"
)

var _ = []network.Network{(*simnet.Host)(nil), (*simnet.Process)(nil)}

// pair is a connection between two processes, client on host a and server on host b.
type pair struct {
	*testing.T
	net            *simnet.Net
	a, b           *simnet.Host
	client, server *simnet.Process
	near, far      net.Conn
}

// inBubble runs a test in virtual time with a connection between two hosts.
func inBubble(t *testing.T, test func(p *pair)) {
	bubble.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		p := &pair{T: t, net: n, a: n.Host("a"), b: n.Host("b")}
		p.client, p.server = p.a.Process("client"), p.b.Process("server")
		l := listen(t, p.server, ":7700")
		p.near, p.far = connect(t, p.client, "b:7700", l)
		test(p)
		p.client.Kill()
		p.server.Kill()
	})
}

func listen(t *testing.T, on network.Network, address string) net.Listener {
	t.Helper()
	l, err := on.Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func connect(t *testing.T, from network.Network, address string, l net.Listener) (near, far net.Conn) {
	t.Helper()
	near, err := from.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func (p *pair) write(c net.Conn, text string) {
	p.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		p.Errorf("write %q: %v", text, err)
	}
}

func (p *pair) read(c net.Conn, want string) {
	p.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		p.Errorf("read %q, %v; want %q", got, err, want)
	}
}

// fails checks that a Read fails with an error, this long after now.
func (p *pair) fails(c net.Conn, want error, after time.Duration) {
	p.Helper()
	began := time.Now()
	n, err := c.Read(make([]byte, 1))
	if n != 0 || !errors.Is(err, want) {
		p.Errorf("read %d, %v; want %v", n, err, want)
	}
	if took := time.Since(began); took != after {
		p.Errorf("it took %v, want %v", took, after)
	}
}

func TestAddresses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, b := n.Host("a", "10.1.0.1", "fd00::1"), n.Host("b", "10.1.0.2")
		onA := listen(t, a, "localhost:7700")
		all := listen(t, b, ":7700")
		for _, taken := range []struct {
			host    *simnet.Host
			address string
			want    error
		}{
			{a, "127.0.0.1:7700", syscall.EADDRINUSE},
			{a, ":7700", syscall.EADDRINUSE},
			{b, "10.1.0.2:7700", syscall.EADDRINUSE},
			{b, "[::1]:7700", syscall.EADDRINUSE},
			{b, "10.1.0.1:7701", syscall.EADDRNOTAVAIL},
		} {
			if _, err := taken.host.Listen(t.Context(), taken.address); !errors.Is(err, taken.want) {
				t.Errorf("listen on %s of %s: %v, want %v", taken.address, taken.host.Name(), err, taken.want)
			}
		}
		other := listen(t, a, "10.1.0.1:7700") // the same port, another address
		free := listen(t, a, "[fd00::1]:0")
		if free.Addr().(*net.TCPAddr).Port == 0 {
			t.Error("port 0 gave port 0")
		}
		for _, dialled := range []struct {
			from          *simnet.Host
			address       string
			at            net.Listener
			source, known string
		}{
			{a, "localhost:7700", onA, "127.0.0.1", "127.0.0.1:7700"},
			{a, "a:7700", other, "10.1.0.1", "10.1.0.1:7700"},
			{b, "localhost:7700", all, "127.0.0.1", "127.0.0.1:7700"},
			{a, "b:7700", all, "10.1.0.1", "10.1.0.2:7700"},
			{a, free.Addr().String(), free, "fd00::1", free.Addr().String()},
		} {
			near, far := connect(t, dialled.from, dialled.address, dialled.at)
			if host, _, _ := net.SplitHostPort(far.RemoteAddr().String()); host != dialled.source || near.RemoteAddr().String() != dialled.known {
				t.Errorf("%s: a connection from %s to %s", dialled.address, far.RemoteAddr(), near.RemoteAddr())
			}
			if near.LocalAddr().String() != far.RemoteAddr().String() || far.LocalAddr().String() != near.RemoteAddr().String() {
				t.Errorf("%s: the ends disagree about their addresses", dialled.address)
			}
			near.Close()
			far.Close()
		}
		own, _ := a.InterfaceAddrs()
		if text := own[2].String(); len(own) != 4 || text != "10.1.0.1/8" {
			t.Errorf("own addresses: %v", own)
		}
		if open := a.Open(); len(open) != 3 {
			t.Errorf("open on a: %v", open)
		}
	})
}

func TestFamilies(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for _, families := range []struct {
			v4, v6 bool
			known  string
		}{{true, false, "10.0.0.2:7700"}, {false, true, "[fd00::2]:7700"}, {true, true, "10.0.0.2:7700"}} {
			n := simnet.New(1)
			n.Choose(families.v4, families.v6)
			a, b := n.Host("a"), n.Host("b")
			l := listen(t, b, ":7700")
			near, far := connect(t, a, "b:7700", l)
			if near.RemoteAddr().String() != families.known {
				t.Errorf("dialled %s, want %s", near.RemoteAddr(), families.known)
			}
			near.Close()
			far.Close()
			l.Close()
		}
	})
}

func TestDialFails(t *testing.T) {
	inBubble(t, func(p *pair) {
		short, cancel := context.WithCancel(p.Context())
		defer cancel()
		canceled, end := context.WithCancel(p.Context())
		defer end()
		for _, dial := range []struct {
			ctx     context.Context
			address string
			trouble simnet.Trouble
			want    error
			text    string
			after   time.Duration
		}{
			{p.Context(), "b:1", simnet.Trouble{}, syscall.ECONNREFUSED, "dial tcp 10.0.0.2:1: connect: connection refused", 0},
			{p.Context(), "b:1", simnet.Trouble{Delay: time.Millisecond}, syscall.ECONNREFUSED, "", time.Millisecond},
			{p.Context(), "b:7700", simnet.Trouble{Refuse: true}, syscall.ECONNREFUSED, "", 0},
			{p.Context(), "b:7700", simnet.Trouble{BlackHole: true}, context.DeadlineExceeded, "dial tcp 10.0.0.2:7700: i/o timeout", 5 * time.Second},
			{short, "10.0.0.2:7700", simnet.Trouble{Cut: true}, context.DeadlineExceeded, "", 2 * time.Second},
			{canceled, "b:7700", simnet.Trouble{Cut: true}, context.Canceled, "dial tcp 10.0.0.2:7700: operation was canceled", time.Second},
			{p.Context(), "b:7700", simnet.Trouble{Unreachable: true}, syscall.EHOSTUNREACH, "dial tcp 10.0.0.2:7700: connect: no route to host", 3 * time.Second},
			{p.Context(), "10.9.9.9:7700", simnet.Trouble{}, syscall.EHOSTUNREACH, "", 3 * time.Second},
			{p.Context(), "nobody:7700", simnet.Trouble{}, nil, "dial tcp: lookup nobody: no such host", 0},
		} {
			dial.trouble.From, dial.trouble.To = "a", "b"
			fault := p.net.Break(dial.trouble)
			if dial.ctx == canceled {
				time.AfterFunc(time.Second, end)
			}
			if dial.ctx == short {
				dial.ctx, cancel = context.WithTimeout(short, 2*time.Second)
				defer cancel()
			}
			began := time.Now()
			_, err := p.client.DialContext(dial.ctx, "tcp", dial.address)
			if dial.want != nil && !errors.Is(err, dial.want) || err == nil || dial.text != "" && err.Error() != dial.text {
				p.Errorf("dial %s with %+v: %v, want %v %s", dial.address, dial.trouble, err, dial.want, dial.text)
			}
			if took := time.Since(began); took != dial.after {
				p.Errorf("dial %s with %+v took %v, want %v", dial.address, dial.trouble, took, dial.after)
			}
			var timeout net.Error
			if errors.Is(err, context.DeadlineExceeded) && (!errors.As(err, &timeout) || !timeout.Timeout()) {
				p.Errorf("%v is no timeout", err)
			}
			fault.Heal()
		}
		fault := p.net.Break(simnet.Trouble{From: "b", Cut: true})
		time.AfterFunc(1500*time.Millisecond, fault.Heal)
		began := time.Now()
		if _, err := p.client.DialContext(p.Context(), "tcp", "b:7700"); err != nil || time.Since(began) != 3*time.Second {
			p.Errorf("dial while it heals: %v after %v, want success with the second request that is sent again", err, time.Since(began))
		}
	})
}

func TestNames(t *testing.T) {
	inBubble(t, func(p *pair) {
		look := func(want string, wrong func(*net.DNSError) bool, after time.Duration) {
			p.Helper()
			began := time.Now()
			found, err := p.client.LookupHost(p.Context(), "", "Service.")
			if strings.Join(found, " ") != want || time.Since(began) != after {
				p.Errorf("found %v, %v after %v; want %s after %v", found, err, time.Since(began), want, after)
			}
			var failed *net.DNSError
			if wrong != nil && (!errors.As(err, &failed) || !wrong(failed)) {
				p.Errorf("the error %v is another one", err)
			}
		}
		missing := func(e *net.DNSError) bool { return e.IsNotFound && e.Name == "Service." }
		look("", missing, 0)
		p.net.SetName("service", "10.9.9.9", "10.0.0.2")
		look("10.9.9.9 10.0.0.2", nil, 0)
		began := time.Now()
		if _, err := p.client.DialContext(p.Context(), "tcp", "service:7700"); err != nil || time.Since(began) != 2500*time.Millisecond {
			p.Errorf("dial the second address: %v after %v, want half of the time for the first one", err, time.Since(began))
		}
		p.net.TroubleName("service", simnet.NameTrouble{Delay: time.Second})
		look("10.9.9.9 10.0.0.2", nil, time.Second)
		p.net.TroubleName("service", simnet.NameTrouble{Fails: true})
		look("", func(e *net.DNSError) bool { return e.IsTemporary && !e.IsTimeout }, 0)
		p.net.TroubleName("service", simnet.NameTrouble{Silent: true})
		look("", func(e *net.DNSError) bool { return e.IsTimeout }, 10*time.Second)
		p.net.TroubleName("service", simnet.NameTrouble{})
		p.net.SetName("service")
		look("", missing, 0)
		p.a.Down()
		p.net.SetName("service", "10.0.0.2")
		look("", func(e *net.DNSError) bool { return e.IsTimeout }, 10*time.Second)
	})
}

func TestHalfClose(t *testing.T) {
	inBubble(t, func(p *pair) {
		p.write(p.near, "ask")
		if err := p.near.(*simnet.Conn).CloseWrite(); err != nil {
			p.Fatal(err)
		}
		p.read(p.far, "ask")
		p.fails(p.far, io.EOF, 0)
		p.write(p.far, "answer")
		p.read(p.near, "answer")
		if _, err := p.near.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			p.Errorf("write after CloseWrite: %v", err)
		}
		p.far.Close()
		p.fails(p.near, io.EOF, 0)
		p.near.Close()
		p.fails(p.near, net.ErrClosed, 0)
		if open := append(p.client.Open(), p.server.Open()...); len(open) != 1 {
			p.Errorf("open: %v, want the listener", open)
		}
	})
}

func TestCloseAndReset(t *testing.T) {
	t.Run("bytes before the end arrive", func(t *testing.T) {
		inBubble(t, func(p *pair) {
			p.write(p.near, "last")
			p.near.Close()
			p.read(p.far, "last")
			p.fails(p.far, io.EOF, 0)
			p.write(p.far, "too late") // the kernel takes it, and is answered by a reset
			if _, err := p.far.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
				p.Errorf("write to a closed connection: %v", err)
			}
		})
	})
	t.Run("unread bytes reset", func(t *testing.T) {
		inBubble(t, func(p *pair) {
			p.write(p.far, "not read")
			p.write(p.near, "read")
			p.near.Close()
			p.read(p.far, "read")
			p.fails(p.far, syscall.ECONNRESET, 0)
			p.fails(p.far, io.EOF, 0)
			if _, err := p.far.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
				p.Errorf("write after a reset: %v", err)
			}
		})
	})
	t.Run("reset by the network", func(t *testing.T) {
		inBubble(t, func(p *pair) {
			if n := p.net.Reset("server", ""); n != 1 {
				p.Errorf("%d connections", n)
			}
			if _, err := p.near.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
				p.Errorf("write: %v", err)
			}
			p.fails(p.far, syscall.ECONNRESET, 0)
		})
	})
	t.Run("reset in the middle", func(t *testing.T) {
		inBubble(t, func(p *pair) {
			p.net.Break(simnet.Trouble{From: "a", To: "b", ResetAfter: 10})
			p.write(p.near, "1234567")
			p.write(p.far, "other way")
			p.write(p.near, "8901234")
			p.read(p.far, "1234567890")
			p.fails(p.far, syscall.ECONNRESET, 0)
			p.read(p.near, "other way")
			p.fails(p.near, syscall.ECONNRESET, 0)
		})
	})
	t.Run("killed", func(t *testing.T) {
		inBubble(t, func(p *pair) {
			done := make(chan error)
			go func() {
				_, err := p.far.Read(make([]byte, 1))
				done <- err
			}()
			synctest.Wait()
			p.server.Kill()
			if err := <-done; !errors.Is(err, net.ErrClosed) {
				p.Errorf("read in a killed process: %v", err)
			}
			p.fails(p.near, io.EOF, 0)
			if _, err := p.client.DialContext(p.Context(), "tcp", "b:7700"); !errors.Is(err, syscall.ECONNREFUSED) {
				p.Errorf("dial a killed process: %v", err)
			}
			if _, err := p.server.DialContext(p.Context(), "tcp", "a:1"); !errors.Is(err, net.ErrClosed) {
				p.Errorf("dial in a killed process: %v", err)
			}
			again := p.b.Process("server")
			listen(p.T, again, ":7700")
			again.Kill()
		})
	})
}

func TestDeadlines(t *testing.T) {
	inBubble(t, func(p *pair) {
		p.near.SetReadDeadline(time.Now().Add(time.Second))
		p.fails(p.near, os.ErrDeadlineExceeded, time.Second)
		p.fails(p.near, os.ErrDeadlineExceeded, 0)
		p.near.SetReadDeadline(time.Now().Add(3 * time.Second))
		time.AfterFunc(time.Second, func() { p.near.SetReadDeadline(time.Now()) })
		p.fails(p.near, os.ErrDeadlineExceeded, time.Second)
		p.near.SetReadDeadline(time.Now().Add(time.Second))
		time.AfterFunc(500*time.Millisecond, func() { p.near.SetReadDeadline(time.Now().Add(2 * time.Second)) })
		p.fails(p.near, os.ErrDeadlineExceeded, 2500*time.Millisecond)
		p.near.SetReadDeadline(time.Time{})
		time.AfterFunc(time.Hour, func() { p.far.Write([]byte("x")) })
		p.read(p.near, "x")
	})
}

func TestFullBuffers(t *testing.T) {
	inBubble(t, func(p *pair) {
		sent := bytes.Repeat([]byte("0123456789abcdef"), 256<<10) // 4 MiB
		p.near.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := p.near.Write(sent)
		if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n > 2<<20 {
			p.Errorf("wrote %d bytes to a peer that does not read, %v", n, err)
		}
		p.near.SetWriteDeadline(time.Time{})
		done := make(chan error)
		go func() {
			_, err := p.near.Write(sent[n:])
			done <- errors.Join(err, p.near.Close())
		}()
		got, err := io.ReadAll(p.far)
		if err := errors.Join(err, <-done); err != nil || !bytes.Equal(got, sent) {
			p.Errorf("got %d bytes, %v", len(got), err)
		}
	})
}

func TestDelayAndBandwidth(t *testing.T) {
	inBubble(t, func(p *pair) {
		p.net.Break(simnet.Trouble{From: "client", To: "server", Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond})
		p.net.Break(simnet.Trouble{From: "server", To: "client", Bandwidth: 100 << 10})
		for range 20 {
			began := time.Now()
			p.write(p.near, "ping")
			p.write(p.near, "ping")
			p.read(p.far, "pingping")
			if took := time.Since(began); took < 10*time.Millisecond || took > 15*time.Millisecond {
				p.Errorf("took %v", took)
			}
		}
		began := time.Now()
		p.write(p.far, strings.Repeat("x", 200<<10))
		p.read(p.near, "x")
		if took := time.Since(began); took > 500*time.Millisecond {
			p.Errorf("the first byte took %v", took)
		}
		p.read(p.near, strings.Repeat("x", 200<<10-1))
		if took := time.Since(began); took < 1900*time.Millisecond || took > 2100*time.Millisecond {
			p.Errorf("took %v, want two seconds", took)
		}
	})
}

func TestCut(t *testing.T) {
	t.Run("heals", func(t *testing.T) {
		inBubble(t, func(p *pair) {
			fault := p.net.Break(simnet.Trouble{From: "a", To: "b", Cut: true})
			p.write(p.near, "lost")
			time.AfterFunc(5*time.Second, fault.Heal)
			began := time.Now()
			p.write(p.far, "the other way")
			p.read(p.near, "the other way")
			p.read(p.far, "lost")
			if took := time.Since(began); took != 6200*time.Millisecond {
				p.Errorf("it took %v, want the fifth time that it is sent again", took)
			}
			p.write(p.near, "later")
			p.read(p.far, "later")
		})
	})
	t.Run("is noticed by probes", func(t *testing.T) {
		inBubble(t, func(p *pair) {
			time.Sleep(3 * time.Second) // a probe was answered a second ago
			p.net.Break(simnet.Trouble{From: "b", Cut: true})
			p.fails(p.near, syscall.ETIMEDOUT, 4*time.Second)
			p.fails(p.near, io.EOF, 0)
			p.fails(p.far, syscall.ETIMEDOUT, 0)
		})
	})
	t.Run("is noticed late when bytes are on the way", func(t *testing.T) {
		inBubble(t, func(p *pair) {
			p.net.Break(simnet.Trouble{To: "b", BothWays: true, Cut: true})
			p.write(p.near, "lost")
			p.fails(p.near, syscall.ETIMEDOUT, 924*time.Second+600*time.Millisecond)
		})
	})
	t.Run("is noticed soon by clients of gRPC", func(t *testing.T) {
		inBubble(t, func(p *pair) {
			p.write(p.near, "PRI * HTTP/2.0\r\n")
			p.read(p.far, "PRI * HTTP/2.0\r\n")
			p.net.Break(simnet.Trouble{To: "b", BothWays: true, Cut: true})
			p.write(p.near, "lost")
			p.fails(p.near, syscall.ETIMEDOUT, 3*time.Second)
			p.fails(p.far, syscall.ETIMEDOUT, 2*time.Second)
		})
	})
	t.Run("hides the end of a process", func(t *testing.T) {
		inBubble(t, func(p *pair) {
			fault := p.net.Break(simnet.Trouble{To: "b", BothWays: true, Cut: true})
			p.write(p.near, "lost")
			time.Sleep(10 * time.Millisecond)
			p.server.Kill() // its FIN is sent again later than the lost bytes
			time.AfterFunc(time.Second, fault.Heal)
			p.fails(p.near, syscall.ECONNRESET, 1390*time.Millisecond)
		})
	})
	t.Run("does not touch loopback", func(t *testing.T) {
		inBubble(t, func(p *pair) {
			l := listen(p.T, p.a, "localhost:1")
			near, far := connect(p.T, p.client, "localhost:1", l)
			p.a.Down()
			p.net.Break(simnet.Trouble{From: "a", Cut: true})
			p.write(near, "here")
			p.read(far, "here")
			p.net.Break(simnet.Trouble{From: "client", To: "server", Cut: true})
			p.write(near, "here")
			p.read(far, "here")
		})
	})
}

func TestCrash(t *testing.T) {
	inBubble(t, func(p *pair) {
		p.b.Crash()
		time.AfterFunc(1500*time.Millisecond, p.b.Up)
		p.fails(p.near, syscall.ECONNRESET, 2*time.Second) // the first probe meets a kernel that knows nothing
		listen(p.T, p.b, ":7700")
	})
}

func TestStop(t *testing.T) {
	inBubble(t, func(p *pair) {
		p.server.Stop()
		p.write(p.near, "taken by the kernel")
		if c, err := p.client.DialContext(p.Context(), "tcp", "b:7700"); err != nil {
			p.Errorf("dial a stopped process: %v", err)
		} else {
			c.Close()
		}
		p.far.SetReadDeadline(time.Now().Add(time.Second))
		time.AfterFunc(10*time.Second, p.server.Continue)
		p.fails(p.far, os.ErrDeadlineExceeded, 10*time.Second)
		p.far.SetReadDeadline(time.Time{})
		p.read(p.far, "taken by the kernel")

		p.write(p.near, "PRI * HTTP/2.0\r\n") // nothing yet
		p.server.Stop()
		began := time.Now()
		p.near.SetWriteDeadline(began.Add(time.Second))
		if _, err := p.near.Write(make([]byte, 4<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			p.Errorf("write to a stopped process: %v", err)
		}
	})
}
