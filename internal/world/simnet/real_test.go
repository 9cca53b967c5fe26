package simnet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/world/simnet"
)

// life is a short use of a network of one machine. It reports what happened, line by line.
type life func(t *testing.T, n network.Network, say func(format string, values ...any))

// lives are uses of a network of which the model must say the same as the kernel.
var lives = map[string]life{
	"close with unread bytes": func(t *testing.T, n network.Network, say func(string, ...any)) {
		near, far := loop(t, n, "127.0.0.1:0")
		exchange(t, far, near, 4, 1) // one byte was read, three were not
		must(t, near.Close())
		settle()
		say("read %s", readError(far))
		say("read again %s", readError(far))
		say("write %s", writeError(far))
		say("close %s, again %s", plain(far.Close()), plain(far.Close()))
	},
	"write after a reset": func(t *testing.T, n network.Network, say func(string, ...any)) {
		near, far := loop(t, n, "127.0.0.1:0")
		exchange(t, far, near, 4, 1)
		must(t, near.Close())
		settle()
		say("write %s", writeError(far))
		say("write again %s", writeError(far))
		say("read %s", readError(far))
		must(t, far.Close())
	},
	"write to a peer that has closed": func(t *testing.T, n network.Network, say func(string, ...any)) {
		near, far := loop(t, n, "[::1]:0")
		exchange(t, near, far, 3, 0)
		must(t, near.Close())
		got := make([]byte, 10)
		count, err := far.Read(got)
		say("read %d %s", count, plain(err))
		say("read %s", readError(far))
		say("write %s", writeError(far))
		settle()
		say("write again %s", writeError(far))
		say("read again %s", readError(far))
		must(t, far.Close())
	},
	"half close": func(t *testing.T, n network.Network, say func(string, ...any)) {
		near, far := loop(t, n, "127.0.0.1:0")
		say("close the sending direction %s", plain(near.(interface{ CloseWrite() error }).CloseWrite()))
		settle()
		say("read %s", readError(far))
		exchange(t, far, near, 5, 5)
		say("write %s", writeError(near))
		must(t, far.Close())
		settle()
		say("read %s", readError(near))
		must(t, near.Close())
		say("read %s, write %s", readError(near), writeError(near))
		say("deadline %s", plain(near.SetDeadline(time.Now())))
		say("close the sending direction %s", plain(near.(interface{ CloseWrite() error }).CloseWrite()))
	},
	"deadlines": func(t *testing.T, n network.Network, say func(string, ...any)) {
		near, far := loop(t, n, "127.0.0.1:0")
		exchange(t, far, near, 5, 1)
		must(t, near.SetDeadline(time.Now().Add(-time.Second)))
		say("read what is there %s", readError(near))
		say("write %s", writeError(near))
		must(t, near.SetDeadline(time.Now().Add(time.Second)))
		count, err := near.Read(make([]byte, 10))
		say("read %d %s", count, plain(err))
		say("read %s", readError(near))
		must(t, near.SetReadDeadline(time.Time{}))
		exchange(t, far, near, 5, 5)
		must(t, near.Close())
		must(t, far.Close())
	},
	"a peer that does not read": func(t *testing.T, n network.Network, say func(string, ...any)) {
		near, far := loop(t, n, "127.0.0.1:0")
		must(t, near.SetWriteDeadline(time.Now().Add(time.Second)))
		count, err := near.Write(make([]byte, 64<<20))
		say("wrote some %t, all %t %s", count > 0, count == 64<<20, plain(err))
		must(t, near.Close())
		read, err := io.Copy(io.Discard, far)
		say("the peer gets as many %t %s", read == int64(count), plain(err))
		must(t, far.Close())
	},
	"a listener that closes": func(t *testing.T, n network.Network, say func(string, ...any)) {
		l := listen(t, n, "127.0.0.1:0")
		near, err := n.DialContext(t.Context(), "tcp", l.Addr().String())
		say("dial a listener that does not accept %s", plain(err))
		go func() {
			settle()
			_ = l.Close()
		}()
		if c, err := l.Accept(); err != nil {
			t.Fatal(err)
		} else {
			must(t, c.Close())
		}
		_, err = l.Accept()
		say("accept %s", plain(err))
		say("close again %s", plain(l.Close()))
		settle()
		_, err = n.DialContext(t.Context(), "tcp", l.Addr().String())
		say("dial %s refused %t", plain(err), errors.Is(err, syscall.ECONNREFUSED))
		must(t, near.Close())
	},
	"a connection that was not accepted": func(t *testing.T, n network.Network, say func(string, ...any)) {
		l := listen(t, n, "127.0.0.1:0")
		near, err := n.DialContext(t.Context(), "tcp", l.Addr().String())
		must(t, err)
		must(t, l.Close())
		settle()
		say("read %s", readError(near))
		must(t, near.Close())
	},
	"addresses": func(t *testing.T, n network.Network, say func(string, ...any)) {
		l := listen(t, n, "127.0.0.1:0")
		_, port, _ := net.SplitHostPort(l.Addr().String())
		for _, address := range []string{"127.0.0.1:" + port, ":" + port, "0.0.0.0:" + port, "localhost:" + port, "192.0.2.7:0", "127.0.0.1", "127.0.0.1:99999"} {
			other, err := n.Listen(t.Context(), address)
			say("listen on %s: %s in use %t", address, plain(err), errors.Is(err, syscall.EADDRINUSE))
			if err == nil {
				must(t, other.Close())
			}
		}
		beside := listen(t, n, "[::1]:"+port)
		say("the other loopback address is %s", beside.Addr().Network())
		must(t, beside.Close())
		must(t, l.Close())
		all := listen(t, n, ":0")
		_, port, _ = net.SplitHostPort(all.Addr().String())
		say("all addresses are %s", all.Addr())
		for _, address := range []string{"127.0.0.1:" + port, "[::1]:" + port, "localhost:" + port, ":" + port, "0.0.0.0:" + port} {
			c, err := n.DialContext(t.Context(), "tcp", address)
			if err != nil {
				say("dial %s: %s", address, plain(err))
				continue
			}
			say("dial %s: from a loopback address %t", address, c.LocalAddr().(*net.TCPAddr).IP.IsLoopback())
			must(t, c.Close())
		}
		must(t, all.Close())
		for _, address := range []string{"127.0.0.1", "127.0.0.1:99999", "127.0.0.1:" + port} {
			_, err := n.DialContext(t.Context(), "tcp", address)
			say("dial %s: %s", address, plain(err))
		}
		found, err := n.LookupHost(t.Context(), "", "192.0.2.7")
		say("look an address up: %v %s", found, plain(err))
	},
	"contexts": func(t *testing.T, n network.Network, say func(string, ...any)) {
		over, cancel := context.WithCancel(t.Context())
		cancel()
		late, end := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer end()
		for _, ctx := range []context.Context{over, late} {
			_, err := n.DialContext(ctx, "tcp", "127.0.0.1:1")
			var timeout net.Error
			say("dial %s, timeout %t, canceled %t, deadline %t", plain(err), errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded))
		}
	},
}

