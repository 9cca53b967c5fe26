package access

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// A certificate of the cluster's authority does not make a process a coordinator or a worker: its clients have such certificates, too. The
// access file says which certificates are those of coordinators and of workers.

// NeedProcesses returns an error if the file does not list certificates of coordinators, and of workers.
// From then on a file that does not list both is not taken over.
func (g *Guard) NeedProcesses() error {
	g.processes.Store(true)
	if err := g.policy().needProcesses(); err != nil {
		return fmt.Errorf("access file %s: %w", g.path, err)
	}
	return nil
}

// needProcesses returns an error if the policy does not list certificates of coordinators, and of workers.
func (p *policy) needProcesses() error {
	switch {
	case len(p.coordinators) == 0:
		return errors.New("coordinators is missing: list the certificates of coordinators, so that no client can pose as one")
	case len(p.workers) == 0:
		return errors.New("workers is missing: list the certificates of workers, so that no client can pose as one")
	}
	return nil
}

// CheckWorker returns an error if the certificate that a dialled server has shown is not that of a worker.
func (g *Guard) CheckWorker(c *x509.Certificate) error {
	if oneSelects(g.policy().workers, c) {
		return nil
	}
	return unauthenticated("the server is not a worker: its certificate with the subject %q and the names %q is not among the workers in the access file", c.Subject.String(), alternativeNames(c))
}

// WatchWorker looks again, once a second, whether the certificate that a dialled server has shown is that of a worker, and has not expired. It
// blocks until that is not so, and returns an error with CodeUnavailable, or until ctx is done, and returns nil.
func (g *Guard) WatchWorker(ctx context.Context, c *x509.Certificate) error {
	return watchProcess(ctx, c, func() []certificateRule { return g.policy().workers }, "worker")
}

// watchProcess blocks until none of the certificates in listed selects c any more, or c has expired, and returns an error that says so, or
// until ctx is done, and returns nil. kind is the kind of process that listed lists.
func watchProcess(ctx context.Context, c *x509.Certificate, listed func() []certificateRule, kind string) error {
	again := time.NewTicker(recheck)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			switch {
			case !oneSelects(listed(), c):
				return batch.Errorf(batch.CodeUnavailable, "the certificate with the subject %q and the names %q is not among the %ss in the access file any more", c.Subject.String(), alternativeNames(c), kind)
			case hasExpired(c):
				return batch.Errorf(batch.CodeUnavailable, "the certificate of the %s with the subject %q has expired: connect again with a new one", kind, c.Subject.String())
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// whileCoordinator handles a stream of a caller with the certificate c. The stream's context ends, with the reason as its cause, when c is no
// longer that of a coordinator.
func (g *Guard) whileCoordinator(c *x509.Certificate, service any, stream grpc.ServerStream, handle grpc.StreamHandler) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if why := watchProcess(ctx, c, func() []certificateRule { return g.policy().coordinators }, "coordinator"); why != nil {
			cancel(why)
		}
	}()
	defer func() {
		cancel(nil)
		<-watched
	}()
	return handle(service, &noted{ServerStream: stream, ctx: ctx})
}

// CheckCoordinator returns an error if the certificate that a dialled server has shown is not that of a coordinator.
func (g *Guard) CheckCoordinator(c *x509.Certificate) error {
	if oneSelects(g.policy().coordinators, c) {
		return nil
	}
	return unauthenticated("the server is not a coordinator: its certificate with the subject %q and the names %q is not among the coordinators in the access file", c.Subject.String(), alternativeNames(c))
}

// isCoordinator reports whether the caller has shown the certificate of a coordinator.
func (g *Guard) isCoordinator(ctx context.Context) bool {
	c := certificateOf(ctx)
	return c != nil && oneSelects(g.policy().coordinators, c)
}

// CoordinatorsOnly returns an interceptor for the server of a worker. It refuses every stream of a caller that has not proved to be a
// coordinator, except health checks. While a stream lasts it looks again, once a second.
func (g *Guard) CoordinatorsOnly() grpc.StreamServerInterceptor {
	return func(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		c := certificateOf(stream.Context())
		switch {
		case open(info.FullMethod):
			return handle(service, stream)
		case oneSelects(g.policy().coordinators, c):
			return g.whileCoordinator(c, service, stream, handle)
		case c == nil:
			g.refused(stream.Context(), "no certificate")
			return wire.Status(unauthenticated("this worker takes sessions from coordinators only, and the caller shows no certificate"))
		}
		g.refused(stream.Context(), "not a coordinator")
		return wire.Status(batch.Errorf(batch.CodePermissionDenied,
			"this worker takes sessions from coordinators only: the certificate with the subject %q and the names %q is not among the coordinators in the worker's access file", c.Subject.String(), alternativeNames(c)))
	}
}
