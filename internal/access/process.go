package access

import (
	"crypto/x509"
	"errors"

	"google.golang.org/grpc"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

// A certificate of the cluster's authority does not make a process a coordinator or a worker: its clients have such certificates, too. The
// access file says which certificates are those of coordinators and of workers.

// NeedProcesses returns an error if the file does not list certificates of coordinators, and of workers.
func (g *Guard) NeedProcesses() error {
	p := g.policy()
	switch {
	case len(p.coordinators) == 0:
		return errors.New("access file " + g.path + ": coordinators is missing: list the certificates of coordinators, so that no client can pose as one")
	case len(p.workers) == 0:
		return errors.New("access file " + g.path + ": workers is missing: list the certificates of workers, so that no client can pose as one")
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

// CoordinatorsOnly returns an interceptor for the server of a worker. It refuses every stream of a caller that has not proved to be a
// coordinator, except health checks.
func (g *Guard) CoordinatorsOnly() grpc.StreamServerInterceptor {
	return func(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		c := certificateOf(stream.Context())
		switch {
		case open(info.FullMethod) || oneSelects(g.policy().coordinators, c):
			return handle(service, stream)
		case c == nil:
			g.refused(stream.Context(), "no certificate")
			return wire.Status(unauthenticated("this worker takes sessions from coordinators only, and the caller shows no certificate"))
		}
		g.refused(stream.Context(), "not a coordinator")
		return wire.Status(batch.Errorf(batch.CodePermissionDenied,
			"this worker takes sessions from coordinators only: the certificate with the subject %q and the names %q is not among the coordinators in the worker's access file", c.Subject.String(), alternativeNames(c)))
	}
}
