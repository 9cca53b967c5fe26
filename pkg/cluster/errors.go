package cluster

import (
	"context"
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// refusals are errors with which a running etcd refuses a call, and what an operator must do about each.
var refusals = []struct {
	cause  error
	code   batch.Code
	remedy string
}{
	{rpctypes.ErrPermissionDenied, batch.CodeUnavailable, "grant the user's role read and write access to KisGrid's prefix (a worker's: to workers/ below it)"},
	{rpctypes.ErrAuthFailed, batch.CodeUnavailable, "check the user name and the password file"},
	{rpctypes.ErrUserEmpty, batch.CodeUnavailable, "etcd asks for a sign-in: give a user name and a password file"},
	{rpctypes.ErrNoSpace, batch.CodeUnavailable, "compact and defragment etcd or raise its quota, then disarm its alarm"},
	{rpctypes.ErrRequestTooLarge, batch.CodeBadDocument, "write less at once, or raise etcd's --max-request-bytes"},
	{rpctypes.ErrTooManyOps, batch.CodeBadDocument, "etcd's --max-txn-ops is below that of this coordinator: raise etcd's, or lower the coordinators' to the same; kisgrid apply --in-parts writes less at once"},
}

// explain gives the error of a call to etcd a code, and says what to do about it. doing says what the call was for. ctx is the caller's
// context: if that has ended, the error says so, and not that etcd is away. An error that has a code already stays as it is.
func (s *Store) explain(ctx context.Context, doing string, err error) error {
	if known := new(batch.Error); errors.As(err, &known) {
		return err
	}
	at := doing + " in etcd at " + s.endpoints
	switch {
	case s.client.Ctx().Err() != nil:
		return batch.Errorf(batch.CodeShutdown, "%s: this process closed its connection: %w", at, err)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return batch.Errorf(batch.CodeDeadline, "%s: the caller's time is over: %w", at, ctx.Err())
	case ctx.Err() != nil:
		return batch.Errorf(batch.CodeCancelled, "%s: the caller gave up: %w", at, ctx.Err())
	}
	for _, r := range refusals {
		if errors.Is(rpctypes.Error(err), r.cause) {
			return batch.Errorf(r.code, "%s: %w: %s", at, r.cause, r.remedy)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded {
		return batch.Errorf(batch.CodeUnavailable, "%s: no answer within %s: check that it runs, has a majority and can be reached from here", at, s.timeout)
	}
	reason := err
	if frame, ok := status.FromError(err); ok && frame.Code() == codes.Unavailable {
		reason = errors.New(frame.Message())
	}
	return batch.Errorf(batch.CodeUnavailable, "%s: %w: %s", at, reason, s.remedy(reason.Error()))
}

// remedy returns what to do about an etcd that is out of reach, for this reason. A server that speaks only TLS closes a connection without TLS
// before it has sent anything; a server without TLS answers a handshake with something else.
func (s *Store) remedy(reason string) string {
	switch {
	case !s.secure && strings.Contains(reason, "error reading server preface"):
		return "it closed the connection before it sent anything: check that it runs and can be reached from here; if it speaks only TLS, give --etcd-tls-ca"
	case s.secure && strings.Contains(reason, "first record does not look like a TLS handshake"):
		return "it speaks no TLS: leave out --etcd-tls-ca, --etcd-tls-cert and --etcd-tls-key, or name another address"
	}
	return "check that it runs, has a majority and can be reached from here"
}
