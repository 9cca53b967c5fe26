package coordinator

import (
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestRolloutUnserved follows a flow without waiting for workers, as callers of before do: what is active and unserved is told at
// once, and so is what has become of it since.
func TestRolloutUnserved(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, _ := r.join("w")
	r.whole()
	admin := pb.NewAdminClient(r.conn)
	last := func() *pb.Progress {
		t.Helper()
		stream, err := admin.Rollout(t.Context(), &pb.RolloutRequest{Flow: "W"})
		if err != nil {
			t.Fatal(err)
		}
		var p *pb.Progress
		for {
			next, err := stream.Recv()
			if err != nil {
				return p
			}
			p = next
		}
	}
	until(t, "the flow is served", func() bool { return last().GetState() == cluster.StateActive })
	w.kill()
	closed(t, "the worker's key is removed", w.registration.Lost())
	until(t, "the flow is unserved", func() bool { return last().GetState() == cluster.StateUnserved })
	if p := last(); !strings.Contains(strings.Join(p.GetReasons(), ""), "no worker has registered") || p.GetActive() == 0 {
		t.Errorf("it says %v", p)
	}
	// A worker that has registered, and has not answered, serves nobody yet; one that refuses does not either.
	other := r.newWorker("other", "echo")
	other.compile = func(*pb.Definition) []string { return []string{"this build lacks a leg"} }
	s := other.register().session()
	if p := last(); p.GetState() != cluster.StateUnserved {
		t.Errorf("before the handshake it says %v", p)
	}
	s.welcome(false, 0)
	until(t, "the worker's refusal is told", func() bool {
		p := last()
		return p.GetState() != cluster.StateActive && strings.Contains(strings.Join(p.GetReasons(), ""), "lacks a leg")
	})
	r.join("w")
	until(t, "the flow is served again", func() bool { return last().GetState() != cluster.StateUnserved })
}