// anyPort matches a port that the machine chose.
var anyPort = regexp.MustCompile(`:[0-9]{5}\b`)

// settle lets packets that are under way arrive.
func settle() { time.Sleep(100 * time.Millisecond) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// loop makes a connection within a machine.
func loop(t *testing.T, n network.Network, address string) (near, far net.Conn) {
	t.Helper()
	l := listen(t, n, address)
	near, far = connect(t, n, l.Addr().String(), l)
	must(t, l.Close())
	return near, far
}

// exchange writes bytes at one end and reads some of them at the other.
func exchange(t *testing.T, from, to net.Conn, write, read int) {
	t.Helper()
	_, err := from.Write(make([]byte, write))
	must(t, err)
	_, err = io.ReadFull(to, make([]byte, read))
	must(t, err)
}

func readError(c net.Conn) string {
	_, err := c.Read(make([]byte, 1))
	return plain(err)
}

func writeError(c net.Conn) string {
	_, err := c.Write(make([]byte, 1))
	return plain(err)
}

// plain returns the chain of an error's types and its text, without addresses.
func plain(err error) string {
	if err == nil {
		return "nil"
	}
	text := err.Error()
	var op *net.OpError
	if errors.As(err, &op) {
		text = fmt.Sprintf("%s of %s: %v, timeout %t, temporary %t", op.Op, op.Net, op.Err, op.Timeout(), op.Temporary()) //nolint:staticcheck // deprecated, but part of the behavior
	}
	return fmt.Sprintf("%s (deadline %t, closed %t)", text, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed))
}

// tell runs a life and returns what it reports.
func tell(t *testing.T, run life, n network.Network) string {
	var b strings.Builder
	run(t, n, func(format string, values ...any) { fmt.Fprintf(&b, format+"\n", values...) })
	return b.String()
}

// The model says the same as the kernel of this machine.
func TestAsTheRealNetwork(t *testing.T) {
	if l, err := network.System().Listen(t.Context(), "[::1]:0"); err != nil {
		t.Skip("this machine has no IPv6: ", err)
	} else {
		l.Close()
	}
	for name, run := range lives {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			real, model := tell(t, run, network.System()), ""
			bubble.Test(t, func(t *testing.T) {
				host := simnet.New(1).Host("here")
				model = tell(t, run, host)
				if open := host.Open(); len(open) > 0 {
					t.Errorf("still open: %v", open)
				}
			})
			real, model = anyPort.ReplaceAllString(real, ":PORT"), anyPort.ReplaceAllString(model, ":PORT")
			if real != model {
				t.Errorf("the real network says:\n%s\nthe model says:\n%s", real, model)
			}
		})
	}
}
