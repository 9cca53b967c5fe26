package coordinator

import (
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestNewBatches has new batches name the active revision, an older one and none, as calls and on a stream.
func TestNewBatches(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, s := r.join("w")
	old := r.sharded()
	c := r.open("S")
	active := r.activate(flowDocument("S", "id", "echo", "copies: 2"))
	if m := c.next().GetSwitched(); m.GetRevision() != active {
		t.Fatalf("told %v", m)
	}
	for _, named := range []int64{0, old} {
		a := r.answered(r.call(t.Context(), "S", &pb.Submission{Sequence: 3, First: true, Revision: named, Rows: rows(1)}))
		if a.GetRefused().GetCode() != pb.Code_CODE_REVISION_CHANGED || a.GetRevision() != active || a.GetSequence() != 3 || !a.GetLast() {
			t.Errorf("a new batch that names revision %d is answered %v, want it sent to %d", named, a, active)
		}
	}
	call := r.call(t.Context(), "S", &pb.Submission{Sequence: 1, First: true, Revision: active, Rows: rows(1)})
	s.done(s.part())
	if a := r.answered(call); a.GetRevision() != active {
		t.Errorf("it ran on revision %d, want %d", a.GetRevision(), active)
	}
	// On a stream it may have crossed the news: what comes behind must not overtake it.
	c.submit(&pb.Submission{Sequence: 1, First: true, Revision: old, Rows: rows(1)})
	if p := s.part(); p.GetRevision() != old {
		t.Errorf("the part runs on revision %d, want %d", p.GetRevision(), old)
	} else {
		s.done(p)
	}
	if a := c.answer(); a.GetRevision() != old || a.GetRefused() != nil {
		t.Errorf("answered %v", a)
	}
}

// TestAhead asks a coordinator for what another one runs already: a flow that has just been applied, or switched on, and a
// revision that has just become active. It may not have heard of it, and then asks etcd before it says no.
func TestAhead(t *testing.T) {
	t.Parallel()
	first := newRig(t)
	w, _ := first.join("w")
	second := first.peer()
	s := w.session().welcome(false, 0)
	runs := func(flow string, revision int64) {
		t.Helper()
		call := second.call(t.Context(), flow, &pb.Submission{Sequence: 1, First: true, Revision: revision, Rows: rows(1)})
		select {
		case u := <-call:
			t.Fatalf("flow %s, revision %d: answered %v, %v", flow, revision, u.answer, u.err)
		case p := <-s.parts:
			if p.GetRevision() != revision {
				t.Errorf("the part runs on revision %d, want %d", p.GetRevision(), revision)
			}
			s.done(p)
		case <-time.After(patience):
			t.Fatal("nothing comes")
		}
		second.answered(call)
	}
	for _, text := range []string{"copies: 1", "copies: 2", "status: 0", "copies: 3"} {
		for _, flow := range []string{"A", "B", "C"} {
			events := first.apply(false, flowDocument(flow, "id", "echo", text), funcDocument("echo"))
			revision := events.next().GetDiff().GetRevision()
			if err := events.ends(); err != nil {
				t.Fatal(err)
			}
			if text != "status: 0" {
				runs(flow, revision)
			}
		}
	}
}

// TestSwitchedOffAndLost switches a flow off, or deletes it, and loses the coordinator: what was unanswered runs to its end by
// another one, which never ran the flow, on the revision that it names, as long as the history has that. New batches are
// refused. When nothing comes any more, the worker forgets the flow.
func TestSwitchedOffAndLost(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*rig)
		code   batch.Code
	}{
		"disabled": {func(r *rig) { r.put(flowDocument("S", "id", "echo", "status: 0")) }, batch.CodeFlowDisabled},
		"deleted": {func(r *rig) {
			if _, err := r.store.PutDocuments(r.t.Context(), nil, nil, []cluster.Key{{Kind: definition.KindFlow, Name: "S"}}); err != nil {
				r.t.Fatal(err)
			}
		}, batch.CodeUnknownFlow},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := newRig(t)
			own, err := cluster.Open(cluster.Config{Endpoints: []string{first.etcd}, Prefix: first.prefix})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = own.Close() })
			w := first.newWorker("w", "echo")
			w.store = own // the worker outlives the first coordinator
			s := w.register().session().welcome(false, 0)
			revision := first.sharded()
			stream := first.open("S")
			stream.submit(&pb.Submission{Sequence: 1, First: true, Revision: revision, Rows: rows(1)})
			s.part()
			c.change(first)
			first.awaitSnapshot("the flow is off", func(k *flowstate.Snapshot) bool { return !k.Flows["S"].TakesBatches() })
			first.end()

			second := first.peer()
			s = w.session().welcome(false, 0)
			refused := func(err error) {
				t.Helper()
				wantCode(t, err, c.code, "")
			}
			_, err = second.tryOpen(stream.id, "S")
			refused(err)
			again := second.openUnanswered(stream.id, "S")
			if again.opened.GetRevision() != 0 {
				t.Errorf("the stream is told revision %d of a flow that is off", again.opened.GetRevision())
			}
			for range 2 { // the second time on what the coordinator knows
				again.submit(&pb.Submission{Sequence: 1, Revision: revision, Rows: rows(1)})
				p := s.part()
				if p.GetRevision() != revision {
					t.Errorf("the part runs on revision %d, want %d", p.GetRevision(), revision)
				}
				s.done(p)
				if a := again.answer(); a.GetRefused() != nil || a.GetRevision() != revision || len(a.GetNotDone()) > 0 {
					t.Errorf("what is sent again is answered %v", a)
				}
			}
			again.submit(&pb.Submission{Sequence: 2, First: true, Rows: rows(1)})
			if a := again.answer(); batch.Code(a.GetRefused().GetCode()) != c.code {
				t.Errorf("a new batch is answered %v, want %s", a, c.code)
			}
			refused(within(t, "an answer", second.call(t.Context(), "S", &pb.Submission{Sequence: 1, First: true, Revision: revision, Rows: rows(1)})).err)
			again.submit(&pb.Submission{Sequence: 3, Revision: revision - 1, Rows: rows(1)})
			if a := again.answer(); a.GetRefused().GetCode() != pb.Code_CODE_REVISION_GONE {
				t.Errorf("a batch of a revision that is not kept is answered %v", a)
			}

			if f := within(t, "the worker forgets it", s.forgets); f.GetFlow() != "S" || f.GetRevision() != revision {
				t.Errorf("the worker is told to forget %v", f)
			}
			// A late one still runs, and so does the flow when it is back.
			again.submit(&pb.Submission{Sequence: 1, Revision: revision, Rows: rows(1)})
			s.done(s.part())
			if a := again.answer(); a.GetRefused() != nil || len(a.GetNotDone()) > 0 {
				t.Errorf("a late batch is answered %v", a)
			}
			back := second.activate(flowDocument("S", "id", "echo"))
			if m := again.next().GetSwitched(); m == nil {
				again.next()
			}
			again.submit(&pb.Submission{Sequence: 4, First: true, Revision: back, Rows: rows(1)})
			s.done(s.part())
			if a := again.answer(); a.GetRefused() != nil || a.GetRevision() != back {
				t.Errorf("when the flow is back, a batch is answered %v", a)
			}
		})
	}
}

// TestForgottenAfterASessionBroke resumes a session: the worker is told to forget revisions that nobody needs, those of
// sessions before included.
func TestForgottenAfterASessionBroke(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, s := r.join("w")
	old := r.sharded()
	r.owns("S", 1)
	for range cluster.HistoryKeep / 2 {
		r.activate(flowDocument("S", "id", "echo"))
	}
	s.breaks(errBroken)
	s = w.session().welcome(true, 0)
	for range cluster.HistoryKeep {
		r.activate(flowDocument("S", "id", "echo"))
	}
	forgotten := map[int64]bool{}
	for !forgotten[old] || len(forgotten) < cluster.HistoryKeep/2 {
		f := within(t, "revisions are forgotten", s.forgets)
		forgotten[f.GetRevision()] = true
	}
}
