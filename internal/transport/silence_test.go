package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/kisgrid/kisgrid/internal/bubble"
)

// stoppable is a server's end of a connection. While its gate is shut the process behind it does nothing, as after SIGSTOP.
type stoppable struct {
	net.Conn
	gate *gate
	slow time.Duration // that each Read takes
}

type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while it is open; guarded by mu
}

func (g *gate) pass() {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	<-open
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (s *stoppable) Read(p []byte) (int, error) {
	time.Sleep(s.slow)
	n, err := s.Conn.Read(p)
	s.gate.pass()
	return n, err
}

func (s *stoppable) Write(p []byte) (int, error) {
	s.gate.pass()
	return s.Conn.Write(p)
}

// stopping accepts stoppable connections.
type stopping struct {
	*bufconn.Listener
	gate *gate
	slow time.Duration
}

func (l *stopping) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &stoppable{conn, l.gate, l.slow}, nil
}

// patientService answers when it is told to, and counts what it got.
type patientService struct {
	grpc_health_v1.UnimplementedHealthServer
	leave chan struct{}
	bytes chan int
}

func (p *patientService) Check(ctx context.Context, in *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	p.bytes <- len(in.GetService())
	select {
	case <-p.leave:
		return &grpc_health_v1.HealthCheckResponse{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// atPatientServer runs a test with a call to a server that answers when told to.
func atPatientServer(t *testing.T, service string, slow time.Duration, test func(t *testing.T, s *patientService, g *gate, ended <-chan error)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		close(g.open)
		l := &stopping{bufconn.Listen(64 << 10), g, slow}
		s := &patientService{leave: make(chan struct{}), bytes: make(chan int, 1)}
		server := grpc.NewServer()
		grpc_health_v1.RegisterHealthServer(server, s)
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		conn, err := Dial("passthrough:///server", Config{ProbeSilence: true}, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
			ended <- err
		}()
		test(t, s, g, ended)
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}

// TestStoppedServerIsNoticed: whenever a server stops, its calls end within five seconds.
func TestStoppedServerIsNoticed(t *testing.T) {
	for after := time.Duration(0); after < 12*time.Second; after += 700 * time.Millisecond {
		atPatientServer(t, "x", 0, func(t *testing.T, s *patientService, g *gate, ended <-chan error) {
			<-s.bytes
			time.Sleep(after)
			g.shut()
			stopped := time.Now()
			err := <-ended
			if took := time.Since(stopped); took > 5*time.Second || status.Code(err) != codes.Unavailable {
				t.Errorf("stopped after %s, it was noticed after %s: %v", after, took, err)
			}
			close(g.open)
		})
	}
}

// TestQuietServerIsLeftInPeace: a call that takes long, and one whose request does, are no silence.
func TestQuietServerIsLeftInPeace(t *testing.T) {
	atPatientServer(t, "x", 0, func(t *testing.T, s *patientService, _ *gate, ended <-chan error) {
		<-s.bytes
		time.Sleep(10 * time.Minute)
		close(s.leave)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	const large = 2 << 20
	atPatientServer(t, string(make([]byte, large)), 300*time.Millisecond, func(t *testing.T, s *patientService, _ *gate, ended <-chan error) {
		close(s.leave)
		if n := <-s.bytes; n != large {
			t.Errorf("%d bytes came of %d", n, large)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
