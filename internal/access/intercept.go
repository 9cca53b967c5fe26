package access

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Rule is the right that a call needs. The function gets the call's request; of a stream of requests, the first one. It returns nil, or the
// error with which the call is refused. A nil Rule lets every known caller pass: the call itself asks for rights.
type Rule func(c Caller, request any) error

// Interceptors are the interceptors of a gRPC server. A call that has no Rule is refused.
type Interceptors struct {
	guard *Guard // nil means that there is no access file: every caller may do everything
	rules map[string]Rule
	// coordinators are the calls that coordinators may make without a right, by the full names of their methods.
	coordinators map[string]bool
}

// Intercept makes the interceptors of a server. rules has a Rule for each call, by the full name of its method. A nil guard means that
// there is no access file; the interceptors then only note the caller in the context of each call.
func Intercept(guard *Guard, rules map[string]Rule) *Interceptors {
	return &Interceptors{guard: guard, rules: rules}
}

// ForCoordinators lets callers that prove to be coordinators make these calls, whatever their Rules say. It is called before the first
// call is made, and returns i.
func (i *Interceptors) ForCoordinators(methods ...string) *Interceptors {
	i.coordinators = map[string]bool{}
	for _, method := range methods {
		i.coordinators[method] = true
	}
	return i
}

// open reports whether everybody may make a call: health checks, which probes make that have no identity.
func open(method string) bool { return strings.HasPrefix(method, "/grpc.health.v1.Health/") }

// caller returns who makes a call. The error refuses the call, because it is not known who calls, or because the call has no Rule.
func (i *Interceptors) caller(ctx context.Context, method string) (Caller, error) {
	address, _ := addressOf(ctx)
	if i.guard == nil {
		return Caller{Identity: &Identity{Name: unchecked(ctx), free: true}, Address: address}, nil
	}
	if i.coordinators[method] && i.guard.isCoordinator(ctx) {
		return Caller{Identity: &Identity{Name: "a coordinator", free: true}, Address: address}, nil
	}
	id, err := i.guard.Identify(ctx)
	if err != nil {
		return Caller{}, err
	}
	if _, there := i.rules[method]; !there && !strings.HasPrefix(method, "/grpc.reflection.") {
		return Caller{}, batch.Errorf(batch.CodePermissionDenied, "nobody has a right to the call %s", method)
	}
	return Caller{Identity: id, Address: address}, nil
}

// unchecked returns the name of a caller where there is no access file: the subject of its certificate, if it has one.
func unchecked(ctx context.Context) string {
	if c := certificateOf(ctx); c != nil {
		return c.Subject.String()
	}
	return "anybody"
}

// Unary is the interceptor of calls with one request.
func (i *Interceptors) Unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if open(info.FullMethod) {
		return handle(ctx, request)
	}
	c, err := i.caller(ctx, info.FullMethod)
	if err == nil {
		err = i.check(info.FullMethod, c, request)
	}
	if err != nil {
		return nil, wire.Status(err)
	}
	return handle(With(ctx, c), request)
}

// check asks the call's Rule.
func (i *Interceptors) check(method string, c Caller, request any) error {
	if rule := i.rules[method]; rule != nil && i.guard != nil {
		return rule(c, request)
	}
	return nil
}

// Stream is the interceptor of calls with a stream. While the stream lasts it looks again, once a second, whether the caller still has
// its right. If not, the stream's context ends with an error as its cause. The error has CodeUnavailable, because rows of the stream may
// have run: a client then connects again, and is refused unless it has another token by then.
func (i *Interceptors) Stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if open(info.FullMethod) {
		return handle(service, stream)
	}
	c, err := i.caller(stream.Context(), info.FullMethod)
	if err != nil {
		return wire.Status(err)
	}
	if i.guard == nil {
		return handle(service, &noted{ServerStream: stream, ctx: With(stream.Context(), c)})
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	s := &guarded{ServerStream: stream, interceptors: i, method: info.FullMethod, caller: c, ctx: With(ctx, c), first: make(chan any, 1)}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watch(cancel)
	}()
	defer func() {
		cancel(nil)
		<-watched
	}()
	return handle(service, s)
}

// noted is a stream in whose context the caller is noted.
type noted struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (n *noted) Context() context.Context { return n.ctx }

// guarded is a stream whose caller must have a right.
type guarded struct {
	grpc.ServerStream
	interceptors *Interceptors
	method       string
	caller       Caller
	ctx          context.Context
	checked      bool     // the first request was checked; owned by the goroutine that receives
	first        chan any // gets the Rule's view of the first request, for watch
}

// Context implements grpc.ServerStream.
func (s *guarded) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream. It asks the call's Rule about the first request.
func (s *guarded) RecvMsg(request any) error {
	if err := s.ServerStream.RecvMsg(request); err != nil || s.checked {
		return err
	}
	s.checked = true
	if err := s.interceptors.check(s.method, s.caller, request); err != nil {
		return wire.Status(err)
	}
	s.first <- request
	return nil
}

// watch ends the stream when its caller is not known any more, or has lost the right to the stream's first request.
func (s *guarded) watch(end context.CancelCauseFunc) {
	again := time.NewTicker(recheck)
	defer again.Stop()
	var request any
	for {
		select {
		case request = <-s.first:
		case <-again.C:
			id, err := s.interceptors.guard.identify(s.ctx, false)
			if err == nil && request != nil {
				err = s.interceptors.check(s.method, Caller{id, s.caller.Address}, request)
			}
			if code := batch.CodeOf(err); code == batch.CodeUnauthenticated || code == batch.CodePermissionDenied {
				end(batch.Errorf(batch.CodeUnavailable, "the caller's rights have changed while the stream was open: connect again: %w", err))
				return
			}
		case <-s.ctx.Done():
			return
		}
	}
}
