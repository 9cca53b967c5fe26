package coordinator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestRollout takes a flow through its life, as the leader tells it in etcd.
func TestRollout(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	state := func(want string, says string) cluster.FlowStatus {
		t.Helper()
		e := r.awaitSnapshot(fmt.Sprintf("flow W is %s: %s", want, says), func(c *flowstate.Snapshot) bool {
			e := c.Flows["W"]
			return e != nil && e.Status.State == want && strings.Contains(strings.Join(e.Status.Reasons, "\n"), says)
		}).Flows["W"]
		return e.Status
	}
	r.put(flowDocument("W", "", "echo"), funcDocument("echo"))
	state(cluster.StatePending, "no worker has registered")
	other := r.newWorker("other", "something").register()
	other.session().welcome(false, 0)
	state(cluster.StatePending, "function echo is missing on 1 live workers")
	w := r.newWorker("w", "echo")
	w.compile = func(d *pb.Definition) []string {
		if strings.Contains(string(d.GetDocuments()[0].GetYaml()), "copies: 3") {
			return []string{"three are too many"}
		}
		return nil
	}
	s := w.register().session().welcome(false, 0)
	first := state(cluster.StateActive, "").Active
	r.owns("W", 1)

	rejected := r.put(flowDocument("W", "", "echo", "copies: 3"))
	if got := state(cluster.StateRejected, "worker "+w.record.ID+": three are too many"); got.Active != first || got.Wanted != rejected {
		t.Errorf("status is %+v, want revision %d to stay", got, first)
	}
	call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(1)})
	p := s.part()
	if p.GetRevision() != first {
		t.Errorf("rows run on revision %d", p.GetRevision())
	}
	s.done(p)
	r.answered(call)

	broken := flowDocument("W", "", "echo", "bogus: 1")
	r.put(broken)
	if got := state(cluster.StateRejected, "bogus"); got.Active != first {
		t.Errorf("status is %+v", got)
	}
	disabled := r.put(flowDocument("W", "", "echo", "status: 0"))
	if got := state(cluster.StateDisabled, ""); got.Active != disabled {
		t.Errorf("status is %+v", got)
	}
	second := r.put(flowDocument("W", "", "echo"))
	if got := state(cluster.StateActive, ""); got.Active != second {
		t.Errorf("status is %+v", got)
	}
	history, err := r.store.History(t.Context(), "W")
	if err != nil || len(history) != 3 {
		t.Errorf("the history has %d revisions (%v)", len(history), err)
	}
	// Without a document that it needs, it goes on, and says what is wrong.
	if _, err := r.store.PutDocuments(t.Context(), nil, nil, []cluster.Key{{Kind: definition.KindFunc, Name: "echo"}}); err != nil {
		t.Fatal(err)
	}
	if got := state(cluster.StateRejected, "echo"); got.Active != second {
		t.Errorf("status is %+v", got)
	}
	if _, err := r.store.PutDocuments(t.Context(), nil, nil, []cluster.Key{{Kind: definition.KindFlow, Name: "W"}}); err != nil {
		t.Fatal(err)
	}
	r.awaitSnapshot("the flow is gone", func(c *flowstate.Snapshot) bool { return c.Flows["W"] == nil })
	u := within(t, "an answer", r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(1)}))
	wantCode(t, u.err, batch.CodeUnknownFlow, "none is defined yet")
}

// TestSecondLeader ends the leader: the other coordinator leads on, keeps what is active although it can't confirm it, and
// tells so in its record.
func TestSecondLeader(t *testing.T) {
	t.Parallel()
	first := newRig(t)
	until(t, "the first one leads", first.c.leading.Load)
	w := first.newWorker("w", "echo").register()
	w.session().welcome(false, 0)
	revision := first.sharded()
	second := first.peer()
	s := w.session().welcome(false, 0) // the worker's session with the second coordinator
	second.awaitActive("S", revision)
	if second.c.leading.Load() {
		t.Fatal("there are two leaders")
	}
	leads := func(r *rig, id string) func() bool {
		return func() bool { return r.c.fleet.Coordinators()[id].Leader }
	}
	until(t, "the record says who leads", leads(second, first.c.ID()))
	// The documents ask for what no worker has, so the new leader has to write a status. It must not forget what is active.
	first.put(flowDocument("S", "id", "lost"), funcDocument("lost"))
	first.end()
	until(t, "the second one leads", second.c.leading.Load)
	until(t, "its record says so", leads(second, second.c.ID()))
	e := second.awaitSnapshot("the status is the new leader's", func(c *flowstate.Snapshot) bool { return c.Flows["S"].Status.State == cluster.StatePending }).Flows["S"]
	if e.Status.Active != revision || e.Active.Number != revision {
		t.Errorf("after the change of leaders, status is %+v", e.Status)
	}
	call := second.call(t.Context(), "S", &pb.Submission{Sequence: 1, Rows: rows(1)})
	s.done(s.part())
	second.answered(call)
	next := second.activate(flowDocument("S", "id", "echo"))
	if next <= revision {
		t.Errorf("revision %d followed %d", next, revision)
	}
}

