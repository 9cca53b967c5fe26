package httpapi

import (
	"context"
	"io"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// inProcess is the transport of a call that a request makes within this process. It has the call's full method name, where interceptors
// look for it, and drops metadata. It implements grpc.ServerTransportStream.
type inProcess string

// IsRequest reports whether ctx is that of a call that an HTTP request makes, and not a client of gRPC.
func IsRequest(ctx context.Context) bool {
	_, is := grpc.ServerTransportStreamFromContext(ctx).(inProcess)
	return is
}

// Method returns the full name of the call's method.
func (m inProcess) Method() string { return string(m) }

// SetHeader does nothing.
func (inProcess) SetHeader(metadata.MD) error { return nil }

// SendHeader does nothing.
func (inProcess) SendHeader(metadata.MD) error { return nil }

// SetTrailer does nothing.
func (inProcess) SetTrailer(metadata.MD) error { return nil }

// inside returns the context of a call that a request makes. It has no outgoing metadata: the gateway puts headers of the request there, among
// them the caller's token, and the clients of etcd would send them on.
func inside(ctx context.Context, method string) context.Context {
	return metadata.NewOutgoingContext(grpc.NewContextWithServerTransportStream(ctx, inProcess(method)), metadata.MD{})
}

// localConn is the connection of a gRPC client to a service in the same process. A call passes the interceptors that a call from outside
// passes. Calls have one request. It implements grpc.ClientConnInterface.
type localConn struct {
	service  *grpc.ServiceDesc
	server   any
	unary    grpc.UnaryServerInterceptor
	stream   grpc.StreamServerInterceptor
	carriers *sync.WaitGroup // waits for the goroutines of streams
}

// Invoke makes a call with one answer.
func (c *localConn) Invoke(ctx context.Context, method string, request, answer any, _ ...grpc.CallOption) error {
	ctx = inside(ctx, method)
	for i := range c.service.Methods {
		if m := &c.service.Methods[i]; strings.HasSuffix(method, "/"+m.MethodName) {
			result, err := m.Handler(c.server, ctx, func(to any) error { return copyMessage(to, request) }, c.unary)
			if err != nil {
				return err
			}
			return copyMessage(answer, result)
		}
	}
	return status.Errorf(codes.Unimplemented, "there is no method %s", method)
}

// NewStream begins a call with several answers. The call itself begins with CloseSend.
func (c *localConn) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx = inside(ctx, method)
	for i := range c.service.Streams {
		if s := &c.service.Streams[i]; strings.HasSuffix(method, "/"+s.StreamName) {
			return &localStream{conn: c, desc: s, method: method, ctx: ctx, answers: make(chan proto.Message)}, nil
		}
	}
	return nil, status.Errorf(codes.Unimplemented, "there is no method %s", method)
}

// copyMessage copies a message into an empty one of the same type.
func copyMessage(to, from any) error {
	target, ok := to.(proto.Message)
	source, also := from.(proto.Message)
	if !ok || !also {
		return status.Errorf(codes.Internal, "a %T can't be copied to a %T", from, to)
	}
	proto.Merge(target, source)
	return nil
}

// localStream is a call with one request and several answers, as its client sees it. It implements grpc.ClientStream.
type localStream struct {
	conn    *localConn
	desc    *grpc.StreamDesc
	method  string
	ctx     context.Context
	request proto.Message
	answers chan proto.Message // closed at the end
	first   proto.Message      // the first answer, which CloseSend has taken; nil means none
	err     error              // how the call ended; written before answers is closed
}

// Header returns no metadata.
func (s *localStream) Header() (metadata.MD, error) { return nil, nil }

// Trailer returns no metadata.
func (s *localStream) Trailer() metadata.MD { return nil }

// Context returns the context of the call.
func (s *localStream) Context() context.Context { return s.ctx }

// SendMsg takes the request.
func (s *localStream) SendMsg(m any) error {
	request, ok := m.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "a %T is no message", m)
	}
	s.request = request
	return nil
}

// CloseSend begins the call, and waits for its first answer. It returns the error of a call that ended before that.
func (s *localStream) CloseSend() error {
	s.conn.carriers.Go(func() {
		defer close(s.answers)
		info := &grpc.StreamServerInfo{FullMethod: s.method, IsServerStream: true}
		s.err = s.conn.stream(s.conn.server, &localServer{call: s}, info, s.desc.Handler)
	})
	first, open := <-s.answers
	if !open {
		return s.err
	}
	s.first = first
	return nil
}

// RecvMsg returns the next answer. It returns io.EOF after the last one.
func (s *localStream) RecvMsg(m any) error {
	answer := s.first
	s.first = nil
	if answer == nil {
		var open bool
		if answer, open = <-s.answers; !open {
			if s.err != nil {
				return s.err
			}
			return io.EOF
		}
	}
	return copyMessage(m, answer)
}

// localServer is the same call, as the service sees it. It implements grpc.ServerStream.
type localServer struct {
	call *localStream
	read bool // the request was read
}

// SetHeader does nothing.
func (*localServer) SetHeader(metadata.MD) error { return nil }

// SendHeader does nothing.
func (*localServer) SendHeader(metadata.MD) error { return nil }

// SetTrailer does nothing.
func (*localServer) SetTrailer(metadata.MD) {}

// Context returns the context of the call.
func (s *localServer) Context() context.Context { return s.call.ctx }

// RecvMsg returns the request, and then io.EOF.
func (s *localServer) RecvMsg(m any) error {
	if s.read || s.call.request == nil {
		return io.EOF
	}
	s.read = true
	return copyMessage(m, s.call.request)
}

// SendMsg gives an answer to the client. It blocks until the client takes it, or the call's context is done.
func (s *localServer) SendMsg(m any) error {
	answer, ok := m.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "a %T is no message", m)
	}
	select {
	case s.call.answers <- proto.Clone(answer):
		return nil
	case <-s.call.ctx.Done():
		return status.FromContextError(s.call.ctx.Err()).Err()
	}
}
