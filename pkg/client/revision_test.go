package client_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// changed refuses a new batch that does not name the active revision.
func (c *call) changed(active int64) {
	c.answer(&pb.Answer{Revision: active, Refused: &pb.Error{Code: pb.Code_CODE_REVISION_CHANGED}, Last: true})
}

func (c *call) names(t *testing.T, revision int64, first bool) {
	t.Helper()
	if m := c.Submission; m.Revision != revision || m.First != first {
		t.Errorf("the batch names revision %d, first %t, want %d, %t", m.Revision, m.First, revision, first)
	}
}

// A call names its revision before anything can run, so that it runs on no other however often it is sent.
func TestSubmitNamesItsRevision(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")
		lost, broken := numbered(1), status.Error(codes.Unavailable, "the connection broke")
		got := submit(t.Context(), c, "F", lost)
		call := <-k.calls
		call.names(t, 0, true)
		call.changed(7)
		began := call.at
		call = <-k.calls
		call.names(t, 7, true)
		if waited := call.at.Sub(began); waited > 0 {
			t.Errorf("it came again after %s, want at once: nothing is wrong", waited)
		}

		// Another batch learns of a newer revision while the first one may have been taken.
		call.fail(broken)
		again := <-k.calls
		other := submit(t.Context(), c, "F", numbered(1))
		call = <-k.calls
		call.names(t, 7, true)
		call.changed(9)
		call = <-k.calls
		call.names(t, 9, true)
		call.answer(&pb.Answer{Revision: 9, Last: true})
		if r := <-other; r.err != nil || r.result.Revision != 9 {
			t.Errorf("the other batch ended as %+v, %v", r.result, r.err)
		}
		again.names(t, 7, false)
		again.refuse(&pb.Error{Code: pb.Code_CODE_REVISION_GONE})
		wantError(t, (<-got).err, batch.CodeRevisionGone, true)
		got = submit(t.Context(), c, "F", lost)
		call = <-k.calls
		call.names(t, 7, false)
		call.answer(&pb.Answer{Revision: 7, Last: true})
		if r := <-got; r.err != nil || r.result.Revision != 7 {
			t.Errorf("the batch ended as %+v, %v", r.result, r.err)
		}

		// A refused batch ran nowhere, so it names the revision that is active when it is submitted again.
		refused := numbered(1)
		got = submit(t.Context(), c, "F", refused)
		call = <-k.calls
		call.names(t, 9, true)
		call.refuse(&pb.Error{Code: pb.Code_CODE_FLOW_DISABLED})
		wantError(t, (<-got).err, batch.CodeFlowDisabled, false)
		got = submit(t.Context(), c, "F", refused)
		call = <-k.calls
		call.names(t, 9, true)
		call.changed(12)
		call = <-k.calls
		call.names(t, 12, true)
		call.answer(&pb.Answer{Revision: 12, Last: true})
		if r := <-got; r.err != nil {
			t.Error(r.err)
		}
		// Another flow has revisions of its own.
		got = submit(t.Context(), c, "G", numbered(1))
		call = <-k.calls
		call.names(t, 0, true)
		call.answer(&pb.Answer{Revision: 3, Last: true})
		<-got
	})
}

// A coordinator that goes on saying that the revision is another one, and never a newer, does not keep the client busy.
func TestRevisionThatChangesBack(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700", client.WithRetryFor(0))
		got := submit(t.Context(), c, "F", numbered(1))
		(<-k.calls).changed(7)
		(<-k.calls).changed(7)
		wantError(t, (<-got).err, batch.CodeRevisionChanged, false)
	})
}

// TestStreamNamesItsRevision sends batches again after the connection broke. They name the revision that was active when they were first sent.
func TestStreamNamesItsRevision(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")
		s, remote := k.stream(c, 2, 1000)
		remote.send(&pb.StreamResponse{Kind: &pb.StreamResponse_Switched{Switched: &pb.Switched{Revision: 7}}})
		remote.sequences() // waits until it is there
		names := func(m *pb.Submission, sequence uint64, revision int64, first bool) {
			t.Helper()
			if m.Sequence != sequence || m.Revision != revision || m.First != first {
				t.Errorf("batch %d names revision %d, first %t, want batch %d, %d, %t", m.Sequence, m.Revision, m.First, sequence, revision, first)
			}
		}
		lost := send(t, s, numbered(2))
		names(remote.next(), 1, 7, true)
		if remote.open.Unanswered {
			t.Error("a new stream says that it has batches to send again")
		}
		remote.ended <- status.Error(codes.Unavailable, "going away")
		again := <-k.sessions
		if !again.open.Unanswered {
			t.Error("the stream does not say that it has batches to send again")
		}
		// The flow is disabled by now: batches that are sent again run, new ones do not.
		again.opened(&pb.Opened{})
		again.credit(100, 1000)
		names(again.next(), 1, 7, false)
		fresh := send(t, s, numbered(1))
		names(again.next(), 2, 0, true)
		again.answer(&pb.Answer{Sequence: 2, Refused: &pb.Error{Code: pb.Code_CODE_FLOW_DISABLED}, Last: true})
		_, err := fresh.Wait(t.Context())
		wantError(t, err, batch.CodeFlowDisabled, false)
		again.send(&pb.StreamResponse{Kind: &pb.StreamResponse_Switched{Switched: &pb.Switched{Revision: 9}}})
		again.done(1)
		wait(t, lost)
		fresh = send(t, s, fresh.Batch())
		names(again.next(), 2, 9, true)
		again.done(2)
		wait(t, fresh)
	})
}
