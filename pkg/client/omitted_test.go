package client_test

import (
	"errors"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestSubmitKeepsOutcomesWithoutOutput: the rows ran, so their outcomes must not get lost with an output that is too large.
func TestSubmitKeepsOutcomesWithoutOutput(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")
		got := submit(t.Context(), c, "F", numbered(3))
		(<-k.calls).answer(&pb.Answer{
			Sequence: 1, Revision: 7, Last: true,
			NotDone:       []*pb.RowOutcome{{Row: 1, Outcome: pb.Outcome_OUTCOME_DEAD, Code: pb.Code_CODE_FUNCTION_ERROR}},
			OutputOmitted: &pb.Error{Code: pb.Code_CODE_BATCH_TOO_LARGE, Message: "too much"},
		})
		r := <-got
		if batch.CodeOf(r.err) != batch.CodeBatchTooLarge || errors.Is(r.err, client.ErrUnanswered) {
			t.Errorf("the error is %v, want BATCH_TOO_LARGE of a batch that is answered", r.err)
		}
		if r.result == nil || r.result.Rows != 3 || len(r.result.NotDone) != 1 || r.result.NotDone[0].Row != 1 {
			t.Errorf("the result beside it is %+v", r.result)
		}
	})
}
