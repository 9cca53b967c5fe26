package coordinator

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// TestSplitAndMerged sends a batch to two workers, has them answer in pieces, and looks at what the client makes of it.
func TestSplitAndMerged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, a := r.join("a")
	_, b := r.join("b")
	revision := r.sharded()
	r.owns("S", 2)

	c := r.open("S")
	if o := c.opened; o.GetShardKey() != "id" || o.GetRevision() != revision || o.GetCoordinator() != r.c.ID() || o.GetLimits().GetBatchRows() != 65536 {
		t.Errorf("the stream was opened with %v", o)
	}
	c.submit(&pb.Submission{Sequence: 1, Output: true, Rows: sequence(100)})
	pa, pb1 := a.part(), b.part()
	if n := len(pa.GetRows()) + len(pb1.GetRows()); n != 100 || pa.GetBatchRows() != 100 || pa.GetNumber() != 1 || pa.GetRevision() != revision || !pa.GetOutput() {
		t.Fatalf("parts of %d rows together: %v", n, pa)
	}
	// Worker a first tells of its first two rows, one of them dead, the other with its output.
	a.result(&pb.Result{
		Part: 1, Finished: []*pb.Range{{First: 0, Count: 2}},
		NotDone: []*pb.RowOutcome{{Row: 1, Outcome: pb.Outcome_OUTCOME_DEAD, Code: pb.Code_CODE_FUNCTION_ERROR, Function: "echo", Reason: "no", Attempts: 3}},
		Output:  &pb.Output{Rows: rows(1000), Origins: []uint32{0}},
	})
	first := c.answer()
	if got := rowsOf(first.GetFinished()); !slices.Equal(got, pa.GetRows()[:2]) || first.GetLast() || first.GetRevision() != revision {
		t.Errorf("the first answer is %v", first)
	}
	if nd := first.GetNotDone(); len(nd) != 1 || nd[0].GetRow() != pa.GetRows()[1] || nd[0].GetReason() != "no" || nd[0].GetAttempts() != 3 {
		t.Errorf("not done: %v", nd)
	}
	if o := first.GetOutput(); !slices.Equal(o.GetOrigins(), pa.GetRows()[:1]) || texts(o.GetRows())[0] != `{"id":1000}` {
		t.Errorf("output: %v", o)
	}
	b.echo(pb1)
	second := c.answer()
	if second.GetLast() || !slices.Equal(second.GetOutput().GetOrigins(), pb1.GetRows()) {
		t.Errorf("the second answer is %v", second)
	}
	a.done(pa)
	if third := c.answer(); !third.GetLast() || len(third.GetNotDone()) != 0 {
		t.Errorf("the last answer is %v", third)
	}
	c.next() // the credit
	if c.credit.GetRows() != firstWindowRows+100 {
		t.Errorf("credit of %d rows, want the first window and 100", c.credit.GetRows())
	}
	r.awaitLedger("S", 100, map[batch.Outcome]uint64{batch.Done: 99, batch.Dead: 1})
}

func rowsOf(ranges []*pb.Range) []uint32 {
	var out []uint32
	for _, g := range ranges {
		for i := range g.GetCount() {
			out = append(out, g.GetFirst()+i)
		}
	}
	return out
}

// TestUnaryMerges gathers the answers of two workers into one.
func TestUnaryMerges(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, a := r.join("a")
	_, b := r.join("b")
	r.sharded()
	r.owns("S", 2)
	call := r.call(t.Context(), "S", &pb.Submission{Sequence: 1, Output: true, Rows: sequence(50)})
	pa, pb1 := a.part(), b.part()
	a.echo(pa)
	b.result(&pb.Result{Part: pb1.GetNumber(), Last: true, NotDone: []*pb.RowOutcome{{Row: 0, Outcome: pb.Outcome_OUTCOME_FILTERED, Code: pb.Code_CODE_DROPPED}}})
	answer := r.answered(call)
	if !answer.GetLast() || len(answer.GetNotDone()) != 1 || answer.GetNotDone()[0].GetRow() != pb1.GetRows()[0] {
		t.Errorf("not done: %v", answer.GetNotDone())
	}
	for i, text := range texts(answer.GetOutput().GetRows()) {
		if want := string(wire.ToColumns(sequence(50)).Data); !strings.Contains(want, text) || answer.GetOutput().GetOrigins()[i] != pa.GetRows()[i] {
			t.Errorf("output row %d is %s, from row %d", i, text, answer.GetOutput().GetOrigins()[i])
		}
	}
}

