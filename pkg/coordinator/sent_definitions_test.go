package coordinator

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestSentDefinitions has a worker receive only the first messages of sessions that break. The coordinator misses no revision that the worker
// has. When the worker has received everything, and answered, the coordinator counts no revision that it does not have.
func TestSentDefinitions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := definedWorker{byNumber: rapid.Bool().Draw(t, "byNumber"), t: t}
		w.begin(false)
		key := func() definitionKey {
			k := definitionKey{flow: rapid.SampledFrom([]string{"A", "B"}).Draw(t, "flow"), revision: batch.Revision{Number: rapid.Int64Range(1, 2).Draw(t, "number")}}
			k.revision.Digest[0] = rapid.ByteRange(0, 1).Draw(t, "digest")
			return k
		}
		t.Repeat(map[string]func(*rapid.T){
			"define":  func(*rapid.T) { w.define(key()) },
			"forget":  func(*rapid.T) { w.forget(key()) },
			"receive": func(*rapid.T) { w.receive() },
			"answer":  func(*rapid.T) { w.answer() },
			"break": func(t *rapid.T) {
				kept := w.begin(true)
				for k := range w.has {
					if !slices.Contains(kept, k) {
						t.Fatalf("the worker has %v, and may have %v", w.has, kept)
					}
				}
				needed := rapid.SliceOfDistinct(rapid.SampledFrom(append(kept, key())), rapid.ID).Draw(t, "needed")
				for _, k := range needed {
					w.define(k)
				}
				for _, k := range kept {
					if !slices.Contains(needed, k) {
						w.forget(k)
					}
				}
			},
			"restart": func(t *rapid.T) {
				if kept := w.begin(false); len(kept) > 0 {
					t.Fatalf("a worker that begins with nothing may have %v", kept)
				}
			},
			"settle": func(t *rapid.T) {
				w.define(key())
				for w.receive() || w.answer() {
				}
				may := map[definitionKey]bool{}
				for flow, revisions := range w.sent.has {
					for name := range revisions {
						may[definitionKey{flow, name}] = true
					}
				}
				for _, m := range w.sent.unsure {
					if !m.forget {
						t.Fatalf("the worker has answered everything, but %v is unanswered", m.key)
					}
					delete(may, m.key)
				}
				if !maps.Equal(may, w.has) {
					t.Fatalf("the worker has %v, and may have %v", w.has, may)
				}
			},
		})
	})
}

// definedWorker is a worker with the connection to it, as sentDefinitions and the session's writer deal with it.
type definedWorker struct {
	t        *rapid.T
	byNumber bool
	sent     sentDefinitions
	defined  byDefinition[bool]  // what the writer of this session has sent
	wire     []definitionMessage // sent, and not received
	answers  []definitionKey     // answered, and the answer is not received
	has      map[definitionKey]bool
}

// begin breaks the session, with all that is on its way, and begins another one.
func (w *definedWorker) begin(resumed bool) []definitionKey {
	w.wire, w.answers, w.defined = nil, nil, byDefinition[bool]{}
	if !resumed {
		w.has = map[definitionKey]bool{}
	}
	return w.sent.begin(resumed, w.byNumber)
}

// define does as the session's writer does.
func (w *definedWorker) define(k definitionKey) {
	if w.defined[k.flow][k.revision] {
		return
	}
	if w.byNumber {
		w.defined.removeNumber(k)
	}
	w.defined.set(k, true)
	w.sent.define(k)
	w.wire = append(w.wire, definitionMessage{key: k})
}

// forget does as the session's writer does.
func (w *definedWorker) forget(k definitionKey) {
	if w.byNumber && w.defined.hasOtherOfNumber(k) {
		return
	}
	w.defined.remove(k)
	w.sent.forget(k)
	w.wire = append(w.wire, definitionMessage{key: k, forget: true})
}

// receive has the worker receive the next message. It returns false if there is none.
func (w *definedWorker) receive() bool {
	if len(w.wire) == 0 {
		return false
	}
	m := w.wire[0]
	w.wire = w.wire[1:]
	maps.DeleteFunc(w.has, func(k definitionKey, _ bool) bool { return k == m.key || w.byNumber && k.sameNumber(m.key) })
	if !m.forget {
		w.has[m.key] = true
		w.answers = append(w.answers, m.key)
	}
	return true
}

// answer has the coordinator receive the next answer. It returns false if there is none.
func (w *definedWorker) answer() bool {
	if len(w.answers) == 0 {
		return false
	}
	want := w.answers[0]
	w.answers = w.answers[1:]
	said := want
	if w.byNumber {
		said.revision.Digest = batch.Digest{}
	}
	if got, asked := w.sent.answered(said); !asked || got != want {
		w.t.Fatalf("the answer for %v is taken for %v, %v", want, got, asked)
	}
	return true
}

// TestForgottenAgain breaks the session in which a worker was told to forget a flow. It is told again whenever it resumes, since it may not
// have heard, until it has answered a later definition.
func TestForgottenAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, s := r.join("w")
	revision := r.sharded()
	r.owns("S", 1)
	r.delete("S")
	told := func() {
		t.Helper()
		if f := within(t, "the worker is told to forget the flow", s.forgets); f.GetFlow() != "S" || f.GetRevision() != revision {
			t.Errorf("it is told to forget %v", f)
		}
	}
	told()
	for range 2 {
		s.breaks(errBroken)
		s = w.session().welcome(true, 0)
		told()
	}
	r.activate(flowDocument("W", "", "echo"))
	r.owns("W", 1)
	s.breaks(errBroken)
	s = w.session().welcome(true, 0)
	r.open("W").submit(&pb.Submission{Sequence: 1, Rows: rows(1)})
	s.part() // it comes after all that the session began with
	quiet(t, "it is told to forget a flow of which it has heard that", s.forgets)
}

// TestForgottenWithoutAnAnswer breaks the session before the worker has answered the definition of a revision that only a batch of an
// earlier time needed. The worker is told to forget it.
func TestForgottenWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	first := newRig(t)
	w, _ := first.join("w")
	old := first.sharded()
	first.activate(flowDocument("S", "other", "echo"))
	w.silentAbout.Store(old)
	second := first.peer()
	s := w.session().welcome(false, 0)
	second.awaitActive("S", old+1)
	call := second.call(t.Context(), "S", &pb.Submission{Sequence: 1, Revision: old, Rows: rows(1)})
	p := s.part()
	s.breaks(errBroken)
	s = w.session().welcome(true, p.GetNumber())
	s.done(p)
	second.answered(call)
	if f := within(t, "the worker is told to forget the revision", s.forgets); f.GetFlow() != "S" || f.GetRevision() != old {
		t.Errorf("it is told to forget %v", f)
	}
}
