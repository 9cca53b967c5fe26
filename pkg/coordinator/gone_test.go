package coordinator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/admin"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// raw is a connection to etcd beside the coordinator's.
func (r *rig) raw() *clientv3.Client {
	r.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{r.etcd}, Logger: zap.NewNop()})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// keysOf counts the keys below a part of the prefix.
func (r *rig) keysOf(c *clientv3.Client, below string) int64 {
	r.t.Helper()
	answer, err := c.Get(r.t.Context(), r.prefix+below, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		r.t.Fatal(err)
	}
	return answer.Count
}

func (r *rig) delete(flow string) {
	r.t.Helper()
	if _, err := r.store.PutDocuments(r.t.Context(), nil, nil, []cluster.Key{{Kind: definition.KindFlow, Name: flow}}); err != nil {
		r.t.Fatal(err)
	}
}

// TestDeletedGoes deletes a flow that has run, one that was rejected, and one that was off: of none anything is left, neither in
// etcd nor in metrics nor in the scheduler. What is there stays, its old revisions apart.
func TestDeletedGoes(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.historyAge = 5 * time.Second })
	c := r.raw()
	_, s := r.join("w")
	run := func(flow string) {
		call := r.call(t.Context(), flow, &pb.Submission{Sequence: 1, Rows: rows(1)})
		s.done(s.part())
		r.answered(call)
	}
	r.put(funcDocument("echo"))
	for _, flow := range []string{"Ran", "Off", "Stays"} {
		for n := range cluster.HistoryKeep + 3 {
			r.put(version(flow, n+1))
			r.awaitVersion(flow, n+1)
		}
		run(flow)
	}
	r.put(flowDocument("Off", "id", "echo", "status: 0"))
	r.put(flowDocument("Wrong", "id", "echo", "bogus: 1"))
	r.awaitSnapshot("both are told", func(c *flowstate.Snapshot) bool {
		return c.Flows["Off"].Status.State == cluster.StateDisabled && c.Flows["Wrong"] != nil && c.Flows["Wrong"].Status.State == cluster.StateRejected
	})
	for _, flow := range []string{"Ran", "Off", "Wrong"} {
		r.delete(flow)
	}
	until(t, "nothing is left in etcd", func() bool {
		return r.keysOf(c, "history/flow/Ran/")+r.keysOf(c, "history/flow/Off/")+r.keysOf(c, "status/flow/Ran")+r.keysOf(c, "status/flow/Wrong") == 0
	})
	until(t, "the history of what stays is trimmed", func() bool { return r.keysOf(c, "history/flow/Stays/") == cluster.HistoryKeep })
	until(t, "nothing is left in metrics", func() bool {
		families, err := r.c.config.Registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(families)
		return !strings.Contains(text, `"Ran"`) && !strings.Contains(text, `"Off"`) && !strings.Contains(text, `"Wrong"`) && strings.Contains(text, `"Stays"`)
	})
	run("Stays")
}

// TestRemovedByHand removes what the leader has written, or changes it: it is written anew.
func TestRemovedByHand(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.raw()
	_, s := r.join("w")
	r.sharded()
	r.put(flowDocument("Wrong", "id", "echo", "bogus: 1"))
	r.awaitSnapshot("it is told", func(c *flowstate.Snapshot) bool { return c.Flows["Wrong"] != nil })
	until(t, "the function is told", func() bool { return r.keysOf(c, "status/func/echo") == 1 })
	active := r.awaitSnapshot("it runs", func(c *flowstate.Snapshot) bool { return c.Flows["S"].TakesBatches() }).Flows["S"].Active.ID()
	keys := []string{"status/flow/S", "status/flow/Wrong", "status/func/echo", fmt.Sprintf("history/flow/S/%d", active.Number)}
	for _, key := range keys {
		if answer, err := c.Delete(t.Context(), r.prefix+key); err != nil || answer.Deleted != 1 {
			t.Fatal(key, answer, err)
		}
	}
	for _, key := range keys {
		until(t, key+" is there again", func() bool { return r.keysOf(c, key) == 1 })
	}
	if _, err := c.Put(t.Context(), r.prefix+"status/flow/S", `{"wanted":1,"active":1,"state":"rejected"}`); err != nil {
		t.Fatal(err)
	}
	until(t, "a changed status is put right", func() bool {
		status, err := r.store.Status(t.Context(), "S")
		return err == nil && status.ActiveRevision() == active && status.State == cluster.StateActive
	})
	call := r.call(t.Context(), "S", named(1, active))
	s.done(s.part())
	r.answered(call)
}