// TestBrokenAndResumed breaks a session between two parts: the worker gets no part twice that it has, and what it says
// again is ignored.
func TestBrokenAndResumed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, s := r.join("w")
	r.whole()
	r.owns("W", 1)
	c := r.open("W")
	for i := range 3 {
		c.submit(&pb.Submission{Sequence: uint64(i + 1), Rows: rows(i)})
	}
	p1, p2, p3 := s.part(), s.part(), s.part()
	s.done(p1)
	if a := c.answer(); a.GetSequence() != 1 || !a.GetLast() {
		t.Fatalf("answered %v", a)
	}
	within(t, "an acknowledgement", s.acks)
	s.breaks(errBroken)

	next := w.session()
	if !next.hello.GetResume() || next.received != 1 || next.hello.GetWorker() != w.record.ID || next.hello.GetCoordinator() != r.c.ID() {
		t.Errorf("resumed with %v, result %d", next.hello, next.received)
	}
	next.welcome(true, p2.GetNumber()) // the third part did not arrive
	within(t, "the definition again", next.definitions)
	if again := next.part(); again.GetNumber() != p3.GetNumber() || !reflect.DeepEqual(texts(again.GetColumns()), texts(p3.GetColumns())) {
		t.Errorf("sent again: %v, want part %d", again, p3.GetNumber())
	}
	// Result 1 comes again: it is skipped, though it says otherwise now.
	next.result(&pb.Result{Part: 1, Last: true, NotDone: []*pb.RowOutcome{{Row: 0, Outcome: pb.Outcome_OUTCOME_DEAD, Code: pb.Code_CODE_POISON}}})
	next.done(p2)
	next.done(p3)
	for want := uint64(2); want <= 3; want++ {
		if a := c.answer(); a.GetSequence() != want || !a.GetLast() || len(a.GetNotDone()) != 0 {
			t.Errorf("answered %v, want batch %d done", a, want)
		}
	}
	quiet(t, "a part came twice", next.parts)
	r.awaitLedger("W", 3, map[batch.Outcome]uint64{batch.Done: 3})
}

// TestForgetfulWorker answers a resumption with "not resumed": everything runs from the beginning.
func TestForgetfulWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, s := r.join("w")
	r.whole()
	r.owns("W", 1)
	call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(1, 2)})
	s.part()
	s.breaks(errBroken)
	next := w.session().welcome(false, 0)
	p := next.part()
	if p.GetNumber() != 1 || len(texts(p.GetColumns())) != 2 || p.GetDeaths() != 0 {
		t.Errorf("sent again as %v", p)
	}
	next.done(p)
	if a := r.answered(call); !a.GetLast() {
		t.Errorf("answered %v", a)
	}
	r.awaitLedger("W", 2, map[batch.Outcome]uint64{batch.Done: 2})
}

// TestDeadWorker kills a process: the refused connection proves it, its key goes at once, and its rows run elsewhere, in
// their order.
func TestDeadWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, s := r.join("dies")
	r.sharded()
	r.owns("S", 1)
	c := r.open("S")
	for i := range 3 {
		c.submit(&pb.Submission{Sequence: uint64(i + 1), Rows: rows(7)})
		s.part()
	}
	w.kill()
	until(t, "its key is removed", func() bool { return len(r.c.fleet.Workers(t.Context())) == 0 })
	_, b := r.join("lives")
	for want := uint64(1); want <= 3; want++ {
		p := b.part()
		if p.GetBatch().GetSequence() != want || p.GetDeaths() != 1 {
			t.Errorf("batch %d came with %d deaths, want batch %d with 1", p.GetBatch().GetSequence(), p.GetDeaths(), want)
		}
		b.done(p)
		if a := c.answer(); a.GetSequence() != want || !a.GetLast() {
			t.Errorf("answered %v", a)
		}
	}
}

