package coordinator

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// actions are a diff's changes in short.
func actions(d *pb.Diff) string {
	var out []string
	for _, c := range d.GetChanges() {
		out = append(out, c.GetAction()+" "+c.GetKind()+" "+c.GetName())
	}
	return strings.Join(out, ", ")
}

func TestApply(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, _ = r.join("w")
	dry := r.apply(true, flowDocument("W", "", "echo"), funcDocument("echo"))
	if d := dry.next().GetDiff(); d.GetRevision() != 0 || actions(d) != "create flow W, create func echo" || !strings.Contains(d.GetChanges()[0].GetDiff(), "+flow_name: W") {
		t.Errorf("a dry run says %v", d)
	}
	if err := dry.ends(); err != nil {
		t.Error(err)
	}
	if _, docs, err := r.store.Documents(t.Context()); err != nil || len(docs) != 0 {
		t.Errorf("a dry run wrote %v (%v)", docs, err)
	}

	first := r.apply(false, flowDocument("W", "", "echo"), funcDocument("echo"))
	revision := first.next().GetDiff().GetRevision()
	var last *pb.Progress
	for {
		e, err := first.stream.Recv()
		if err != nil {
			break
		}
		last = e.GetProgress()
	}
	if last.GetState() != cluster.StateActive || last.GetActive() != revision || last.GetApplied() != 1 || last.GetOf() != 1 {
		t.Errorf("it came to %v, want revision %d to be active", last, revision)
	}

	again := r.apply(false, flowDocument("W", "", "echo"), funcDocument("echo"))
	if d := again.next().GetDiff(); d.GetRevision() != 0 || actions(d) != "unchanged flow W, unchanged func echo" {
		t.Errorf("the same again says %v", d)
	}
	if err := again.ends(); err != nil {
		t.Error(err)
	}
	// A function on its own concerns each flow that uses it.
	change := funcDocument("echo")
	change.YAML = append(change.YAML, "option:\n  retry_times: 3\n"...)
	third := r.apply(false, change)
	if d := third.next().GetDiff(); actions(d) != "update func echo" || !strings.Contains(d.GetChanges()[0].GetDiff(), "+  retry_times: 3") {
		t.Errorf("the change says %v", d)
	}
	if p := third.next().GetProgress(); p.GetFlow() != "W" {
		t.Errorf("it reports %v", p)
	}
	if err := third.ends(); err != nil {
		t.Error(err)
	}
}

