package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
)

// Limits of one connection, beside the message limit and those that both sides have.
const (
	serverBuffer     = 64 << 10 // bytes gathered for one read at a listener, which may have many connections
	maxRequestHeader = 16 << 10 // of one call
	maxStreams       = 1024     // concurrent calls of one client connection
	handshakeTimeout = 5 * time.Second
)

// A server pings a silent client after pingIdle.
const (
	pingIdle          = 2 * time.Second
	leastPingInterval = 5 * time.Second // a client that pings oftener is cut off
)

// The services whose health a Server tells, besides "", which is Ready's.
const (
	// Live is SERVING until the server drains: for liveness probes.
	Live = "live"
	// Ready is what SetReady says, NOT_SERVING at first: for readiness probes and load balancers.
	Ready = "ready"
)

// Server is a gRPC server with health and reflection. Its methods may be called concurrently.
type Server struct {
	*grpc.Server
	health  *health.Server
	limiter *limiter
}

// NewServer makes a server that speaks TLS where c has a certificate. Options come after the package's own and win.
func NewServer(c transport.Config, opts ...grpc.ServerOption) (*Server, error) {
	credentials, err := c.ServerCredentials()
	if err != nil {
		return nil, err
	}
	limit := c.MessageBytes()
	in := newLimiter(withLimits(c))
	own := []grpc.ServerOption{
		grpc.ForceServerCodecV2(wire.Codec{}),
		experimental.BufferPool(wire.Buffers()),
		grpc.Creds(&meteredCredentials{credentials, in}),
		grpc.StatsHandler(in),
		grpc.InTapHandle(in.admitCall),
		grpc.RPCDecompressor(refusingDecompressor{}), //nolint:staticcheck // nothing else comes before the compressors that packages register
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxRecvMsgSize(limit),
		grpc.MaxSendMsgSize(limit),
		grpc.MaxHeaderListSize(maxRequestHeader),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.InitialWindowSize(transport.StreamWindow),
		grpc.InitialConnWindowSize(transport.ConnectionWindow),
		grpc.ReadBufferSize(serverBuffer),
		grpc.WriteBufferSize(transport.Buffer),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingIdle, Timeout: transport.PingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: leastPingInterval, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true), // so that nothing of a call outlives Stop
	}
	s := &Server{Server: grpc.NewServer(append(own, opts...)...), health: health.NewServer(), limiter: in}
	s.health.SetServingStatus(Live, healthpb.HealthCheckResponse_SERVING)
	s.SetReady(false)
	healthpb.RegisterHealthServer(s.Server, s.health)
	reflection.Register(s.Server)
	return s, nil
}

// RegisterService registers a service as grpc.Server's method does. Where the server ends a call without a stream before its message
// has come, the call's error says that nothing was done, which gRPC's own would leave open.
func (s *Server) RegisterService(service *grpc.ServiceDesc, implementation any) {
	own := *service
	own.Methods = slices.Clone(service.Methods)
	for i := range own.Methods {
		handle := own.Methods[i].Handler
		own.Methods[i].Handler = func(srv any, ctx context.Context, read func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			if !s.limiter.beginRead(ctx) {
				return nil, wire.Status(errUnread)
			}
			return handle(srv, ctx, read, interceptor)
		}
	}
	s.Server.RegisterService(&own, implementation)
}

// Serve takes connections until the server stops, as grpc.Server's does, and lets no more than MaxConnections of them make calls.
func (s *Server) Serve(l net.Listener) error {
	return s.Server.Serve(&limitedListener{Listener: l, connections: s.limiter.connections})
}

// SetReady says whether the process can take calls. It has no effect once the server drains.
func (s *Server) SetReady(ready bool) {
	state := healthpb.HealthCheckResponse_NOT_SERVING
	if ready {
		state = healthpb.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", state)
	s.health.SetServingStatus(Ready, state)
}

// silentGrace is how long a draining server waits for the first message of a call.
const silentGrace = time.Second

// Drain takes no new calls and waits for those that run. It ends the calls that would wait for the server's own end, as a watch of
// its health does, and a second later those that brought no message yet, and connections without a call. When ctx is done first it cuts all calls off, as Stop
// does, waits until their handlers have returned, and returns ctx's error. Safe to call twice, and after Stop.
func (s *Server) Drain(ctx context.Context) error {
	s.health.Shutdown()
	drained := make(chan struct{})
	go func() {
		s.GracefulStop()
		close(drained)
	}()
	s.limiter.cutCalls(false)
	silence := time.NewTimer(silentGrace)
	defer silence.Stop()
	for waiting := true; waiting; {
		select {
		case <-drained:
			return nil
		case <-silence.C:
			s.limiter.cutCalls(true)
			s.limiter.connections.closeNewcomers()
		case <-ctx.Done():
			waiting = false
		}
	}
	s.Stop()
	<-drained
	return fmt.Errorf("calls that had not ended were cut off: %w", ctx.Err())
}

// refusingDecompressor takes no compressed messages: what they grow to would be in no budget. Nobody here sends any, but the
// exporter of traces registers gzip for the whole process.
type refusingDecompressor struct{}

// Do implements grpc.Decompressor.
func (refusingDecompressor) Do(io.Reader) ([]byte, error) {
	return nil, errors.New("compressed messages are not taken: send them as they are")
}

// Type implements grpc.Decompressor.
func (refusingDecompressor) Type() string { return "gzip" }