// TestAnotherProcess finds a process at the address of a worker's session that does not know the id.
func TestAnotherProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, s := r.join("old")
	s.breaks(errBroken)
	w.session().breaks(wire.Status(batch.Errorf(batch.CodeNotFound, "worker %s is not here", w.record.ID)))
	closed(t, "the key is removed", w.registration.Lost())
}

// TestUnreachable lets nobody answer at a worker's address for a lease time: its rows run elsewhere, without a death counted,
// and its key stays, since only this coordinator can't reach it.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.newWorker("bystander", "other").register().session().welcome(false, 0) // else this coordinator would be the one that is cut off
	w, s := r.join("w")
	r.whole()
	r.owns("W", 1)
	call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(1)})
	s.part()
	// From now on it takes connections and answers no handshake.
	s.breaks(errBroken)
	silent := w.session()
	_, b := r.join("b")
	p := b.part()
	if p.GetDeaths() != 0 {
		t.Errorf("it counts as %d deaths", p.GetDeaths())
	}
	b.done(p)
	r.answered(call)
	select {
	case <-w.registration.Lost():
		t.Error("its key is gone")
	default:
	}
	// When it is back, it begins anew.
	silent.breaks(errBroken)
	for {
		back := w.session()
		if !back.hello.GetResume() {
			back.welcome(false, 0)
			break
		}
		back.breaks(errBroken)
	}
	r.owns("W", 2)
	if err := r.c.AwaitWorkers(t.Context(), 2); err != nil {
		t.Error(err)
	}
}

// TestDraining hands a draining worker's rows to another one, and gives it no more.
func TestDraining(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, a := r.join("a")
	r.sharded()
	r.owns("S", 1)
	c := r.open("S")
	c.submit(&pb.Submission{Sequence: 1, Rows: rows(1, 2, 3)})
	p := a.part()
	_, b := r.join("b")
	r.owns("S", 2)
	a.send(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Draining{Draining: &pb.Draining{}}})
	release := within(t, "the request to hand back", a.releases)
	if release.GetFlow() != "S" || len(release.GetSlots()) == 0 {
		t.Errorf("asked for %v", release)
	}
	a.result(&pb.Result{Part: p.GetNumber(), Returned: []*pb.Range{{First: 0, Count: 3}}, Last: true})
	moved := b.part()
	if moved.GetDeaths() != 0 || len(texts(moved.GetColumns())) != 3 {
		t.Errorf("it went on as %v", moved)
	}
	b.done(moved)
	if answer := c.answer(); !answer.GetLast() {
		t.Errorf("answered %v", answer)
	}
	c.submit(&pb.Submission{Sequence: 2, Rows: sequence(100)})
	b.done(b.part())
	c.answer()
	quiet(t, "a draining worker got a part", a.parts)
	r.awaitLedger("S", 103, map[batch.Outcome]uint64{batch.Done: 103})
}

// TestSuperseded registers a successor under a name whose process can't be reached: the old key goes.
func TestSuperseded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old := r.newWorker("name", "echo")
	old.record.Started = time.Now().Add(time.Hour) // clocks prove nothing
	old.register()
	old.session() // the handshake is not answered: no session proves that it lives
	_, s := r.join("name")
	closed(t, "the old key is removed", old.registration.Lost())
	r.whole()
	call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(1)})
	s.done(s.part())
	r.answered(call)
}

