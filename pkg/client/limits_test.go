package client_test

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestStreamFollowsLowerLimits: the coordinator that a stream finds next has lower limits than the one before. Batches over them are not
// sent, and end with an error; the others go on.
func TestStreamFollowsLowerLimits(t *testing.T) {
	for name, c := range map[string]struct {
		limits *pb.Limits
		code   batch.Code
	}{
		"bytes": {&pb.Limits{BatchBytes: 10}, batch.CodeBatchTooLarge},
		"rows":  {&pb.Limits{BatchRows: 5}, batch.CodeTooManyRows},
	} {
		t.Run(name, func(t *testing.T) {
			inNetwork(t, func(t *testing.T, n *network) {
				k := n.start("a:7700")
				s, remote := k.stream(n.dial("passthrough:///a:7700"), 100, 1000)
				if remote.open.GetTakesBytes() == 0 {
					t.Error("the client does not say what it takes")
				}
				large, small := send(t, s, numbered(6)), send(t, s, numbered(5))
				remote.next()
				remote.next()
				remote.ended <- status.Error(codes.Unavailable, "going away")

				again := <-k.sessions
				again.opened(&pb.Opened{Limits: c.limits})
				again.credit(100, 1000)
				if got := again.next(); got.GetSequence() != 2 {
					t.Errorf("batch %d is sent again, want the small one alone", got.GetSequence())
				}
				again.done(2)
				wait(t, small)
				_, err := large.Wait(t.Context())
				wantError(t, err, c.code, true)
				if _, err := s.Send(t.Context(), numbered(6)); batch.CodeOf(err) != c.code || errors.Is(err, client.ErrUnanswered) {
					t.Errorf("a new batch over the limit: %v", err)
				}
				next := send(t, s, numbered(1))
				again.done(again.next().GetSequence())
				wait(t, next)
			})
		})
	}
}

// TestStreamTellsOmittedOutput: the outcomes are told beside the error, and no part of the output looks like all of it.
func TestStreamTellsOmittedOutput(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		s, remote := k.stream(n.dial("passthrough:///a:7700"), 100, 1000)
		p := send(t, s, numbered(3))
		remote.next()
		remote.answer(&pb.Answer{Sequence: 1, Revision: 7, Output: &pb.Output{Rows: &pb.Columns{Data: []byte("00"), Ends: []uint32{2}}, Origins: []uint32{0}}})
		remote.answer(&pb.Answer{
			Sequence: 1, Revision: 7, Last: true,
			NotDone:       []*pb.RowOutcome{deadRow},
			OutputOmitted: &pb.Error{Code: pb.Code_CODE_BATCH_TOO_LARGE, Message: "too much"},
		})
		for range 2 {
			r, err := p.Wait(t.Context())
			if batch.CodeOf(err) != batch.CodeBatchTooLarge || errors.Is(err, client.ErrUnanswered) {
				t.Errorf("the error is %v, want BATCH_TOO_LARGE of a batch that is answered", err)
			}
			if r == nil || r.Rows != 3 || len(r.NotDone) != 1 || r.Output.Rows.Len() != 0 {
				t.Errorf("the result beside it is %+v", r)
			}
		}
	})
}
