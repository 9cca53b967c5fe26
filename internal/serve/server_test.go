package serve_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/kisgrid/kisgrid/internal/bubble"
	"github.com/kisgrid/kisgrid/internal/serve"
	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

var watching = &grpc.StreamDesc{ServerStreams: true}

func TestHealth(t *testing.T) {
	server, address := serveOn(t, transport.Config{})
	client, _ := dial(t, address, transport.Config{})
	for _, step := range []struct {
		name  string
		do    func()
		ready healthpb.HealthCheckResponse_ServingStatus
		live  healthpb.HealthCheckResponse_ServingStatus
	}{
		{"at first", func() {}, healthpb.HealthCheckResponse_NOT_SERVING, healthpb.HealthCheckResponse_SERVING},
		{"ready", func() { server.SetReady(true) }, healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_SERVING},
		{"not ready any more", func() { server.SetReady(false) }, healthpb.HealthCheckResponse_NOT_SERVING, healthpb.HealthCheckResponse_SERVING},
	} {
		step.do()
		for service, want := range map[string]healthpb.HealthCheckResponse_ServingStatus{"": step.ready, serve.Ready: step.ready, serve.Live: step.live} {
			if got, err := check(t, client, service); err != nil || got != want {
				t.Errorf("%s: %q is %v, %v; want %v", step.name, service, got, err, want)
			}
		}
	}
	if _, ok := server.GetServiceInfo()["grpc.reflection.v1.ServerReflection"]; !ok {
		t.Error("reflection is not served")
	}
}

func TestMessageLimitIsNamed(t *testing.T) {
	c := transport.Config{BatchBytes: 1000}
	if c.MessageBytes() != 1000+250+1<<20 {
		t.Fatalf("the limit is %d", c.MessageBytes())
	}
	_, address := serveOn(t, c)
	client, _ := dial(t, address, transport.Config{})
	_, err := check(t, client, strings.Repeat("x", c.MessageBytes()))
	if err = wire.FromStatus(err); batch.CodeOf(err) != batch.CodeBatchTooLarge {
		t.Fatalf("got %v, want BATCH_TOO_LARGE", err)
	}
	contains(t, "the error", err.Error(), "1049826", "split the batch")
	if _, err := check(t, client, strings.Repeat("x", c.MessageBytes()-100)); status.Code(err) != codes.NotFound {
		t.Errorf("a message within the limit: got %v, want health's NotFound", err)
	}
}

func TestTheLongestErrorArrives(t *testing.T) {
	long := batch.Errorf(batch.CodeFlowUncompilable, "%s", strings.Repeat("ö", 1<<20))
	refuse := grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return wire.Status(long) })
	_, address := serveOn(t, transport.Config{}, refuse)
	_, conn := dial(t, address, transport.Config{})
	err := wire.FromStatus(<-invoke(conn))
	if batch.CodeOf(err) != batch.CodeFlowUncompilable || len(err.Error()) < 8000 {
		t.Errorf("got %.100v, want FLOW_UNCOMPILABLE with 8 KiB of text", err)
	}
}

// blocking serves every method with a handler that says when it runs, and returns when it is let go or cut off.
func blocking(started chan<- struct{}, release <-chan struct{}) grpc.ServerOption {
	return grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		started <- struct{}{}
		select {
		case <-release:
			return status.Error(codes.Aborted, "released")
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	})
}

func TestDrain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		started, release := make(chan struct{}, 1), make(chan struct{})
		server, err := serve.NewServer(transport.Config{}, blocking(started, release))
		if err != nil {
			t.Fatal(err)
		}
		listener := bufconn.Listen(1 << 20)
		run(t, server, listener)
		_, conn := dial(t, "passthrough:///worker", transport.Config{}, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}))
		ended, drained := invoke(conn), make(chan error, 1)
		<-started
		go func() { drained <- server.Drain(t.Context()) }()

		synctest.Wait()
		select {
		case err := <-drained:
			t.Fatalf("drained (%v) while a call ran", err)
		case err := <-ended:
			t.Fatalf("the call ended with %v", err)
		default:
		}
		close(release)
		if err := <-ended; status.Code(err) != codes.Aborted {
			t.Errorf("the call ended with %v, not with its handler's error", err)
		}
		if err := <-drained; err != nil {
			t.Errorf("drain: %v", err)
		}
		if err := server.Drain(t.Context()); err != nil {
			t.Errorf("a second drain: %v", err)
		}
	})
}

