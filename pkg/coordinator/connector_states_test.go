package coordinator

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func digestOf(d definition.Document) []byte {
	return wire.FromDigest(definition.Digest([]definition.Document{d}))
}

// TestConnectorStates learns how connectors stand from what workers say, and forgets it with the session.
func TestConnectorStates(t *testing.T) {
	t.Parallel()
	var s connectorStates
	d := definition.Document{Kind: definition.KindConn, Name: "Shelf", YAML: []byte("kistype: conn\n")}
	key := flowstate.ConnectorKey{Name: d.Name, Digest: definition.Digest([]definition.Document{d})}
	if state, tells := s.find(key); state != nil || tells {
		t.Errorf("before the first session: %v, %v", state, tells)
	}
	s.reset(true)
	state := func(standing pb.ConnectorState_Standing) []*pb.ConnectorState {
		return []*pb.ConnectorState{{Name: d.Name, Digest: digestOf(d), Standing: standing}}
	}
	for _, standing := range []pb.ConnectorState_Standing{pb.ConnectorState_STANDING_DEGRADED, pb.ConnectorState_STANDING_CONNECTED} {
		if err := s.update(state(standing)); err != nil {
			t.Fatal(err)
		}
		if got, tells := s.find(key); got.GetStanding() != standing || !tells {
			t.Errorf("it stands %v, want %v", got, standing)
		}
	}
	if err := s.update(state(pb.ConnectorState_STANDING_GONE)); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.find(key); got != nil {
		t.Errorf("it is gone, and stands %v", got)
	}
	_ = s.update(state(pb.ConnectorState_STANDING_DEGRADED))
	s.reset(true)
	if got, tells := s.find(key); got != nil || !tells {
		t.Errorf("in the next session it stands %v, %v", got, tells)
	}
	if err := s.update([]*pb.ConnectorState{{Name: "x", Digest: []byte("short")}}); batch.CodeOf(err) != batch.CodeBadMessage {
		t.Errorf("a digest that is none: %v", err)
	}
}

// TestConnectorsOfBuilds asks how a connector stands on workers that tell, and on one of a build that does not: there it is known only
// while the worker's record says that it is of no use.
func TestConnectorsOfBuilds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	silent, quiet := r.join("silent")
	docs := []definition.Document{
		flowDocument("F", "id", "save"),
		{Kind: definition.KindFunc, Name: "save", YAML: []byte("kistype: func\nfname: save\nfmode: Save\noption:\n  cname: Shelf\n  save:\n    key: a\n    set:\n      x: x\n")},
		{Kind: definition.KindConn, Name: "Shelf", YAML: []byte("kistype: conn\ncname: Shelf\naddrs: 127.0.0.1:6379\ntype: redis\nkey: k\n")},
	}
	in := &pb.ApplyRequest{TellConnectors: true, ConnectorsMilliseconds: 60_000}
	for _, d := range docs {
		in.Documents = append(in.Documents, &pb.Document{Kind: string(d.Kind), Name: d.Name, Yaml: d.YAML})
	}
	apply := func() *pb.Connectors {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		stream, err := pb.NewAdminClient(r.conn).Apply(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		for {
			e, err := stream.Recv()
			if err != nil {
				t.Fatalf("apply ended without a word of connectors: %v", err)
			}
			if c := e.GetConnectors(); c != nil {
				return c
			}
		}
	}
	// Nobody waits for who never tells.
	if c := apply(); len(c.GetDegraded()) != 0 || len(c.GetUnknown()) != 1 || c.GetUnknown()[0].GetWorker() != silent.record.ID {
		t.Errorf("of the silent worker it says %v", c)
	}
	silent.record.Stores = map[string]string{"Shelf": "it burns"}
	if err := silent.registration.Update(t.Context(), silent.record); err != nil {
		t.Fatal(err)
	}
	view := func() (v FlowView) {
		t.Helper()
		got, err := pb.NewAdminClient(r.conn).Get(t.Context(), &pb.GetRequest{Kind: "flows", Name: "F"})
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got.GetResources()[0].GetStatus(), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	until(t, "the silent worker's record is known", func() bool { return view().Degraded["Shelf"][silent.record.ID] == "it burns" })
	if v := view(); v.State != "degraded" {
		t.Errorf("the flow is %s", v.State)
	}
	silent.kill()
	closed(t, "its session is over", quiet.over)

	w := r.newWorker("telling", "other")
	w.tellsConnectors = true
	s := w.register().session().welcome(false, 0)
	tell := func(standing pb.ConnectorState_Standing, reason string) {
		s.send(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Heartbeat{Heartbeat: &pb.Heartbeat{Connectors: []*pb.ConnectorState{
			{Name: "Shelf", Digest: digestOf(docs[2]), Standing: standing, Reason: reason},
		}}}})
	}
	until(t, "it runs the flow", func() bool { return len(view().Unserved) == 0 })
	if v := view(); v.State != "active" {
		t.Errorf("before it tells the flow is %s", v.State)
	}
	tell(pb.ConnectorState_STANDING_DEGRADED, "the key is lost")
	until(t, "it is degraded", func() bool { return view().Degraded["Shelf"][w.record.ID] == "the key is lost" })
	in.ConnectorsMilliseconds = 0
	if c := apply(); len(c.GetDegraded()) != 1 || !strings.Contains(c.GetDegraded()[0].GetReason(), "the key is lost") || len(c.GetUnknown()) != 0 {
		t.Errorf("of the telling worker it says %v", c)
	}
	in.ConnectorsMilliseconds = 60_000
	tell(pb.ConnectorState_STANDING_CONNECTED, "")
	if c := apply(); len(c.GetDegraded())+len(c.GetUnknown()) != 0 {
		t.Errorf("once it is connected it says %v", c)
	}
}
