package coordinator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func at(revision int64, d definition.Document) definition.Document {
	d.Revision = revision
	return d
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	saving := definition.Document{Kind: definition.KindFunc, Name: "save", YAML: []byte("kistype: func\nfname: save\nfmode: Save\nsource:\n  name: rows\noption:\n  cname: store\n")}
	store := definition.Document{Kind: definition.KindConn, Name: "store", YAML: []byte("kistype: conn\ncname: store\naddrs: 127.0.0.1:6379\ntype: redis\nkey: k\nsave: [save]\n")}
	broken := definition.Document{Kind: definition.KindFunc, Name: "echo", YAML: []byte("kistype: func\nfname: echo\nfmode: Sing\n")}
	for name, c := range map[string]struct {
		docs   []definition.Document
		number int64
		needs  string // documents, in no order
		says   string // why it is wrong; empty: it is right
	}{
		"newest is the flow":      {[]definition.Document{at(9, flowDocument("F", "", "echo")), at(4, funcDocument("echo"))}, 9, "flow F, func echo", ""},
		"newest is the function":  {[]definition.Document{at(3, flowDocument("F", "", "echo")), at(4, funcDocument("echo"))}, 4, "flow F, func echo", ""},
		"newest is the connector": {[]definition.Document{at(3, flowDocument("F", "", "save")), at(4, saving), at(8, store)}, 8, "conn store, flow F, func save", ""},
		"others don't count":      {[]definition.Document{at(3, flowDocument("F", "", "echo")), at(4, funcDocument("echo")), at(7, funcDocument("other")), at(8, store)}, 4, "flow F, func echo", ""},
		"a function is missing":   {[]definition.Document{at(3, flowDocument("F", "", "echo"))}, 3, "flow F", "echo"},
		"a connector is missing":  {[]definition.Document{at(3, flowDocument("F", "", "save")), at(4, saving)}, 4, "flow F, func save", "store"},
		"a broken function":       {[]definition.Document{at(3, flowDocument("F", "", "echo")), at(6, broken)}, 6, "flow F, func echo", "Sing"},
		"a broken flow":           {[]definition.Document{at(3, definition.Document{Kind: definition.KindFlow, Name: "F", YAML: []byte("kistype: flow\nflow_nam: F\n")}), at(4, funcDocument("echo"))}, 3, "flow F", "flow_nam"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := compileDocuments(c.docs, nil, definition.MaxSteps).wanted
			got := all["F"]
			if len(all) != 1 || got == nil || got.number != c.number {
				t.Fatalf("candidates %v", all)
			}
			var needs []string
			for _, d := range got.documents {
				needs = append(needs, fmt.Sprintf("%s %s", d.Kind, d.Name))
			}
			slices.Sort(needs)
			if strings.Join(needs, ", ") != c.needs {
				t.Errorf("it needs %s, want %s", needs, c.needs)
			}
			if (got.revision == nil) != (c.says != "") || !strings.Contains(strings.Join(got.reasons, "\n"), c.says) {
				t.Errorf("revision %v, reasons %q, want them to say %q", got.revision, got.reasons, c.says)
			}
			if got.revision != nil && (got.revision.number != c.number || len(got.revision.message.GetDocuments()) != len(got.documents)) {
				t.Errorf("revision %d of %d documents", got.revision.number, len(got.revision.message.GetDocuments()))
			}
		})
	}
	two := compileDocuments([]definition.Document{flowDocument("A", "", "echo"), flowDocument("B", "", "lost"), funcDocument("echo")}, nil, definition.MaxSteps).wanted
	if two["A"].revision == nil || two["B"].revision != nil {
		t.Errorf("a mistake in one flow concerns another: %v, %v", two["A"], two["B"])
	}
}