// A call that a draining server ends before its message came says that nothing was done: its handler does not run.
func TestCallsWithoutAMessageSayThatNothingWasDone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		server, err := serve.NewServer(transport.Config{})
		if err != nil {
			t.Fatal(err)
		}
		ran := false
		server.RegisterService(&grpc.ServiceDesc{ServiceName: "a", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "b",
			Handler: func(_ any, _ context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				if err := read(&healthpb.HealthCheckRequest{}); err != nil {
					return nil, err
				}
				ran = true
				return &healthpb.HealthCheckResponse{}, nil
			}}}}, server)
		listener := bufconn.Listen(1 << 20)
		run(t, server, listener)
		_, conn := dial(t, "passthrough:///worker", transport.Config{}, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}))
		if err := <-invoke(conn); err != nil || !ran {
			t.Fatalf("a call ended with %v, and its handler ran: %t", err, ran)
		}
		ran = false
		silent, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, "/a/b") // as a message that is slow on its way
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- silent.RecvMsg(&healthpb.HealthCheckResponse{}) }()
		synctest.Wait()
		if err := server.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		err = wire.FromStatus(<-ended)
		if batch.CodeOf(err) != batch.CodeOverloaded || wire.LeavesOpen(batch.CodeOf(err)) || ran {
			t.Errorf("the silent call ended with %v, and its handler ran: %t", err, ran)
		}
	})
}

// invoke makes a call and tells how it ended.
func invoke(conn *grpc.ClientConn) <-chan error {
	ended := make(chan error, 1)
	go func() {
		ended <- conn.Invoke(context.Background(), "/a/b", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{})
	}()
	return ended
}

func TestDrainCutsOffAtItsBound(t *testing.T) {
	started := make(chan struct{}, 1)
	server, address := serveOn(t, transport.Config{}, blocking(started, nil))
	_, conn := dial(t, address, transport.Config{})
	ended := invoke(conn)
	<-started

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("drain: got %v, want the context's error", err)
	}
	if err := <-ended; status.Code(err) != codes.Unavailable {
		t.Errorf("the call ended with %v, want Unavailable", err)
	}
	server.Stop()
	if err := server.Drain(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("drain after stop: %v", err)
	}
}

// partition is a connection that can be cut: bytes then vanish in both directions, and nobody is told.
type partition struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
	cut    <-chan struct{}
}

func (p *partition) Read(b []byte) (int, error) {
	type read struct {
		n   int
		err error
	}
	done := make(chan read, 1)
	buffer := make([]byte, len(b))
	go func() {
		n, err := p.Conn.Read(buffer)
		done <- read{n, err}
	}()
	select {
	case r := <-done:
		return copy(b, buffer[:r.n]), r.err
	case <-p.cut:
		<-p.closed
		return 0, net.ErrClosed
	}
}

func (p *partition) Write(b []byte) (int, error) {
	select {
	case <-p.cut:
		return len(b), nil
	default:
		return p.Conn.Write(b)
	}
}

func (p *partition) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Conn.Close()
}

// connectionEnds tells when a server has given up a connection.
type connectionEnds chan time.Time

func (connectionEnds) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (connectionEnds) HandleRPC(context.Context, stats.RPCStats)                         {}
func (connectionEnds) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (c connectionEnds) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, ok := s.(*stats.ConnEnd); ok {
		c <- time.Now()
	}
}

// Time is virtual here, so that the bounds are exact. A partition between machines is noticed by the kernel's probes too;
// see TestKernelProbes.
func TestPartitionIsNoticed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ends, cut := make(connectionEnds, 1), make(chan struct{})
		server, err := serve.NewServer(transport.Config{}, grpc.StatsHandler(ends))
		if err != nil {
			t.Fatal(err)
		}
		listener := bufconn.Listen(1 << 20)
		run(t, server, listener)
		client, _ := dial(t, "passthrough:///worker", transport.Config{}, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			select {
			case <-cut:
				return nil, errors.New("partitioned")
			default:
			}
			conn, err := listener.DialContext(ctx)
			return &partition{Conn: conn, closed: make(chan struct{}), cut: cut}, err
		}))
		watch, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Recv(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		select {
		case <-ends:
			t.Fatal("an idle connection was given up")
		default:
		}

		begin := time.Now()
		close(cut)
		if _, err := watch.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("the client's stream ended with %v, want Unavailable", err)
		}
		if after := time.Since(begin); after > 13*time.Second {
			t.Errorf("the client noticed after %v", after)
		}
		if after := (<-ends).Sub(begin); after > 5*time.Second {
			t.Errorf("the server noticed after %v", after)
		}
	})
}
