package client

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// callBytes bounds what calls to one flow have under way: a coordinator hangs up on who sends too much at a time, and unlike
// streams calls have no credit that tells. It is one batch of the greatest size by default.
const callBytes = 8 << 20

// callSize is what a call counts: its rows, and each one's end and key, which weigh more than small rows do.
func callSize(c *batch.Columns) int64 { return min(int64(len(c.Data)+12*c.Len()), callBytes) }

// calls is what the calls of Submit to one flow share.
type calls struct {
	producer *producer           // of their batches, those apart that have an id already
	room     *semaphore.Weighted // for the rows of calls that are under way

	// Guarded by Client.mu.
	revision batch.Revision // what new batches run on, as a coordinator said last; zero: none did
	users    int            // calls under way
}

// enter counts a call to the flow in. Other flows' calls share nothing with it: they may have what this one's wait for.
func (c *Client) enter(flow string) *calls {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.flows[flow]
	if f == nil {
		f = &calls{producer: newProducer(batch.NewStreamID(), c.options.resubmit), room: semaphore.NewWeighted(callBytes)}
		c.flows[flow] = f
		c.add(f.producer)
	}
	f.users++
	return f
}

// leave counts a call out. Of a flow that never took a batch nothing is kept: its name may be a mistake, one of many.
func (c *Client) leave(flow string, f *calls) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.users--; f.users == 0 && f.producer.unused() {
		delete(c.flows, flow)
		delete(c.producers, f.producer.id)
	}
}

// producerOf is whose ids a batch of Submit has.
func (c *Client) producerOf(f *calls, id batch.ID) *producer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id.IsZero() {
		return f.producer
	}
	if p := c.producers[id.Stream]; p != nil {
		return p
	}
	return &producer{id: id.Stream, foreign: true, low: 1}
}

// revision is what new batches of the flow run on, as far as this client knows; zero: it does not.
func (c *Client) revision(f *calls) batch.Revision {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f.revision
}

func (c *Client) setRevision(f *calls, revision batch.Revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.revision = revision
}

// trip is what gRPC tells of a call on its way: it is put into the call's context. gRPC's goroutines write it.
type trip struct {
	left     atomic.Int64 // bytes of the request that was handed to a connection; 0: none was
	answered atomic.Bool  // the coordinator began to answer, so that it has carried the call out
}

type tripKey struct{}

// trips is a stats.Handler that fills in trips.
type trips struct{}

// TagRPC implements stats.Handler.
func (trips) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler.
func (trips) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (trips) HandleConn(context.Context, stats.ConnStats) {}

// HandleRPC implements stats.Handler.
func (trips) HandleRPC(ctx context.Context, s stats.RPCStats) {
	t, _ := ctx.Value(tripKey{}).(*trip)
	if t == nil {
		return // a stream's
	}
	switch s := s.(type) {
	case *stats.Begin:
		t.left.Store(0) // gRPC begins again only where it knows that nobody has seen the request
	case *stats.OutPayload:
		t.left.Store(int64(max(1, s.Length)))
	case *stats.InHeader:
		t.answered.Store(true)
	}
}

// refused reports whether the error of a call whose request of so many bytes left, and to which no answer began, is a
// coordinator's word that it ran nothing: one that carries our own code, unless that says that the coordinator stopped half
// way, or one of gRPC's for a request that no handler got.
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
	case codes.ResourceExhausted: // the request is over the coordinator's limit, or is one call too many
		return strings.Contains(s.Message(), fmt.Sprintf("received message larger than max (%d vs.", bytes)) || strings.Contains(s.Message(), "which is the server's limit")
	case codes.Internal: // the coordinator can't read the request
		return strings.Contains(s.Message(), "failed to unmarshal the received message")
	}
	return false
}

// ranNothing reports whether an error with which a coordinator ended a call means that it ran nothing of the batch.
func ranNothing(e *pb.Error) bool {
	code := batch.Code(e.GetCode())
	// Builds that say OVERLOADED by a code alone end a call so whose rows have run: what they passed on found no room.
	return !wire.LeavesOpen(code) && (code != batch.CodeOverloaded || !strings.Contains(e.GetMessage(), "takes its answers too slowly"))
}