// TestDeletedMeanwhile deletes a flow for which apply and rollout wait: both end and say so.
func TestDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.newWorker("silent", "echo").register() // never answers the handshake, so the flow is being applied for ever
	until(t, "the worker is known", func() bool { return len(r.c.fleet.Workers(t.Context())) == 1 })
	apply := r.apply(false, flowDocument("A", "", "echo"), flowDocument("B", "", "echo"), funcDocument("echo"))
	apply.next()
	rollout, err := pb.NewAdminClient(r.conn).Rollout(t.Context(), &pb.RolloutRequest{Flow: "A"})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := rollout.Recv(); err != nil || p.GetState() != cluster.StateApplying {
		t.Fatalf("progress is %v, %v", p, err)
	}
	for range 2 {
		if p := apply.next().GetProgress(); p.GetState() != cluster.StateApplying {
			t.Errorf("progress is %v", p)
		}
	}
	r.delete("A")
	var last *pb.Progress
	for {
		p, err := rollout.Recv()
		if err != nil {
			break
		}
		last = p
	}
	if last.GetState() != admin.StateDeleted || len(last.GetReasons()) == 0 {
		t.Errorf("the rollout ends with %v", last)
	}
	deleted := map[string]bool{}
	r.delete("B")
	for len(deleted) < 2 {
		if p := apply.next().GetProgress(); p.GetState() == admin.StateDeleted {
			deleted[p.GetFlow()] = true
		}
	}
	if err := apply.ends(); err != nil {
		t.Errorf("apply ends with %v", err)
	}
}

// TestAskedForWhatIsGone has clients name revisions that there are not, and flows that there are not: all of that together is few
// requests to etcd.
func TestAskedForWhatIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, s := r.join("w")
	r.sharded()
	active := r.awaitSnapshot("it runs", func(c *flowstate.Snapshot) bool { return c.Flows["S"].TakesBatches() }).Flows["S"].Active.ID()
	reads := func() int { return int(r.c.lookups.requests.Load()) }
	const calls = 200
	began := time.Now()
	for i := range calls {
		for _, first := range []bool{false, true} {
			in := named(uint64(i+1), batch.Revision{Number: active.Number + 7, Digest: batch.Digest{1}})
			in.First = first
			u := within(t, "an answer", r.call(t.Context(), "S", in))
			if !first {
				wantCode(t, u.err, batch.CodeRevisionGone, "new batch")
			} else if u.err != nil || u.answer.GetRefused().GetCode() != pb.Code_CODE_REVISION_CHANGED {
				t.Fatalf("answered %v, %v", u.answer, u.err)
			}
		}
	}
	// It is forgotten after a second, and asked again once.
	if n, most := reads(), 3+2*int(time.Since(began)/goneFor); n > most {
		t.Errorf("%d calls that name a revision that is not kept cost %d reads of etcd, want at most %d", 2*calls, n, most)
	}
	before := reads()
	began = time.Now()
	asked := make(chan unary, calls)
	for i := range calls {
		go func() {
			asked <- <-r.call(t.Context(), fmt.Sprintf("none-%d", i%50), &pb.Submission{Sequence: 1, Rows: rows(1)})
		}()
	}
	for range calls {
		wantCode(t, within(t, "an answer", asked).err, batch.CodeUnknownFlow, "there are S")
	}
	if n, most := reads()-before, 3+int(time.Since(began)/lookupGap); n > most {
		t.Errorf("%d calls for flows that are not there cost %d reads of etcd in %v, want at most %d", calls, n, time.Since(began), most)
	}
	// What comes into being is found at once all the same.
	r.put(version("Late", 1))
	call := r.call(t.Context(), "S", named(1000, active))
	s.done(s.part())
	r.answered(call)
}