// TestRestart ends the only coordinator. Another one runs what was active from the history, before any worker is there.
func TestRestart(t *testing.T) {
	t.Parallel()
	first := newRig(t)
	w, _ := first.join("w")
	revision := first.sharded()
	w.kill()
	closed(t, "the worker's key is removed", w.registration.Lost())
	first.put(flowDocument("S", "id", "echo", "copies: 2")) // pending: there is no worker
	first.end()
	second := first.peer()
	e := second.awaitSnapshot("the flow is known", func(c *flowstate.Snapshot) bool { return c.Flows["S"] != nil && c.Flows["S"].Active != nil }).Flows["S"]
	if e.Active.Number != revision {
		t.Errorf("revision %d is active, want %d", e.Active.Number, revision)
	}
	call := second.call(t.Context(), "S", &pb.Submission{Sequence: 1, Rows: rows(1)})
	until(t, "the row waits", func() bool { l := second.ledger("S"); return l.InFlight() == 1 })
	_, s := second.join("w")
	p := s.part()
	s.done(p)
	if a := second.answered(call); a.GetRevision() != revision {
		t.Errorf("it ran on revision %d, want %d, which was active when it came", a.GetRevision(), revision)
	}
}

// TestEtcdOutage takes etcd away for longer than the lease, with rows under way in a live session: none fails, none runs
// twice. When etcd is back, so is everything.
func TestEtcdOutage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	address, stop, err := StartEtcd("", dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, prefix: "/outage/", etcd: address}
	r.start(func(c *Config) { c.Lease = time.Second })
	r.awaitReady()
	_, s := r.join("w")
	r.sharded()
	r.owns("S", 1)
	until(t, "it leads", r.c.leading.Load)
	c := r.open("S")
	c.submit(&pb.Submission{Sequence: 1, Rows: rows(1)})
	before := s.part()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	until(t, "the leadership is lost", func() bool { return !r.c.leading.Load() })
	c.submit(&pb.Submission{Sequence: 2, Rows: rows(1)})
	during := s.part()
	s.done(before)
	s.done(during)
	for range 2 {
		if a := c.answer(); !a.GetLast() || len(a.GetNotDone()) != 0 {
			t.Errorf("answered %v", a)
		}
	}
	// A revision that this coordinator has not in memory is not to be had now.
	c.submit(&pb.Submission{Sequence: 3, Revision: 1, Rows: rows(1)})
	if a := c.answer(); a.GetRefused().GetCode() != pb.Code_CODE_UNAVAILABLE {
		t.Errorf("answered %v", a)
	}
	if _, stop, err = StartEtcd(address, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stop() })
	t.Cleanup(r.end) // before etcd
	until(t, "it leads again", r.c.leading.Load)
	until(t, "its record is back", func() bool { return r.c.fleet.Coordinators()[r.c.ID()].Leader })
	call := r.call(t.Context(), "S", &pb.Submission{Sequence: 1, Rows: rows(1)})
	// The worker's record went with its lease, unless its etcd client was quick: either session may have the row.
	select {
	case p := <-s.parts:
		s.done(p)
	case <-s.over:
		_, next := r.join("w")
		next.done(next.part())
	case <-time.After(patience):
		t.Fatal("the row went nowhere")
	}
	r.answered(call)
	r.awaitLedger("S", 3, map[batch.Outcome]uint64{batch.Done: 3})
}

// TestUnreachableHoldsNothingUp has workers whose keys stand in etcd, and which a coordinator can't reach: one never, the other
// no more. A change waits for them for a lease time, then it goes on without them.
func TestUnreachableHoldsNothingUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	status := func(what string, is func(cluster.FlowStatus) bool) {
		t.Helper()
		r.awaitSnapshot(what, func(c *flowstate.Snapshot) bool { return c.Flows["S"] != nil && is(c.Flows["S"].Status) })
	}
	never := r.newWorker("never", "echo").register() // it takes connections and answers no handshake
	_, good := r.join("good")
	r.newWorker("bystander", "other").register().session().welcome(false, 0) // else this coordinator would be the one that is cut off
	first := r.put(flowDocument("S", "id", "echo"), funcDocument("echo"))
	status("it goes on without the one that says nothing", func(s cluster.FlowStatus) bool { return s.Active == first && s.Applied == 1 && s.Of == 1 })

	w, s := r.join("lost")
	r.owns("S", 2)
	s.breaks(errBroken)
	w.session() // and answers no other handshake
	second := r.put(flowDocument("S", "id", "echo", "copies: 2"))
	status("it goes on without the one that is lost", func(s cluster.FlowStatus) bool { return s.Active == second && s.Of == 1 })
	call := r.call(t.Context(), "S", &pb.Submission{Sequence: 1, Rows: rows(1)})
	p := good.part()
	if p.GetRevision() != second {
		t.Errorf("the part runs on revision %d, want %d", p.GetRevision(), second)
	}
	good.done(p)
	r.answered(call)
	for _, w := range []*fakeWorker{never, w} {
		select {
		case <-w.registration.Lost():
			t.Errorf("the key of %s is gone: this coordinator can't know that it is dead", w.record.ID)
		default:
		}
	}
}

// TestLeaderRefusesAtIntake has the leader refuse a document that breaks a rule of intake.
func TestLeaderRefusesAtIntake(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.put(
		flowDocument("F", "", "save"),
		definition.Document{Kind: definition.KindFunc, Name: "save", YAML: []byte("kistype: func\nfname: save\nfmode: Save\nsource:\n  name: rows\noption:\n  cname: store\n")},
		definition.Document{Kind: definition.KindConn, Name: "store", YAML: []byte("kistype: conn\ncname: store\naddrs: 127.0.0.1:6379\ntype: redis\nkey: \"kisgrid:app:\"\n")},
	)
	r.awaitSnapshot("the flow is rejected", func(c *flowstate.Snapshot) bool {
		e := c.Flows["F"]
		return e != nil && e.Status.State == cluster.StateRejected && strings.Contains(strings.Join(e.Status.Reasons, ""), "choose another beginning")
	})
}
