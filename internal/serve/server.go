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

// Limits of one connection on the server's side; package transport has the limits for both sides.
const (
	serverBuffer     = 64 << 10        // the buffer for reads has so many bytes: few, because a listener may have many connections
	maxRequestHeader = 16 << 10        // the header of one call has at most so many bytes
	maxStreams       = 1024            // one connection of a client has at most so many concurrent calls
	handshakeTimeout = 5 * time.Second // the TLS and HTTP/2 handshakes of one connection take at most so long
)

// Times of HTTP/2 pings between a gRPC server and its clients.
const (
	pingIdle          = 2 * time.Second // the server pings a client that has been silent for this time
	leastPingInterval = 5 * time.Second // the server cuts a client off that pings more often than once in this time
)

// Names of the services in gRPC's health protocol. The name "" has the same status as Ready.
const (
	// Live is SERVING until the server drains. It is for liveness probes.
	Live = "live"
	// Ready has the status that SetReady sets; it begins as NOT_SERVING. It is for readiness probes and load balancers.
	Ready = "ready"
)

// Server is a gRPC server with the services for health and reflection, and with limits for connections, calls and received
// bytes. Its methods may be called concurrently.
type Server struct {
	*grpc.Server
	health  *health.Server // answers the health protocol
	limiter *limiter       // counts calls and received bytes
}

// NewServer makes a server that speaks TLS where c has a certificate. The options opts come after the package's own, and
// override them.
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
		grpc.RPCDecompressor(refusingDecompressor{}), //nolint:staticcheck // deprecated, but nothing else overrides the compressors that packages register
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
		grpc.WaitForHandlers(true), // Stop returns only when every handler has returned
	}
	s := &Server{Server: grpc.NewServer(append(own, opts...)...), health: health.NewServer(), limiter: in}
	s.health.SetServingStatus(Live, healthpb.HealthCheckResponse_SERVING)
	s.SetReady(false)
	healthpb.RegisterHealthServer(s.Server, s.health)
	reflection.Register(s.Server)
	return s, nil
}

// RegisterService registers a service as the method of grpc.Server does. In addition, when the server ends a call of one
// request before the request has come, the error of the call says that nothing was done. The error of gRPC itself leaves that
// open.
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

// Serve accepts connections until the server stops, as the method of grpc.Server does. At most MaxConnections of them may make
// calls.
func (s *Server) Serve(l net.Listener) error {
	return s.Server.Serve(&limitedListener{Listener: l, connections: s.limiter.connections})
}

// SetReady sets the readiness that health probes see. It has no effect once the server drains.
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

// Drain stops accepting calls and waits until the running calls have ended. Some calls end only when the server does, such as a
// watch of its health: Drain ends these at once. After silentGrace it ends calls that have sent no message, and connections
// without a call. When ctx is done first, Drain cuts off all calls as Stop does, waits until their handlers have returned, and
// returns an error that wraps ctx's. Drain may be called twice, and after Stop.
func (s *Server) Drain(ctx context.Context) error {
	s.health.Shutdown()
	drained := make(chan struct{})
	go func() {
		s.GracefulStop()
		close(drained)
	}()
	s.limiter.cutCalls(false) // these would end only with the server
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
	return fmt.Errorf("drain the server: the calls that had not ended were cut off: %w", ctx.Err())
}

// refusingDecompressor refuses compressed messages, because the limits can't count the bytes that they decompress to. No
// client of KisGrid compresses, but the exporter of traces registers gzip for the whole process, so the server would accept
// it.
type refusingDecompressor struct{}

// Do implements grpc.Decompressor: it refuses every message.
func (refusingDecompressor) Do(io.Reader) ([]byte, error) {
	return nil, errors.New("this server accepts no compressed messages: send them uncompressed")
}

// Type implements grpc.Decompressor: it names the compression that this decompressor takes over, gzip.
func (refusingDecompressor) Type() string { return "gzip" }