// A document that breaks a rule of intake is refused when it is new, and goes on where its revision is active already.
func TestIntake(t *testing.T) {
	t.Parallel()
	docs := []definition.Document{
		at(3, flowDocument("F", "", "save")),
		at(4, definition.Document{Kind: definition.KindFunc, Name: "save", YAML: []byte("kistype: func\nfname: save\nfmode: Save\nsource:\n  name: rows\noption:\n  cname: store\n")}),
		at(8, definition.Document{Kind: definition.KindConn, Name: "store", YAML: []byte("kistype: conn\ncname: store\naddrs: 127.0.0.1:6379\ntype: redis\nkey: \"kisgrid:app:\"\n")}),
	}
	c := compileDocuments(docs, nil, definition.MaxSteps).wanted["F"]
	if c.revision == nil || len(c.reasons) > 0 {
		t.Fatalf("it does not compile as before: %+v", c)
	}
	if got := c.takenIn(took(c.id(), docs)); got.revision == nil {
		t.Errorf("what runs is refused: %q", got.reasons)
	}
	// Whatever changes beside it, a connector that runs goes on.
	if got := c.takenIn(took(c.id(), append(slices.Clone(docs[1:]), at(2, flowDocument("F", "k", "save"))))); got.revision == nil {
		t.Errorf("with another flow: %q", got.reasons)
	}
	other := docs[2]
	other.YAML = append(slices.Clone(other.YAML), '\n')
	for name, runs := range map[string]runningFlow{"nothing": {}, "another document": runningOf(c.id(), append(slices.Clone(docs[:2]), other))} {
		got := c.takenIn(runs.took)
		if s := decide("F", got, rolloutProgress{}, runs.revision); s.State != cluster.StateRejected || s.Wanted != 8 || !strings.Contains(strings.Join(s.Reasons, ""), "choose another beginning") {
			t.Errorf("beside %s: %+v", name, s)
		}
	}
	r := newRig(t)
	r.put(docs[0], docs[1], docs[2])
	r.awaitCatalog("the flow is rejected", func(c *fleetSnapshot) bool {
		e := c.flows["F"]
		return e != nil && e.status.State == cluster.StateRejected && strings.Contains(strings.Join(e.status.Reasons, ""), "choose another beginning")
	})
}

// Documents of each kind may have a spelling that is doubtful: one that runs goes on, another is refused.
func TestIntakeOfDoubts(t *testing.T) {
	t.Parallel()
	docs := []definition.Document{
		at(3, definition.Document{Kind: definition.KindFlow, Name: "F", YAML: []byte("kistype: flow\nflow_name: F\nstatus: 1\ncopies: 010\nflows:\n- fname: save\n")}),
		at(4, definition.Document{Kind: definition.KindFunc, Name: "save", YAML: []byte("kistype: func\nfname: save\nfmode: Save\noption:\n  cname: store\n  retry_times: 1_0\n")}),
		at(8, definition.Document{Kind: definition.KindConn, Name: "store", YAML: []byte("kistype: conn\ncname: store\ntype: memory\nreplicas: 0\ntls: 'off'\n")}),
	}
	c := compileDocuments(docs, nil, definition.MaxSteps).wanted["F"]
	if c.revision == nil || !c.breaksIntake {
		t.Fatalf("it does not compile as before: %+v", c)
	}
	if got := c.takenIn(took(c.id(), docs)); got.revision == nil {
		t.Errorf("what runs is refused: %q", got.reasons)
	}
	for i, want := range []string{"/F:4: copies: is 010", "/save:6: option.retry_times: is 1_0", "/store:5: tls: is \"off\""} {
		others := append(slices.Clone(docs[:i]), docs[i+1:]...)
		got := c.takenIn(took(c.id(), others))
		if got.revision != nil || len(got.reasons) != 1 || !strings.Contains(got.reasons[0], want) {
			t.Errorf("beside the others, a new %s: %q, want %q", docs[i], got.reasons, want)
		}
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	wrong := &candidate{number: 9, reasons: []string{"flow F: line 3"}}
	enabled := &candidate{number: 9, revision: &revision{number: 9, enabled: true}}
	disabled := &candidate{number: 9, revision: &revision{number: 9}}
	for name, c := range map[string]struct {
		candidate *candidate
		rollout   rolloutProgress
		state     string
		active    int64
		applied   string
		says      string
	}{
		"wrong documents":      {wrong, rolloutProgress{}, cluster.StateRejected, 5, "0/0", "line 3"},
		"disabled":             {disabled, rolloutProgress{}, cluster.StateDisabled, 9, "0/0", ""},
		"no worker at all":     {enabled, rolloutProgress{}, cluster.StatePending, 5, "0/0", "no worker has registered"},
		"no capable worker":    {enabled, rolloutProgress{missing: map[string]int{"echo": 2}}, cluster.StatePending, 5, "0/0", "function echo is missing on 2 live workers"},
		"all acknowledged":     {enabled, rolloutProgress{capable: []string{"a", "b"}, acks: 2, missing: map[string]int{"echo": 1}}, cluster.StateActive, 9, "2/2", ""},
		"one lags":             {enabled, rolloutProgress{capable: []string{"a", "b"}, acks: 1, lagging: []string{"b"}}, cluster.StateApplying, 5, "1/2", "worker b has not answered yet"},
		"one rejects":          {enabled, rolloutProgress{capable: []string{"a", "b"}, acks: 1, rejected: map[string][]string{"b": {"no such field"}}}, cluster.StateRejected, 5, "1/2", "worker b: no such field"},
		"one rejects, one lag": {enabled, rolloutProgress{capable: []string{"a", "b"}, lagging: []string{"a"}, rejected: map[string][]string{"b": {"no"}}}, cluster.StateRejected, 5, "0/2", "worker b: no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := decide("F", c.candidate, c.rollout, batch.Revision{Number: 5})
			if s.Flow != "F" || s.Wanted != 9 || s.Active != c.active || s.State != c.state || fmt.Sprintf("%d/%d", s.Applied, s.Of) != c.applied {
				t.Errorf("decided %+v", s)
			}
			if reasons := strings.Join(s.Reasons, "\n"); !strings.Contains(reasons, c.says) || (c.says == "") != (reasons == "") {
				t.Errorf("reasons %q, want them to say %q", reasons, c.says)
			}
		})
	}
}

