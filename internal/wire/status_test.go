package wire_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func TestEveryCodeSurvivesAStatus(t *testing.T) {
	for n, name := range pb.Code_name {
		if n == 0 {
			continue
		}
		code := batch.Code(n)
		err := wire.Status(batch.Errorf(code, "do this to that"))
		s, ok := status.FromError(err)
		if !ok || s.Code() == codes.OK || s.Code() == codes.Unknown {
			t.Errorf("%s has no gRPC code: %v", name, err)
		}
		if s.Message() != "do this to that" {
			t.Errorf("%s: a tool that knows gRPC only is told %q", name, s.Message())
		}
		var back *batch.Error
		if !errors.As(wire.FromStatus(err), &back) || back.Code != code || back.Message != "do this to that" {
			t.Errorf("%s comes back as %v", name, wire.FromStatus(err))
		}
		if retryable := s.Code() == codes.Unavailable || s.Code() == codes.ResourceExhausted; retryable != code.Retryable() {
			t.Errorf("%s: retryable is %v, but gRPC's %s says %v", name, code.Retryable(), s.Code(), retryable)
		}
	}
}

func TestStatus(t *testing.T) {
	bad := batch.Errorf(batch.CodeBadDocument, "flow x: line 3")
	for _, c := range []struct {
		name    string
		err     error
		code    batch.Code
		message string
	}{
		{"wrapped", fmt.Errorf("apply: %w", bad), batch.CodeBadDocument, "apply: flow x: line 3"},
		{"joined", errors.Join(bad, batch.Errorf(batch.CodeBadDocument, "flow y: line 9")), batch.CodeBadDocument, "flow x: line 3\nBAD_DOCUMENT: flow y: line 9"},
		{"unclassified", errors.New("boom"), batch.CodeInternal, "boom"},
		{"deadline", fmt.Errorf("ask etcd: %w", context.DeadlineExceeded), batch.CodeDeadline, "ask etcd: context deadline exceeded"},
		{"cancelled", context.Canceled, batch.CodeCancelled, "context canceled"},
		{"a status", status.Error(codes.Unavailable, "gone"), batch.CodeUnavailable, "gone"},
		{"code of another build", batch.Errorf(999, "new"), 999, "new"},
		{"bytes that are no text", errors.New("bad \xff byte"), batch.CodeInternal, "bad \uFFFD byte"},
	} {
		var got *batch.Error
		if !errors.As(wire.FromStatus(wire.Status(c.err)), &got) || got.Code != c.code || got.Message != c.message {
			t.Errorf("%s: got %v, want %v: %s", c.name, got, c.code, c.message)
		}
	}
	if err := wire.Status(nil); err != nil {
		t.Errorf("nil becomes %v", err)
	}
	long := wire.FromError(errors.New(strings.Repeat("x", 1<<20)))
	if len(long.GetMessage()) > 8<<10 {
		t.Errorf("a message of 1 MiB stays %d bytes long", len(long.GetMessage()))
	}
}

func TestRetryAfterSurvivesAndIsNeverCutToNothing(t *testing.T) {
	for _, c := range []struct{ in, want time.Duration }{
		{0, 0},
		{-time.Second, 0},
		{time.Microsecond, time.Millisecond},
		{1500 * time.Millisecond, 1500 * time.Millisecond},
	} {
		err := &batch.Error{Code: batch.CodeOverloaded, Message: "full", RetryAfter: c.in}
		var got *batch.Error
		if !errors.As(wire.FromStatus(wire.Status(err)), &got) || got.RetryAfter != c.want {
			t.Errorf("%v comes back as %v, want %v", c.in, got, c.want)
		}
	}
}

func TestFromStatus(t *testing.T) {
	ours := batch.Errorf(batch.CodePoison, "kept")
	for _, c := range []struct {
		err  error
		code batch.Code
	}{
		{nil, 0},
		{ours, batch.CodePoison},
		{fmt.Errorf("in between: %w", ours), batch.CodePoison},
		{context.DeadlineExceeded, batch.CodeDeadline},
		{context.Canceled, batch.CodeCancelled},
		{errors.New("boom"), batch.CodeInternal},
		{status.Error(codes.Unavailable, "connection refused"), batch.CodeUnavailable},
		{status.Error(codes.DeadlineExceeded, "late"), batch.CodeDeadline},
		{status.Error(codes.Canceled, "gone"), batch.CodeCancelled},
		{status.Error(codes.ResourceExhausted, "grpc: received message larger than max (9 vs. 8)"), batch.CodeBatchTooLarge},
		{status.Error(codes.ResourceExhausted, "ENHANCE_YOUR_CALM"), batch.CodeOverloaded},
		{status.Error(codes.Unimplemented, "unknown service"), batch.CodeProtocolMismatch},
		{status.Error(codes.InvalidArgument, "no"), batch.CodeBadMessage},
		{status.Error(codes.NotFound, "no"), batch.CodeNotFound},
		{status.Error(codes.Internal, "stream terminated"), batch.CodeInternal},
		{status.Error(codes.Unknown, "who knows"), batch.CodeInternal},
	} {
		if got := wire.FromStatus(c.err); batch.CodeOf(got) != c.code {
			t.Errorf("%v becomes %v, want %v", c.err, got, c.code)
		}
	}
	if got := wire.FromStatus(io.EOF); got != io.EOF { //nolint:errorlint // it must be io.EOF itself
		t.Errorf("the end of a stream becomes %v", got)
	}
}

func TestErrorsInMessages(t *testing.T) {
	if wire.ToError(nil) != nil || wire.FromError(nil) != nil {
		t.Error("no error must stay none")
	}
	if got := wire.ToError(&pb.Error{Message: "no code"}); batch.CodeOf(got) != batch.CodeInternal {
		t.Errorf("an error without a code becomes %v", got)
	}
}
