package coordinator

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// applied writes documents through the coordinator, and waits until their flows have settled.
func (r *rig) applied(docs ...definition.Document) {
	r.t.Helper()
	if err := r.apply(false, docs...).ends(); err != nil {
		r.t.Fatal(fromStatus(err))
	}
}

// deleteDirectly deletes a document as etcdctl does.
func (r *rig) deleteDirectly(kind definition.Kind, name string) {
	r.t.Helper()
	if _, err := r.store.PutDocuments(r.t.Context(), nil, nil, []cluster.Key{{Kind: kind, Name: name}}); err != nil {
		r.t.Fatal(err)
	}
}

// TestRefuseDirectChanges changes and deletes a flow past all coordinators, which the leader refuses: the flow runs on as it was, its status
// says why and how to go on, and each of the ways works. A new leader decides the same.
func TestRefuseDirectChanges(t *testing.T) {
	t.Parallel()
	refuse := func(c *Config) { c.RefuseDirect = true }
	r := newRig(t, refuse)
	_, s := r.join("w")
	state := func(r *rig, want, says string) cluster.FlowStatus {
		t.Helper()
		return r.awaitSnapshot(fmt.Sprintf("the flow is %s: %s", want, says), func(c *flowstate.Snapshot) bool {
			e := c.Flows["W"]
			return e != nil && e.Status.State == want && strings.Contains(strings.Join(e.Status.Reasons, "\n"), says)
		}).Flows["W"].Status
	}
	runs := func(r *rig, s *workerSession, revision int64) {
		t.Helper()
		call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(1)})
		p := s.part()
		if p.GetRevision() != revision {
			t.Errorf("rows run on revision %d, want %d", p.GetRevision(), revision)
		}
		s.done(p)
		r.answered(call)
	}

	r.applied(funcDocument("echo"), flowDocument("W", "", "echo"))
	first := state(r, cluster.StateActive, "").Active

	changed := flowDocument("W", "", "echo", "copies: 2")
	at := r.put(changed)
	if got := state(r, cluster.StateRejected, fmt.Sprintf("flow/W was written into etcd at revision %d", at)); got.Active != first || got.Wanted != at || !strings.Contains(got.Reasons[0], "kisgrid apply") {
		t.Errorf("status is %+v, want revision %d to stay", got, first)
	}
	runs(r, s, first)
	r.applied(changed) // the same text once more, by somebody who is known
	second := state(r, cluster.StateActive, "").Active
	if second <= at {
		t.Errorf("revision %d is active, want a later one than %d", second, at)
	}

	r.put(funcDocument("echo"), flowDocument("W", "", "echo", "copies: 3"))
	state(r, cluster.StateRejected, "flow/W was written into etcd")
	r.applied(changed) // back to the document before
	state(r, cluster.StateActive, "")

	r.deleteDirectly(definition.KindFlow, "W")
	deleted := state(r, cluster.StateRejected, "flow/W was deleted in etcd")
	runs(r, s, deleted.Active)
	next := &rig{t: t, prefix: r.prefix, etcd: r.etcd}
	next.start(refuse)
	next.awaitReady()
	s2 := s.worker.session().welcome(false, 0)
	r.end()
	until(t, "the other one leads", next.c.leading.Load)
	next.applied(funcDocument("other")) // so that the new leader has made a pass
	if got := state(next, cluster.StateRejected, "flow/W was deleted in etcd"); got.Active != deleted.Active {
		t.Errorf("status is %+v, want revision %d to stay", got, deleted.Active)
	}
	runs(next, s2, deleted.Active)

	next.applied(changed)
	state(next, cluster.StateActive, "")
	if _, err := pb.NewAdminClient(next.conn).Delete(t.Context(), &pb.DeleteRequest{Documents: []*pb.DocumentName{{Kind: "flow", Name: "W"}}}); err != nil {
		t.Fatal(err)
	}
	next.awaitSnapshot("the flow is gone", func(c *flowstate.Snapshot) bool { return c.Flows["W"] == nil })

	// A coordinator also deletes documents that were applied together and are left out later.
	next.applied(funcDocument("echo"), flowDocument("V", "", "echo", "status: 0"))
	stream, err := pb.NewAdminClient(next.conn).Apply(t.Context(), &pb.ApplyRequest{Prune: true, Documents: []*pb.Document{{Kind: "func", Name: "echo", Yaml: funcDocument("echo").YAML}}})
	if err := drained(stream, err); err != nil {
		t.Fatal(err)
	}
	next.awaitSnapshot("the flow is gone", func(c *flowstate.Snapshot) bool { return len(c.Flows) == 0 })
}

