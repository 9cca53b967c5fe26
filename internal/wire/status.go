package wire

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// maxMessage bounds the text of an error, in bytes: it is sent in a header, twice.
const maxMessage = 8 << 10

// grpcCodes has the nearest gRPC code for each code, for tools that know gRPC only. Peers of this project read the code
// from the details of the status instead.
var grpcCodes = map[batch.Code]codes.Code{
	batch.CodeRowUndecodable:   codes.InvalidArgument,
	batch.CodeMissingShardKey:  codes.InvalidArgument,
	batch.CodeRowTooLarge:      codes.InvalidArgument,
	batch.CodeFunctionError:    codes.FailedPrecondition,
	batch.CodeFunctionPanic:    codes.FailedPrecondition,
	batch.CodeFunctionTimeout:  codes.FailedPrecondition,
	batch.CodeRowTimeout:       codes.FailedPrecondition,
	batch.CodeLoadTimeout:      codes.FailedPrecondition,
	batch.CodeLoadMissing:      codes.FailedPrecondition,
	batch.CodeConversionFailed: codes.FailedPrecondition,
	batch.CodeRowUnencodable:   codes.FailedPrecondition,
	batch.CodeSaveFailed:       codes.FailedPrecondition,
	batch.CodeLineageLost:      codes.FailedPrecondition,
	batch.CodeNeedsWholeBatch:  codes.FailedPrecondition,
	batch.CodeStepLimit:        codes.FailedPrecondition,
	batch.CodePoison:           codes.FailedPrecondition,
	batch.CodeDropped:          codes.Aborted,
	batch.CodeNotCommitted:     codes.Aborted,
	batch.CodeAborted:          codes.Aborted,
	batch.CodeMissingField:     codes.InvalidArgument,

	batch.CodeInternal:             codes.Internal,
	batch.CodeUnknownFlow:          codes.NotFound,
	batch.CodeFlowDisabled:         codes.FailedPrecondition,
	batch.CodeNoCapableWorker:      codes.Unavailable,
	batch.CodeDeadline:             codes.DeadlineExceeded,
	batch.CodeShutdown:             codes.Unavailable,
	batch.CodeOverloaded:           codes.ResourceExhausted,
	batch.CodeUnavailable:          codes.Unavailable,
	batch.CodeEmptyBatch:           codes.InvalidArgument,
	batch.CodeBadColumns:           codes.InvalidArgument,
	batch.CodeBatchTooLarge:        codes.InvalidArgument,
	batch.CodeTooManyRows:          codes.InvalidArgument,
	batch.CodeMissingKeys:          codes.InvalidArgument,
	batch.CodeBadBatchID:           codes.InvalidArgument,
	batch.CodeRevisionGone:         codes.FailedPrecondition,
	batch.CodeProtocolMismatch:     codes.FailedPrecondition,
	batch.CodeBadMessage:           codes.InvalidArgument,
	batch.CodeCancelled:            codes.Canceled,
	batch.CodeConnectorUnavailable: codes.Unavailable,
	batch.CodeBatchTooOld:          codes.FailedPrecondition,
	batch.CodeBatchGivenUp:         codes.FailedPrecondition,
	batch.CodeRevisionChanged:      codes.Unavailable,
	batch.CodeUnauthenticated:      codes.Unauthenticated,
	batch.CodePermissionDenied:     codes.PermissionDenied,
	batch.CodeLogSuperseded:        codes.FailedPrecondition,
	batch.CodeBadPositions:         codes.InvalidArgument,
	batch.CodeLogRewound:           codes.FailedPrecondition,
	batch.CodeBehindFailed:         codes.Aborted,

	batch.CodeBadDocument:      codes.InvalidArgument,
	batch.CodeUnknownFunction:  codes.FailedPrecondition,
	batch.CodeUnknownConnector: codes.FailedPrecondition,
	batch.CodeFlowUncompilable: codes.FailedPrecondition,
	batch.CodeNotFound:         codes.NotFound,
	batch.CodeConflict:         codes.Aborted,
}

// Status converts an error to the error that a gRPC handler returns: a status with the code and the message in its
// details. The error of a context becomes CodeDeadline or CodeCancelled. An error without a *batch.Error that is a gRPC
// status stays as it is; any other error without a code becomes CodeInternal. nil stays nil.
func Status(err error) error {
	if err == nil {
		return nil
	}
	detail := FromError(err)
	if detail.GetCode() == pb.Code_CODE_INTERNAL {
		// Only an unclassified error may be somebody else's status: our own code is more precise than any.
		var foreign interface{ GRPCStatus() *status.Status }
		if ourError(err) == nil && errors.As(err, &foreign) {
			return err
		}
	}
	code, ok := grpcCodes[batch.Code(detail.GetCode())]
	if !ok {
		code = codes.Unknown
	}
	s := status.New(code, detail.GetMessage())
	if with, err := s.WithDetails(detail); err == nil {
		s = with
	}
	return s.Err()
}

