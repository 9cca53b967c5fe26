package transport

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"

	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/wire"
)

// redial has the pauses between attempts to connect again: 50 ms at first, then growing up to 2 s.
var redial = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
	MinConnectTimeout: dialTimeout,
}

// Dial makes a gRPC connection that connects at its first call, and again whenever it breaks. It does not block. target is
// host:port or one of gRPC's targets, such as dns:///name:port, whose addresses are looked up every 5 s. Proxies of the environment are not used. The options opts come
// after the package's own, and override them. The caller closes the connection.
func Dial(target string, c Config, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	creds, err := c.Credentials()
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
	if c.Token != nil && c.TLSCA == "" && c.TLSCert == "" {
		creds = noteLoopback{creds}
	}
	if c.ProbeSilence {
		creds = ProbeSilence(creds)
	}
	own := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(c.DialTCP),
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
	if c.Token != nil {
		own = append(own, grpc.WithPerRPCCredentials(&tokenCredentials{c.Token, c.TokenPlaintext}))
	}
	opts = append(own, opts...)
	if strings.HasPrefix(target, "dns:") { // an earlier resolver of opts takes precedence
		opts = append(opts, grpc.WithResolvers(dnsBuilder{c.lookUp}))
	}
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: give an address as host:port: %w", target, err)
	}
	return conn, nil
}

// DialTCP opens a TCP connection with the timeout and keepalive of Dial, without TLS. It is for a caller that needs the error
// of the attempt itself.
func (c *Config) DialTCP(ctx context.Context, address string) (net.Conn, error) {
	return network.Or(c.Network).DialContext(ctx, "tcp", address)
}

// Through returns options for gRPC with which a client of Dial dials and looks names up over another network than that of its Config.
func Through(n network.Network) []grpc.DialOption {
	c := &Config{Network: n}
	return []grpc.DialOption{grpc.WithContextDialer(c.DialTCP), grpc.WithResolvers(dnsBuilder{c.lookUp})}
}
