package cluster

import (
	"context"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// calls changes four things in how the etcd client makes calls:
//
//   - The client signs in while it is made, so Open would have to wait for etcd. Here the first call that etcd refuses for lack of a sign-in signs in.
//   - While there is no connection, calls wait silently until their timeout. Here they fail at once, with the reason.
//   - A call that signs in carries the expired token, which etcd may refuse. Here an authenticator signs in.
//   - When the stream of a watch breaks, the client begins the watch again at another member, from the next revision on. If etcd has begun anew
//     meanwhile, this is a revision that it reaches much later, and nobody is told. Here the watch ends.
type calls struct {
	opened atomic.Bool    // Open has returned the client, so calls may sign in
	signer *authenticator // nil means that no user signs in; written before opened
	heard  atomic.Int64   // when etcd answered last, in nanoseconds since 1970; 0 means never
}

// hear notes the present time as that of the last answer of etcd, for Store.LastAnswer.
func (c *calls) hear() { c.heard.Store(time.Now().UnixNano()) }

// intercept is a gRPC interceptor: each call of the etcd client goes through it, except streams. It notes when etcd answered, and lets the
// authenticator make the calls that sign in.
func (c *calls) intercept(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	answer, signsIn := reply.(*etcdserverpb.AuthenticateResponse)
	switch {
	case !signsIn:
		err := failFast(ctx, method, request, reply, conn, invoke, options...)
		if err == nil {
			c.hear()
		}
		return err
	case !c.opened.Load():
		return rpctypes.ErrGRPCAuthNotEnabled
	}
	token, err := c.signer.signIn(ctx)
	answer.Token = token
	return err
}

// streamEnded is the key of a context value: a context.CancelCauseFunc that ends a watch. watchStream calls it with the reason when the stream
// of the watch ends.
type streamEnded struct{}

// watchStream is a gRPC interceptor: each stream of the etcd client goes through it. It calls the function that the context has for the end
// of the stream, before the client learns of the end.
func watchStream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, conn, method, options...)
	if ended, ok := ctx.Value(streamEnded{}).(context.CancelCauseFunc); ok && err == nil {
		return &watchedStream{stream, ended}, nil
	}
	return stream, err
}

// watchedStream is a stream that calls a function when it ends.
type watchedStream struct {
	grpc.ClientStream
	ended context.CancelCauseFunc
}

// RecvMsg implements grpc.ClientStream. An error of it means that the stream has ended.
func (s *watchedStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if err != nil {
		s.ended(err)
	}
	return err
}

// failFast is a gRPC interceptor that makes a call fail when no connection to etcd can be made, instead of waiting until one can.
// While gRPC tries to connect, the call waits for the end of that try.
func failFast(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	return invoke(ctx, method, request, reply, conn, append(options, grpc.WaitForReady(false))...)
}
