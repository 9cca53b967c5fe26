package coordinator

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestKnownWhileEtcdIsAway stops etcd, and asks for everything: what is known is told, with when that was so; callers who don't want
// that, such as an export, get an error. Once etcd is back, what it says counts.
func TestKnownWhileEtcdIsAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	address, stop, err := StartEtcd("", dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, prefix: "/known/", etcd: address}
	r.start()
	r.awaitReady()
	w, _ := r.join("w")
	store := definition.Document{Kind: definition.KindConn, Name: "store", YAML: []byte("kistype: conn\ncname: store\ntype: memory\nkey: k\n")}
	r.activate(flowDocument("S", "id", "echo"), funcDocument("echo"), store)
	r.put(flowDocument("Lost", "name", "nobody"))
	r.awaitSnapshot("the wrong flow is known", func(c *flowstate.Snapshot) bool { return c.Flows["Lost"] != nil })
	admin := pb.NewAdminClient(r.conn)
	get := func(kind, name string) *pb.GetResponse {
		t.Helper()
		got, err := admin.Get(t.Context(), &pb.GetRequest{Kind: kind, Name: name, Known: true})
		if err != nil {
			t.Fatalf("get %s: %v", kind, err)
		}
		return got
	}
	until(t, "the statuses of documents are written", func() bool {
		var s cluster.DocumentStatus
		_ = json.Unmarshal(get("connectors", "store").GetResources()[0].GetStatus(), &s)
		return s.State == cluster.StateUnused
	})
	if got := get("flows", ""); got.GetAway() != "" || got.GetKnownUnixMilliseconds() != 0 {
		t.Errorf("while etcd answers it says %v", got)
	}
	var coordinators int
	until(t, "the coordinator is listed", func() bool { coordinators = len(get("coordinators", "").GetResources()); return coordinators == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	if _, err := admin.Get(t.Context(), &pb.GetRequest{Kind: "flows"}); err == nil {
		t.Error("who wants to know how it is now gets an answer")
	}
	for kind, want := range map[string]int{"flows": 2, "functions": 1, "connectors": 1} {
		got := get(kind, "")
		if len(got.GetResources()) != want || got.GetAway() == "" {
			t.Errorf("of %s %v is known", kind, got)
		}
		if at := time.UnixMilli(got.GetKnownUnixMilliseconds()); at.After(stopped.Add(time.Second)) || at.Before(stopped.Add(-patience)) {
			t.Errorf("etcd stopped at %s, and %s are known as of %s", stopped, kind, at)
		}
	}
	var v FlowView
	flow := get("flows", "S").GetResources()[0]
	if err := json.Unmarshal(flow.GetStatus(), &v); err != nil || v.State != cluster.StateActive || v.ShardKey != "id" || !strings.Contains(string(flow.GetDocument().GetYaml()), "shard_key: id") {
		t.Errorf("of the flow is known %s, %v", flow, err)
	}
	lost := get("flows", "Lost").GetResources()[0]
	if err := json.Unmarshal(lost.GetStatus(), &v); err != nil || v.State != cluster.StateRejected || lost.GetDocument() != nil {
		t.Errorf("of the wrong flow is known %s, %v", lost, err)
	}
	until(t, "the outage is known", func() bool { return get("workers", "").GetAway() != "" })
	if got := get("workers", ""); len(got.GetResources()) != 1 || got.GetResources()[0].GetName() != w.record.ID || got.GetKnownUnixMilliseconds() == 0 {
		t.Errorf("of workers %v is known", got)
	}
	if _, stop, err = StartEtcd(address, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.end) // before etcd
	until(t, "etcd is back", func() bool { return get("flows", "").GetAway() == "" && get("workers", "").GetAway() == "" })
	if lost := get("flows", "Lost").GetResources()[0]; lost.GetDocument() == nil {
		t.Errorf("of the wrong flow it says %s", lost)
	}
}
