package client

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// callProgress says how far one call of Submit got. It decides whether rows of a failed call may have run. The call's context holds it, and
// goroutines of gRPC write it through progressHandler.
type callProgress struct {
	left     atomic.Int64 // the size of the request, once it was handed to a connection; 0 means that it was not
	answered atomic.Bool  // the coordinator began to answer, so it has carried the call out
}

// progressKey is the key of the callProgress in a context.
type progressKey struct{}

// progressHandler implements stats.Handler: gRPC calls it at each step of each call, and it writes the callProgress of calls that have one.
type progressHandler struct{}

// TagRPC implements stats.Handler. It changes nothing.
func (progressHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler. It changes nothing.
func (progressHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler. It does nothing.
func (progressHandler) HandleConn(context.Context, stats.ConnStats) {}

// HandleRPC implements stats.Handler. It notes in the callProgress of a call that the request left and that the answer began.
func (progressHandler) HandleRPC(ctx context.Context, s stats.RPCStats) {
	p, _ := ctx.Value(progressKey{}).(*callProgress)
	if p == nil {
		return // the call is a stream
	}
	switch s := s.(type) {
	case *stats.Begin:
		p.left.Store(0) // gRPC repeats a call only if it knows that no server has seen the request
	case *stats.OutPayload:
		p.left.Store(int64(max(1, s.Length)))
	case *stats.InHeader:
		p.answered.Store(true)
	}
}

// refused reports whether a call's error says that the coordinator ran no row of the batch. bytes is the size of the request, which had
// left; no answer had begun to come. There are two kinds of errors that say so: an error with a code of KisGrid, unless that code says that
// the coordinator stopped half way, and an error of gRPC for a request that never reached its handler.
func refused(err error, bytes int64) bool {
	s, _ := status.FromError(err)
	for _, d := range s.Details() {
		if e, ok := d.(*pb.Error); ok {
			return ranNothing(e)
		}
	}
	switch s.Code() {
	case codes.Unimplemented:
		return true
	case codes.ResourceExhausted:
		// The request is over the coordinator's limit; or there are too many calls, of which earlier builds say so only in this text.
		return strings.Contains(s.Message(), fmt.Sprintf("received message larger than max (%d vs.", bytes)) || strings.Contains(s.Message(), "which is the server's limit")
	case codes.Internal: // the coordinator can't read the request
		return strings.Contains(s.Message(), "failed to unmarshal the received message")
	}
	return false
}

// ranNothing reports whether an error with a code of KisGrid means that the coordinator ran no row of the batch.
func ranNothing(e *pb.Error) bool {
	code := batch.Code(e.GetCode())
	// Earlier builds also use OVERLOADED for a call whose rows have run and whose output found no room. Only the message tells the two apart.
	return !wire.LeavesOpen(code) && (code != batch.CodeOverloaded || !strings.Contains(e.GetMessage(), "takes its answers too slowly"))
}
