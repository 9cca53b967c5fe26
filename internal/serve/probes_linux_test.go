package serve_test

import (
	"net"
	"syscall"
	"testing"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
)

// accepted hands on each connection that a listener accepts.
type accepted struct {
	net.Listener
	conns chan *net.TCPConn
}

func (a accepted) Accept() (net.Conn, error) {
	conn, err := a.Listener.Accept()
	if err == nil {
		a.conns <- conn.(*net.TCPConn)
	}
	return conn, err
}

func TestKernelProbes(t *testing.T) {
	server, err := serve.NewServer(transport.Config{})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := serve.Listen(t.Context(), nil, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan *net.TCPConn, 1)
	run(t, server, accepted{listener, conns})
	client, _ := dial(t, listener.Addr().String(), transport.Config{})
	if _, err := check(t, client, serve.Live); err != nil {
		t.Fatal(err)
	}
	probed(t, "accepted", <-conns)

	dialer, err := (&transport.Config{}).Dialer()
	if err != nil {
		t.Fatal(err)
	}
	dialled, err := dialer(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close()
	probed(t, "dialled", dialled.(*net.TCPConn))
}

func probed(t *testing.T, which string, conn *net.TCPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for option, want := range map[int]int{syscall.TCP_KEEPIDLE: 2, syscall.TCP_KEEPINTVL: 1, syscall.TCP_KEEPCNT: 3} {
		var got int
		var sockErr error
		if err := raw.Control(func(fd uintptr) { got, sockErr = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, option) }); err != nil {
			t.Fatal(err)
		}
		if sockErr != nil || got != want {
			t.Errorf("socket option %d of an %s connection is %d, %v; want %d", option, which, got, sockErr, want)
		}
	}
}

var _ grpc.ServiceRegistrar = (*serve.Server)(nil)