func TestApplyRefused(t *testing.T) {
	r := newRig(t)
	r.put(flowDocument("other", "", "lost")) // wrong already, which is nobody's fault here
	for name, c := range map[string]struct {
		docs []definition.Document
		says []string
	}{
		"a bad document":       {[]definition.Document{flowDocument("W", "", "echo", "bogus: 1"), funcDocument("echo")}, []string{"bogus"}},
		"a missing function":   {[]definition.Document{flowDocument("W", "", "echo")}, []string{"nothing was written", "echo"}},
		"several mistakes":     {[]definition.Document{flowDocument("A", "", "f"), flowDocument("B", "", "g")}, []string{"nothing was written", "f", "g"}},
		"a global document":    {[]definition.Document{{Kind: definition.KindGlobal, Name: "global", YAML: []byte("kistype: global\n")}}, []string{"flags"}},
		"a document of a kind": {[]definition.Document{{Kind: "song", Name: "x", YAML: []byte("kistype: song\n")}}, []string{"song"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := r.apply(false, c.docs...).ends()
			for _, says := range c.says {
				wantCode(t, err, batch.CodeBadDocument, says)
			}
		})
	}
	if _, docs, err := r.store.Documents(t.Context()); err != nil || len(docs) != 1 {
		t.Errorf("there are %v (%v)", docs, err)
	}
	// What is right is taken although another flow is wrong.
	if err := r.apply(false, flowDocument("W", "", "echo"), funcDocument("echo")).ends(); err != nil {
		t.Errorf("refused: %v", err)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.put(flowDocument("W", "", "echo"), funcDocument("echo"), funcDocument("unused"))
	r.awaitSnapshot("the flow is known", func(c *flowstate.Snapshot) bool { return c.Flows["W"] != nil })
	admin := pb.NewAdminClient(r.conn)
	remove := func(names ...string) error {
		in := &pb.DeleteRequest{}
		for _, name := range names {
			kind, name, _ := strings.Cut(name, "/")
			in.Documents = append(in.Documents, &pb.DocumentName{Kind: kind, Name: name})
		}
		_, err := admin.Delete(t.Context(), in)
		return err
	}
	wantCode(t, remove("func/echo"), batch.CodeBadDocument, "flow W needs it")
	wantCode(t, remove("func/nobody"), batch.CodeNotFound, "func/nobody")
	wantCode(t, remove("func/unused", "func/unused"), batch.CodeNotFound, "func/unused")
	if err := remove("func/unused"); err != nil {
		t.Error(err)
	}
	if err := remove("func/echo", "flow/W"); err != nil {
		t.Error(err)
	}
	r.awaitSnapshot("the flow is gone", func(c *flowstate.Snapshot) bool { return c.Flows["W"] == nil })
	// A flow that is wrong already does not keep others from going.
	r.put(flowDocument("wrong", "", "lost"), funcDocument("unused"))
	if err := remove("func/unused"); err != nil {
		t.Error(err)
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, s := r.join("w")
	revision := r.sharded()
	store := definition.Document{Kind: definition.KindConn, Name: "store", YAML: []byte("kistype: conn\ncname: store\naddrs: 127.0.0.1:6379\ntype: redis\nkey: k\n")}
	r.put(store, funcDocument("unused"))
	r.owns("S", 1)
	call := r.call(t.Context(), "S", &pb.Submission{Sequence: 1, Rows: rows(1, 2, 3)})
	s.done(s.part())
	r.answered(call)
	admin := pb.NewAdminClient(r.conn)
	list := func(kind, name string) map[string]*pb.Resource {
		t.Helper()
		response, err := admin.Get(t.Context(), &pb.GetRequest{Kind: kind, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]*pb.Resource{}
		for i, resource := range response.GetResources() {
			if i > 0 && response.GetResources()[i-1].GetName() >= resource.GetName() {
				t.Errorf("%s are out of order", kind)
			}
			all[resource.GetName()] = resource
		}
		return all
	}
	read := func(resource *pb.Resource, into any) {
		t.Helper()
		if err := json.Unmarshal(resource.GetStatus(), into); err != nil {
			t.Fatalf("%s: %v", resource.GetStatus(), err)
		}
	}

	var flow FlowView
	flows := list("flows", "")
	read(flows["S"], &flow)
	if len(flows) != 1 || flow.State != cluster.StateActive || flow.Active != revision || flow.ShardKey != "id" || flow.Rows["done"] != 3 || flow.Rows["in"] != 3 || flow.Rows["in_flight"] != 0 {
		t.Errorf("flows are %v", flows)
	}
	if d := flows["S"].GetDocument(); d.GetRevision() != revision || !strings.Contains(string(d.GetYaml()), "shard_key: id") {
		t.Errorf("its document is %v", d)
	}
	var function cluster.DocumentStatus
	until(t, "the function's status is written", func() bool {
		functions := list("functions", "")
		read(functions["echo"], &function)
		return len(functions) == 2 && slices.Equal(function.Flows, []string{"S"}) && function.State == cluster.StateActive
	})
	if connectors := list("connectors", ""); len(connectors) != 1 || !strings.Contains(string(connectors["store"].GetStatus()), `"flows":[]`) {
		t.Errorf("connectors are %v", connectors)
	}
	var worker cluster.Worker
	workers := list("workers", w.record.ID)
	read(workers[w.record.ID], &worker)
	if worker.Address != w.record.Address || worker.Name != "w" {
		t.Errorf("workers are %v", workers)
	}
	until(t, "the coordinator is listed", func() bool { return len(list("coordinators", "")) == 1 })
	var coordinator cluster.Coordinator
	read(list("coordinators", "")[r.c.ID()], &coordinator)
	if coordinator.Address != r.config.Listener.Addr().String() {
		t.Errorf("the coordinator is %+v", coordinator)
	}
	_, err := admin.Get(t.Context(), &pb.GetRequest{Kind: "flows", Name: "X"})
	wantCode(t, err, batch.CodeNotFound, `no flow "X"`)
	_, err = admin.Get(t.Context(), &pb.GetRequest{Kind: "songs"})
	wantCode(t, err, batch.CodeNotFound, "songs")
}

func TestExplain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, s := r.join("w")
	r.sharded()
	r.whole()
	r.owns("S", 1)
	admin := pb.NewAdminClient(r.conn)
	explain := func(flow, key string) (*pb.ExplainResponse, error) {
		return admin.Explain(t.Context(), &pb.ExplainRequest{Flow: flow, Key: key})
	}
	e, err := explain("S", "101")
	if err != nil || e.GetWorker() != w.record.ID || e.GetReason() == "" {
		t.Errorf("explained %v (%v)", e, err)
	}
	// The slot is that of a row with this key.
	call := r.call(t.Context(), "S", &pb.Submission{Sequence: 1, Rows: rows(101)})
	p := s.part()
	if e, err := explain("S", "101"); err != nil || e.GetSent() != 1 || e.GetQueued()+e.GetHeld() != 0 || e.GetRevision() == 0 || e.GetLane() >= e.GetLanes() {
		t.Errorf("with a row under way explained %v (%v)", e, err)
	}
	if got := p.GetColumns().GetKeys(); len(got) != 1 || uint32(uint16(got[0])) != e.GetSlot() {
		t.Errorf("a row with this key has key hash %v, explained as slot %d", got, e.GetSlot())
	}
	s.done(p)
	r.answered(call)
	if e, err = explain("W", "1"); err != nil || e.GetWorker() != "" || !strings.Contains(e.GetReason(), "no shard key") {
		t.Errorf("explained %v (%v)", e, err)
	}
	_, err = explain("X", "1")
	wantCode(t, err, batch.CodeUnknownFlow, "X")
	_, err = explain("S", "{nonsense")
	if err == nil {
		t.Error("a key that is no JSON value was explained")
	}
	w.kill()
	closed(t, "the worker's key is removed", w.registration.Lost())
	until(t, "nobody is ready", func() bool {
		e, err := explain("S", "101")
		return err == nil && e.GetWorker() == "" && strings.Contains(e.GetReason(), "no worker is ready")
	})
}