// TestNamesakes keeps two workers of one name that both live.
func TestNamesakes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first, _ := r.join("name")
	if err := r.c.AwaitWorkers(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	r.join("name")
	if err := r.c.AwaitWorkers(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	quiet(t, "the first one lost its key", first.registration.Lost())
}

// TestBadHandshakes tries again until the worker speaks the protocol.
func TestBadHandshakes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.newWorker("w", "echo").register()
	refusing := w.session()
	refusing.breaks(wire.Status(batch.Errorf(batch.CodeProtocolMismatch, "no common version")))
	wrong := w.session()
	wrong.send(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Welcome{Welcome: &pb.Welcome{Protocol: 9}}})
	other := w.session()
	other.credit("W", 1, 1)
	w.session().welcome(false, 0)
	if err := r.c.AwaitWorkers(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

// TestNonsense ends a session over what no worker of ours says. Its rows run again, the coordinator lives, and each row has
// one outcome.
func TestNonsense(t *testing.T) {
	t.Parallel()
	for name, say := range map[string]func(s *workerSession, p *pb.Part){
		"a gap between results": func(s *workerSession, p *pb.Part) { s.number++; s.done(p) },
		"rows beyond any batch": func(s *workerSession, p *pb.Part) {
			s.result(&pb.Result{Part: p.GetNumber(), Finished: []*pb.Range{{First: 1, Count: 1 << 31}}})
		},
		"returned beyond any": func(s *workerSession, p *pb.Part) {
			s.result(&pb.Result{Part: p.GetNumber(), Returned: []*pb.Range{{First: 1 << 31, Count: 5}}})
		},
		"an outcome of no row": func(s *workerSession, p *pb.Part) {
			s.result(&pb.Result{Part: p.GetNumber(), NotDone: []*pb.RowOutcome{{Row: 0, Outcome: 77}}})
		},
		"a row that ends twice": func(s *workerSession, p *pb.Part) {
			dead := &pb.RowOutcome{Row: 1, Outcome: pb.Outcome_OUTCOME_DEAD}
			s.result(&pb.Result{Part: p.GetNumber(), NotDone: []*pb.RowOutcome{dead, dead}, Last: true})
		},
		"origins without rows": func(s *workerSession, p *pb.Part) {
			s.result(&pb.Result{Part: p.GetNumber(), Output: &pb.Output{Origins: []uint32{0, 1}}})
		},
		"ends that fall": func(s *workerSession, p *pb.Part) {
			s.result(&pb.Result{Part: p.GetNumber(), Output: &pb.Output{Rows: &pb.Columns{Data: []byte("ab"), Ends: []uint32{2, 1}}, Origins: []uint32{0, 1}}})
		},
		"ends beyond the data": func(s *workerSession, p *pb.Part) {
			s.result(&pb.Result{Part: p.GetNumber(), Output: &pb.Output{Rows: &pb.Columns{Data: []byte("ab"), Ends: []uint32{9}}, Origins: []uint32{0}}})
		},
		"a welcome in the middle": func(s *workerSession, _ *pb.Part) { s.welcome2() },
		"a panic over the part": func(s *workerSession, _ *pb.Part) {
			s.breaks(wire.Status(batch.Errorf(batch.CodeInternal, "the worker panicked")))
		},
		"a message over the limit": func(s *workerSession, p *pb.Part) {
			s.result(&pb.Result{Part: p.GetNumber(), NotDone: []*pb.RowOutcome{{Reason: strings.Repeat("x", 30<<20)}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			w, s := r.join("w")
			r.whole()
			r.owns("W", 1)
			call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Output: true, Rows: rows(1, 2)})
			p := s.part()
			say(s, p)
			next := w.session()
			if next.hello.GetResume() {
				t.Error("the session is to be resumed: it would end the same way")
			}
			next.welcome(false, 0)
			next.echo(next.part())
			if a := r.answered(call); len(a.GetNotDone()) != 0 || len(a.GetOutput().GetOrigins()) != 2 {
				t.Errorf("answered %v", a)
			}
			r.awaitLedger("W", 2, map[batch.Outcome]uint64{batch.Done: 2})
		})
	}
}

func (s *workerSession) welcome2() {
	s.send(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Welcome{Welcome: &pb.Welcome{Protocol: wire.Protocol}}})
}