// TestRollout takes a flow through its life, as the leader tells it in etcd.
func TestRollout(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	state := func(want string, says string) cluster.FlowStatus {
		t.Helper()
		e := r.awaitCatalog(fmt.Sprintf("flow W is %s: %s", want, says), func(c *fleetSnapshot) bool {
			e := c.flows["W"]
			return e != nil && e.status.State == want && strings.Contains(strings.Join(e.status.Reasons, "\n"), says)
		}).flows["W"]
		return e.status
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
	r.awaitCatalog("the flow is gone", func(c *fleetSnapshot) bool { return c.flows["W"] == nil })
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
		return func() bool { return r.c.fleet.coordinators()[id].Leader }
	}
	until(t, "the record says who leads", leads(second, first.c.ID()))
	// The documents ask for what no worker has, so the new leader has to write a status. It must not forget what is active.
	first.put(flowDocument("S", "id", "lost"), funcDocument("lost"))
	first.end()
	until(t, "the second one leads", second.c.leading.Load)
	until(t, "its record says so", leads(second, second.c.ID()))
	e := second.awaitCatalog("the status is the new leader's", func(c *fleetSnapshot) bool { return c.flows["S"].status.State == cluster.StatePending }).flows["S"]
	if e.status.Active != revision || e.active.number != revision {
		t.Errorf("after the change of leaders, status is %+v", e.status)
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
	e := second.awaitCatalog("the flow is known", func(c *fleetSnapshot) bool { return c.flows["S"] != nil && c.flows["S"].active != nil }).flows["S"]
	if e.active.number != revision {
		t.Errorf("revision %d is active, want %d", e.active.number, revision)
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
	until(t, "its record is back", func() bool { return r.c.fleet.coordinators()[r.c.ID()].Leader })
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
		r.awaitCatalog(what, func(c *fleetSnapshot) bool { return c.flows["S"] != nil && is(c.flows["S"].status) })
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

// took tells of the documents that a flow runs with.
func took(name batch.Revision, docs []definition.Document) func(definition.Document) bool {
	runs := runningOf(name, docs)
	return runs.took
}
