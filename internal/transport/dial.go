package transport

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	"github.com/kisgrid/kisgrid/internal/wire"
)

// redial has the pauses between attempts to connect again: 50 ms at first, then growing up to 2 s.
var redial = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
	MinConnectTimeout: dialTimeout,
}

// dialer makes every TCP connection of this package.
var dialer = net.Dialer{Timeout: dialTimeout, KeepAliveConfig: Probes}

// Dial makes a gRPC connection that connects at its first call, and again whenever it breaks. It does not block. target is
// host:port or one of gRPC's targets, such as dns:///name:port. Proxies of the environment are not used. The options opts come
// after the package's own, and override them. The caller closes the connection.
func Dial(target string, c Config, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	creds, err := c.Credentials()
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
	if c.ProbeSilence {
		creds = ProbeSilence(creds)
	}
	own := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(DialTCP),
		grpc.WithConnectParams(redial),
		grpc.WithDisableServiceConfig(), // saves a DNS lookup, and keeps out retries that DNS could configure
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(c.MessageBytes()), grpc.ForceCodecV2(wire.Codec{})),
		experimental.WithBufferPool(wire.Buffers()),
		grpc.WithMaxHeaderListSize(MaxHeaderBytes),
		grpc.WithInitialWindowSize(StreamWindow),
		grpc.WithInitialConnWindowSize(ConnectionWindow),
		grpc.WithReadBufferSize(Buffer),
		grpc.WithWriteBufferSize(Buffer),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: clientPing, Timeout: PingTimeout, PermitWithoutStream: true}),
		grpc.WithChainUnaryInterceptor(c.hintUnary),
		grpc.WithChainStreamInterceptor(c.hintStream),
	}
	conn, err := grpc.NewClient(target, append(own, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: give an address as host:port: %w", target, err)
	}
	return conn, nil
}

// DialTCP opens a TCP connection with the timeout and keepalive of Dial, without TLS. It is for a caller that needs the error
// of the attempt itself.
func DialTCP(ctx context.Context, address string) (net.Conn, error) {
	return dialer.DialContext(ctx, "tcp", address)
}