// TestHarmlessNonsense takes results that name rows which the part does not have: what is right in them counts.
func TestHarmlessNonsense(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, s := r.join("w")
	r.whole()
	r.owns("W", 1)
	call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Output: true, Rows: rows(1, 2)})
	p := s.part()
	s.result(&pb.Result{
		Part: p.GetNumber(), Finished: []*pb.Range{{First: 0, Count: 500}, {First: 0, Count: 2}}, Returned: []*pb.Range{{First: 90, Count: 5}},
		NotDone: []*pb.RowOutcome{{Row: 1, Outcome: pb.Outcome_OUTCOME_DEAD}, {Row: 40, Outcome: pb.Outcome_OUTCOME_DEAD}},
		Output:  &pb.Output{Rows: rows(8, 9), Origins: []uint32{0, 1000}}, Last: true,
	})
	s.done(p)                              // the part is over already
	s.result(&pb.Result{Part: 1234567890}) // there never was one
	a := r.answered(call)
	if len(a.GetNotDone()) != 1 || !slices.Equal(a.GetOutput().GetOrigins(), []uint32{0}) {
		t.Errorf("answered %v", a)
	}
	r.awaitLedger("W", 2, map[batch.Outcome]uint64{batch.Done: 1, batch.Dead: 1})
}

// TestPoison kills three workers with one row.
func TestPoison(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.put(flowDocument("W", "", "echo"), funcDocument("echo"))
	var call <-chan unary
	for i := range 3 {
		w, s := r.join("w")
		if i == 0 {
			r.awaitActive("W", 1)
			call = r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(1)})
		}
		if p := s.part(); p.GetDeaths() != uint32(i) {
			t.Errorf("the part says %d deaths, want %d", p.GetDeaths(), i)
		} else if i > 0 {
			s.result(&pb.Result{Part: p.GetNumber(), Began: []*pb.Range{{Count: 1}}})
			within(t, "the acknowledgement for which a worker waits", s.acks)
		}
		w.kill()
		closed(t, "the key is removed", w.registration.Lost())
	}
	a := r.answered(call)
	if nd := a.GetNotDone(); len(nd) != 1 || nd[0].GetOutcome() != pb.Outcome_OUTCOME_DEAD || nd[0].GetCode() != pb.Code_CODE_POISON {
		t.Errorf("answered %v", a)
	}
}

// TestLostWhileConnected drops a worker's key while its session is up: what it has runs elsewhere, without a death.
func TestLostWhileConnected(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, s := r.join("a")
	r.whole()
	r.owns("W", 1)
	call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(1)})
	s.part()
	if err := r.store.RemoveWorker(t.Context(), w.record.ID); err != nil {
		t.Fatal(err)
	}
	closed(t, "the session ends", s.over)
	_, b := r.join("b")
	p := b.part()
	if p.GetDeaths() != 0 {
		t.Errorf("it counts as %d deaths", p.GetDeaths())
	}
	b.done(p)
	r.answered(call)
}

// TestGoodbye lets a worker say that it ends, as one does that takes another id: whoever answers at its address next, its rows
// run elsewhere without a death.
func TestGoodbye(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, s := r.join("a")
	r.whole()
	r.owns("W", 1)
	call := r.call(t.Context(), "W", &pb.Submission{Sequence: 1, Rows: rows(1)})
	s.part()
	s.breaks(wire.Status(batch.Errorf(batch.CodeShutdown, "worker %s takes another id", w.record.ID)))
	w.session().breaks(wire.Status(batch.Errorf(batch.CodeNotFound, "worker %s is not here", w.record.ID)))
	_, b := r.join("b")
	p := b.part()
	if p.GetDeaths() != 0 {
		t.Errorf("it counts as %d deaths", p.GetDeaths())
	}
	b.done(p)
	r.answered(call)
}