// LeavesOpen reports whether a call that ended with this code may have been carried out. Handlers use these codes also for
// calls that they had begun. With any other code they say that they did not carry the call out.
func LeavesOpen(code batch.Code) bool {
	switch code {
	case batch.CodeInternal, batch.CodeDeadline, batch.CodeCancelled, batch.CodeShutdown, batch.CodeUnavailable:
		return true
	}
	return false
}

// FromStatus converts the error of a gRPC call to a *batch.Error, whether the remote handler made it, gRPC in this process,
// or a proxy. An error that has a *batch.Error in its chain stays as it is, and so does io.EOF, which ends a stream without
// an error.
func FromStatus(err error) error {
	switch {
	case err == nil || err == io.EOF || ourError(err) != nil: //nolint:errorlint // gRPC returns io.EOF as it is; a wrapped one is an error
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return batch.Errorf(batch.CodeDeadline, "the deadline passed: %w", err)
	case errors.Is(err, context.Canceled):
		return batch.Errorf(batch.CodeCancelled, "the caller gave up: %w", err)
	}
	s, ok := status.FromError(err)
	if !ok {
		return batch.Errorf(batch.CodeInternal, "%w", err)
	}
	for _, d := range s.Details() {
		if e, ok := d.(*pb.Error); ok && e.GetCode() != pb.Code_CODE_UNSPECIFIED {
			return ToError(e)
		}
	}
	return errorOfStatus(s)
}

// errorOfStatus converts a status without our details, which gRPC itself or a proxy made.
func errorOfStatus(s *status.Status) *batch.Error {
	switch s.Code() {
	case codes.Unavailable:
		return batch.Errorf(batch.CodeUnavailable, "%s", s.Message())
	case codes.DeadlineExceeded:
		return batch.Errorf(batch.CodeDeadline, "%s", s.Message())
	case codes.Canceled:
		return batch.Errorf(batch.CodeCancelled, "%s", s.Message())
	case codes.ResourceExhausted:
		// gRPC has one code for a full peer and for a message over the limit, and tells them apart by words only.
		if strings.Contains(s.Message(), "larger than max") {
			return batch.Errorf(batch.CodeBatchTooLarge, "the message limit: %s: split the batch, or raise the batch limit on both sides", s.Message())
		}
		return batch.Errorf(batch.CodeOverloaded, "%s", s.Message())
	case codes.Unimplemented:
		if text, _, _ := strings.Cut(s.Message(), ";"); strings.Contains(text, "HTTP status code") {
			return batch.Errorf(batch.CodeProtocolMismatch, "%s: perhaps the address is that of an HTTP port, such as 7702: programs use another one, 7700 by default", text)
		}
		return batch.Errorf(batch.CodeProtocolMismatch, "%s: check the peer's address and its build", s.Message())
	case codes.InvalidArgument:
		return batch.Errorf(batch.CodeBadMessage, "%s", s.Message())
	case codes.NotFound:
		return batch.Errorf(batch.CodeNotFound, "%s", s.Message())
	case codes.Unauthenticated:
		return batch.Errorf(batch.CodeUnauthenticated, "%s", s.Message())
	case codes.PermissionDenied:
		return batch.Errorf(batch.CodePermissionDenied, "%s", s.Message())
	}
	return batch.Errorf(batch.CodeInternal, "%s (gRPC %s)", s.Message(), s.Code())
}

// ToError converts the error in a message to a *batch.Error. A code that is missing becomes CodeInternal. nil gives nil.
func ToError(e *pb.Error) error {
	if e == nil {
		return nil
	}
	code := toCode(e.GetCode())
	if code == 0 {
		code = batch.CodeInternal
	}
	return &batch.Error{Code: code, Message: e.GetMessage(), RetryAfter: time.Duration(e.GetRetryAfterMilliseconds()) * time.Millisecond}
}

// FromError converts an error to a message, and cuts its text to 8 KiB; nil gives nil. Text that was wrapped around a
// *batch.Error is kept.
func FromError(err error) *pb.Error {
	if err == nil {
		return nil
	}
	ours := ourError(err)
	switch {
	case ours != nil:
	case errors.Is(err, context.DeadlineExceeded):
		ours = batch.Errorf(batch.CodeDeadline, "%w", err)
	case errors.Is(err, context.Canceled):
		ours = batch.Errorf(batch.CodeCancelled, "%w", err)
	default:
		ours = batch.Errorf(batch.CodeInternal, "%w", err)
	}
	// The code travels in its own field, so its name need not stand in the text.
	message := strings.Replace(err.Error(), ours.Error(), ours.Message, 1)
	retry := (max(0, ours.RetryAfter) + time.Millisecond - 1) / time.Millisecond
	return &pb.Error{
		Code:                   pb.Code(ours.Code),
		Message:                cutText(message, maxMessage),
		RetryAfterMilliseconds: uint32(min(retry, math.MaxUint32)),
	}
}

// ourError returns the first *batch.Error in the chain of err; nil means none.
func ourError(err error) *batch.Error {
	ours, _ := errors.AsType[*batch.Error](err)
	return ours
}