// TestDirectDeletions deletes documents past all coordinators, and others through one: only the former have an entry of an unknown author.
// The history keeps its authors after the audit log is gone.
func TestDirectDeletions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.applied(funcDocument("echo"), flowDocument("W", "", "echo", "status: 0"), flowDocument("X", "", "echo", "status: 0"), funcDocument("unused"))
	r.awaitSnapshot("both flows are known", func(c *flowstate.Snapshot) bool { return c.Flows["W"] != nil && c.Flows["X"] != nil })
	admin := pb.NewAdminClient(r.conn)
	author := func() string {
		h, err := admin.History(t.Context(), &pb.HistoryRequest{Flow: "X"})
		if err != nil || len(h.GetRevisions()) != 1 {
			t.Fatalf("the history is %v, %v", h, err)
		}
		return h.GetRevisions()[0].GetAuthor()
	}
	wrote := author()
	if wrote == "" || wrote == cluster.UnknownAuthor {
		t.Errorf("the author is %q", wrote)
	}
	r.deleteDirectly(definition.KindFlow, "W")
	until(t, "the status of the unused function is written", func() bool {
		all, err := r.store.DocumentStatuses(t.Context())
		return err == nil && all[cluster.Key{Kind: definition.KindFunc, Name: "unused"}].Wanted != 0
	})
	r.deleteDirectly(definition.KindFunc, "unused")
	direct := func() string {
		entries, err := r.store.Audit(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range entries {
			if e.Author == cluster.UnknownAuthor {
				all = append(all, fmt.Sprintf("%s %s of %s", e.Action, strings.Join(e.Documents, ","), strings.Join(e.Flows, ",")))
			}
		}
		return strings.Join(all, "; ")
	}
	until(t, "both deletions are in the log", func() bool {
		got := direct()
		return strings.Contains(got, "delete in etcd flow/W of W") && strings.Contains(got, "delete in etcd func/unused of ")
	})
	if _, err := admin.Delete(t.Context(), &pb.DeleteRequest{Documents: []*pb.DocumentName{{Kind: "flow", Name: "X"}}}); err != nil {
		t.Fatal(err)
	}
	r.awaitSnapshot("the flow is gone", func(c *flowstate.Snapshot) bool { return c.Flows["X"] == nil })
	r.applied(flowDocument("Z", "", "echo", "status: 0"))
	r.awaitSnapshot("the flow is known", func(c *flowstate.Snapshot) bool { return c.Flows["Z"] != nil })
	r.deleteDirectly(definition.KindFlow, "Z") // it is told after X would have been
	until(t, "the last deletion is in the log", func() bool { return strings.Contains(direct(), "flow/Z") })
	if got := direct(); strings.Contains(got, "flow/X") {
		t.Errorf("the log says that nobody known has deleted flow X: %s", got)
	}

	entries, err := r.store.History(t.Context(), "X")
	if err != nil || len(entries) != 1 || entries[0].Author != wrote {
		t.Errorf("the entry in the history is %v, %v, want the author %q", entries, err, wrote)
	}
}

// TestFullTransactions writes and deletes as many documents as one transaction takes, with and without flows that wait for a worker, while direct
// changes are refused. Nothing is ever rejected, and everything has its author. So it is for documents that are older than the audit log.
func TestFullTransactions(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) {
		c.RefuseDirect = true
		if _, err := c.Store.PutDocuments(t.Context(), nil, []definition.Document{funcDocument("echo"), flowDocument("Old", "", "echo")}, nil); err != nil {
			t.Fatal(err)
		}
	})
	// Every other flow is off.
	all := func(lines ...string) (docs []definition.Document) {
		for i := range cluster.DefaultMaxOperations {
			more := lines
			if i%2 == 0 {
				more = append([]string{"status: 0"}, lines...)
			}
			docs = append(docs, flowDocument(fmt.Sprintf("F%d", i), "", "echo", more...))
		}
		return docs
	}
	settled := func(odd string) {
		t.Helper()
		r.awaitSnapshot("the flows that are on are "+odd, func(c *flowstate.Snapshot) bool {
			for i := range cluster.DefaultMaxOperations {
				e, state := c.Flows[fmt.Sprintf("F%d", i)], cluster.StateDisabled
				if i%2 == 1 {
					state = odd
				}
				if e == nil || e.Status.State != state {
					return false
				}
			}
			return true
		})
	}
	r.apply(false, all()...).next()
	settled(cluster.StatePending)
	r.apply(false, all("copies: 2")...).next()
	r.join("w")
	settled(cluster.StateActive)
	var gone []*pb.DocumentName
	for _, d := range all() {
		gone = append(gone, &pb.DocumentName{Kind: string(d.Kind), Name: d.Name})
	}
	if _, err := pb.NewAdminClient(r.conn).Delete(t.Context(), &pb.DeleteRequest{Documents: gone}); err != nil {
		t.Fatal(err)
	}
	r.awaitSnapshot("only the flow is left that is older than the log", func(c *flowstate.Snapshot) bool {
		return len(c.Flows) == 1 && c.Flows["Old"] != nil && c.Flows["Old"].Status.State == cluster.StateActive
	})
	families, err := r.c.config.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "kisgrid_revisions_rejected_total" && m.GetCounter().GetValue() != 0 {
				t.Errorf("a flow was rejected: %v", m)
			}
		}
	}
	entries, err := r.store.Audit(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Author == cluster.UnknownAuthor || e.Announced != nil {
			t.Errorf("the log has %+v", e)
		}
	}
}
