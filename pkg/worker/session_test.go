package worker

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func TestPartIsRunAndAnswered(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		if w := b.hello("c-1", false); w.GetProtocol() != 1 || w.GetWorker() != workerID || w.GetResumed() || w.GetPartsReceived() != 0 {
			t.Errorf("Welcome %v", w)
		}
		b.define("sharded")
		b.sendPart(batchOf(1, "sharded", "a", "bad", "b", "drop", "c"))
		got := b.result()
		if !got.GetLast() || got.GetPart() != 1 || len(got.GetFinished()) != 0 || len(got.GetReturned()) != 0 {
			t.Errorf("result %v", got)
		}
		if out := texts(got); !slices.Equal(slices.Sorted(slices.Values(out)), []string{"a", "b", "c"}) {
			t.Errorf("output %q", out)
		}
		want := map[uint32]batch.Outcome{1: batch.Dead, 3: batch.Filtered}
		for _, o := range got.GetNotDone() {
			if want[o.GetRow()] != batch.Outcome(o.GetOutcome()) {
				t.Errorf("row %d is %v", o.GetRow(), o.GetOutcome())
			}
			delete(want, o.GetRow())
		}
		if len(want) > 0 {
			t.Errorf("no word of rows %v", want)
		}
		if held := r.metric("kisgrid_worker_parts_held"); held != 1 {
			t.Errorf("%v parts held before the result is acknowledged", held)
		}
		b.ack()
		synctest.Wait()
		for _, name := range []string{"parts_held", "rows_held", "bytes_held", "results_kept"} {
			if v := r.metric("kisgrid_worker_" + name); v != 0 {
				t.Errorf("%s is %v when all is acknowledged", name, v)
			}
		}
	})
}

func TestHandshakeRefusals(t *testing.T) {
	edit := func(f func(*pb.Hello)) *pb.CoordinatorMessage {
		m := hello("c-1", workerID, false)
		f(m.GetHello())
		return m
	}
	for _, c := range []struct {
		name  string
		first *pb.CoordinatorMessage
		code  batch.Code
		says  string
	}{
		{"no hello", &pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Ack{Ack: &pb.Ack{}}}, batch.CodeBadMessage, "does not begin with Hello"},
		{"an older protocol", edit(func(h *pb.Hello) { h.ProtocolMin, h.ProtocolMax = 0, 0 }), batch.CodeProtocolMismatch, "versions 0 to 0"},
		{"a newer protocol", edit(func(h *pb.Hello) { h.ProtocolMin, h.ProtocolMax = 2, 9 }), batch.CodeProtocolMismatch, "versions 2 to 9"},
		{"no coordinator", edit(func(h *pb.Hello) { h.Coordinator = "" }), batch.CodeBadMessage, "no coordinator's id"},
		{"another worker", edit(func(h *pb.Hello) { h.Worker = "w-0" }), batch.CodeNotFound, "worker w-0 is not at this address; worker w-1 is"},
		{"larger batches", edit(func(h *pb.Hello) { h.BatchBytes = 9 << 20 }), batch.CodeProtocolMismatch, "same --max-batch-bytes"},
		{"more rows", edit(func(h *pb.Hello) { h.BatchRows = 65537 }), batch.CodeProtocolMismatch, "this worker only of 8388608 bytes and 65536 rows"},
		{"nothing", nil, batch.CodeDeadline, "took longer than 10s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, wideBudget, func(t *testing.T, r *rig) {
				b := r.dial()
				if c.first != nil {
					b.send(c.first)
				}
				wantCode(t, b.ends(), c.code, c.says)
				if peers := r.metric("kisgrid_worker_peers"); peers != 0 {
					t.Errorf("%v coordinators are kept", peers)
				}
			})
		})
	}
}

func TestMessagesThatEndTheSession(t *testing.T) {
	words := func(edit func(*pb.Part)) *pb.CoordinatorMessage {
		p := batchOf(3, "sharded", "a", "b", "c")
		edit(p)
		return &pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Part{Part: p}}
	}
	defines := func(d *pb.Definition) *pb.CoordinatorMessage {
		return &pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Definition{Definition: d}}
	}
	for _, c := range []struct {
		name    string
		message *pb.CoordinatorMessage
		says    string
	}{
		{"hello again", hello("c-1", workerID, true), "Hello came a second time"},
		{"a kind of another build", &pb.CoordinatorMessage{}, "a kind that protocol version 1 does not have"},
		{"a flow never defined", words(func(p *pb.Part) { p.Flow = "other" }), "part 3 needs revision 5 of flow other"},
		{"a revision never defined", words(func(p *pb.Part) { p.Revision = 6 }), "part 3 needs revision 6"},
		{"a flow that does not compile", words(func(p *pb.Part) { p.Flow = "broken" }), "no revision of the flow compiles"},
		{"no number", words(func(p *pb.Part) { p.Number = 0 }), "no number"},
		{"no rows", words(func(p *pb.Part) { p.Columns = nil }), "has no rows"},
		{"ends that fall", words(func(p *pb.Part) { p.Columns.Ends[0] = p.Columns.Ends[1] + 1 }), "before its start"},
		{"ends beyond the data", words(func(p *pb.Part) { p.Columns.Data = p.Columns.Data[1:] }), "bytes of data"},
		{"too few keys", words(func(p *pb.Part) { p.Columns.Keys = p.Columns.Keys[1:] }), "2 keys for 3 rows"},
		{"no keys", words(func(p *pb.Part) { p.Columns.Keys = nil }), "shard key id"},
		{"too many bytes", words(func(p *pb.Part) {
			p.Columns = &pb.Columns{Data: make([]byte, 8<<20+1), Ends: []uint32{8<<20 + 1}, Keys: []uint64{1}}
		}), "over the limit of 8388608 bytes"},
		{"a stream id too short", words(func(p *pb.Part) { p.Batch.Stream = []byte("short") }), "a stream id has 16 bytes"},
		{"no sequence", words(func(p *pb.Part) { p.Batch.Sequence = 0 }), "sequence 0"},
		{"a whole batch of another size", words(func(p *pb.Part) { p.BatchRows = 4 }), "3 rows and is the whole batch, but the batch has 4 rows"},
		{"too few places", words(func(p *pb.Part) { p.Rows = []uint32{1, 2} }), "places in the batch for 2 rows"},
		{"a place beyond the batch", words(func(p *pb.Part) { p.Rows = []uint32{0, 1, 3} }), "row 3 of a batch with 3 rows"},
		{"places that do not ascend", words(func(p *pb.Part) { p.Rows = []uint32{1, 0, 2} }), "do not ascend"},
		{"slots that are not there", &pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Release{Release: &pb.Release{
			Flow: "sharded", Slots: []*pb.Range{{First: 65535, Count: 2}}}}}, "beyond the limit of 65536"},
		{"a definition without a flow", defines(&pb.Definition{Revision: 1}), `flow ""`},
		{"a definition without a revision", defines(&pb.Definition{Flow: "x"}), "revision 0"},
		{"documents too large", defines(&pb.Definition{Flow: "x", Revision: 1, Documents: []*pb.Document{{Kind: "flow", Name: "x", Yaml: make([]byte, 1<<20+1)}}}),
			"the limit is 1048576 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, wideBudget, func(t *testing.T, r *rig) {
				b := r.dial()
				b.hello("c-1", false)
				b.define("sharded")
				if errs := b.defineAs("broken", 5, documents("broken", "", "nobody", 1)); len(errs) == 0 {
					t.Fatal("a function that nobody has compiles")
				}
				b.send(c.message)
				wantCode(t, b.ends(), batch.CodeBadMessage, c.says)
				if ran := r.began(); len(ran) > 0 {
					t.Errorf("%q ran", ran)
				}
			})
		})
	}
}

func TestAcknowledgingWhatWasNeverSentEndsTheSession(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.received = 7
		b.ack()
		wantCode(t, b.ends(), batch.CodeBadMessage, "acknowledges result 7")
	})
}

func TestPanicEndsItsSessionOnly(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		other := r.dial()
		other.hello("c-2", false)
		other.define("whole")
		b := r.dial()
		b.hello("c-1", false)
		r.server.mu.Lock()
		p := r.server.peers["c-1"]
		r.server.mu.Unlock()
		p.mu.Lock()
		p.plans = nil // writing to it panics, with the lock held
		p.mu.Unlock()
		b.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Definition{Definition: &pb.Definition{
			Flow: "whole", Revision: 5, Documents: documents("whole", "", "echo", 2)}}})
		wantCode(t, b.ends(), batch.CodeInternal, "panicked")
		other.sendPart(batchOf(1, "whole", "a"))
		if got := other.result(); !got.GetLast() {
			t.Errorf("result %v", got)
		}
	})
}

func TestPlansAreSharedAndForgotten(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		a, b := r.dial(), r.dial()
		a.hello("c-1", false)
		b.hello("c-2", false)
		a.define("whole")
		b.define("whole")
		if n := r.metric("kisgrid_worker_definitions_total"); n != 1 {
			t.Errorf("compiled %v times for two coordinators", n)
		}
		if n := r.metric("kisgrid_worker_redefinitions_total"); n != 1 {
			t.Errorf("%v redefinitions", n)
		}
		// The same revision with other documents, as after etcd was restored, is another plan.
		a.defineAs("whole", 5, documents("whole", "", "repeat", 2))
		a.sendPart(batchOf(1, "whole", "a", "b", "c"))
		b.sendPart(batchOf(1, "whole", "a", "b", "c"))
		if got := texts(a.result()); !slices.Equal(got, []string{"b", "c", "c"}) {
			t.Errorf("the new documents give %q", got)
		}
		if got := texts(b.result()); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("the old documents give %q", got)
		}
		forget := &pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Forget{Forget: &pb.Forget{Flow: "whole", Revision: 5}}}
		a.send(forget)
		a.send(forget)
		b.send(forget)
		synctest.Wait()
		if n := r.metric("kisgrid_worker_plans"); n != 0 {
			t.Errorf("%v plans are kept when nobody needs one", n)
		}
		if flows := r.server.flows.all(); len(flows) != 0 {
			t.Errorf("lanes of %d flows run for nobody", len(flows))
		}
		a.define("whole")
		a.sendPart(batchOf(2, "whole", "d"))
		if got := texts(a.result()); !slices.Equal(got, []string{"d"}) {
			t.Errorf("after a new definition: %q", got)
		}
		b.sendPart(batchOf(2, "whole", "e"))
		wantCode(t, b.ends(), batch.CodeBadMessage, "part 2 needs revision 5 of flow whole")
	})
}

func TestRejectedDefinitionSaysEverything(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		docs := documents("f", "", "nobody", 1)
		docs[0].Yaml = append(docs[0].Yaml, "  - fname: nothing\n"...)
		docs = append(docs, &pb.Document{Kind: "func", Name: "nothing", Yaml: []byte("kistype: func\nfname: nothing\nfmode: Verify\nsource:\n  name: x\n")})
		errs := b.defineAs("f", 1, docs)
		if len(errs) != 2 {
			t.Fatalf("mistakes %q", errs)
		}
		if errs := b.defineAs("g", 1, docs); len(errs) != 1 {
			t.Errorf("documents of another flow: %q", errs)
		}
		if errs := b.defineAs("f", 2, docs[1:]); len(errs) == 0 {
			t.Error("documents without a flow compile")
		}
		r.server.flows.compile = nil // a defect
		if errs := b.defineAs("f", 3, docs); len(errs) != 1 {
			t.Errorf("a panic while compiling: %q", errs)
		}
		b.ack() // and the session lives
		synctest.Wait()
		if n := r.metric("kisgrid_worker_sessions"); n != 1 {
			t.Errorf("%v sessions", n)
		}
	})
}

func TestLanesFollowTheNewestRevision(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("whole")
		r.hold("wait")
		b.sendPart(batchOf(1, "whole", "wait"))
		if errs := b.defineAs("whole", 6, documents("whole", "", "echo", 3)); len(errs) > 0 {
			t.Fatal(errs)
		}
		flow := r.server.flows.all()[0]
		b.sendPart(batchOf(2, "whole", "a"))
		b.result()
		synctest.Wait()
		if n := flow.lanes.Copies(); n != 3 {
			t.Errorf("%d lanes while a row runs, the newest revision has 3", n)
		}
		r.open("wait")
		b.result()
		b.sendPart(batchOf(3, "whole", "b"))
		b.result()
		synctest.Wait()
		if n := flow.lanes.Copies(); n != 3 {
			t.Errorf("%d lanes, the newest revision has 3", n)
		}
	})
}

// A row that takes long does not hold back what is known of the others.
func TestPartialResults(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("sharded")
		r.hold("slow")
		began := time.Now()
		b.sendPart(batchOf(1, "sharded", "a", "slow", "bad", "b", "c"))
		first := b.result()
		if waited := time.Since(began); waited != partialDelay {
			t.Errorf("a partial result after %v, want %v", waited, partialDelay)
		}
		if first.GetLast() || !slices.Equal(texts(first), []string{"a", "c"}) {
			t.Errorf("first result %v", first)
		}
		if got := rowsOf(first.GetFinished()); !slices.Equal(got, []uint32{0, 2, 4}) {
			t.Errorf("rows %v have ended", got)
		}
		if nd := first.GetNotDone(); len(nd) != 1 || nd[0].GetRow() != 2 {
			t.Errorf("not done: %v", nd)
		}
		b.ack()
		synctest.Wait()
		if held := r.server.budget.sums().held.rows; held != 2 {
			t.Errorf("credit for %d rows is held, want that of the slow row and the one behind it", held)
		}
		time.Sleep(time.Second)
		r.open("slow")
		second := b.result()
		if !second.GetLast() || len(second.GetNotDone()) != 0 || !slices.Equal(slices.Sorted(slices.Values(texts(second))), []string{"b", "slow"}) {
			t.Errorf("second result %v", second)
		}
	})
}

// Dead rows reach the coordinator in the order in which the rows of a key ended, although one part has ended and an earlier one has not.
func TestDeadRowsStayInOrder(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("sharded")
		r.hold("slow")
		for number, words := range [][]string{{"bad first", "slow"}, {"bad second"}, {"fine"}, {"bad third"}} {
			p := batchOf(uint64(number+1), "sharded", words...)
			p.KeepDead = true
			b.sendPart(p)
		}
		var dead []string
		parts := map[uint64]bool{} // that have ended
		for len(parts) < 3 {
			res := b.result()
			for _, d := range res.GetDead() {
				dead = append(dead, string(d.GetData()))
			}
			if res.GetLast() {
				parts[res.GetPart()] = true
			}
		}
		if want := []string{`{"id":0,"text":"bad first"}`, `{"id":0,"text":"bad second"}`, `{"id":0,"text":"bad third"}`}; !slices.Equal(dead, want) {
			t.Errorf("dead rows came as %q, want %q", dead, want)
		}
		r.open("slow")
		if res := b.result(); !res.GetLast() || res.GetPart() != 1 {
			t.Errorf("the last result is %v", res)
		}
	})
}

func rowsOf(ranges []*pb.Range) (rows []uint32) {
	for _, r := range ranges {
		for i := range r.GetCount() {
			rows = append(rows, r.GetFirst()+i)
		}
	}
	return rows
}

func TestDeadlineReachesTheRow(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("whole")
		r.hold("slow")
		p := batchOf(1, "whole", "slow")
		p.DeadlineMilliseconds = 300
		b.sendPart(p)
		began := time.Now()
		nd := b.result().GetNotDone()
		if len(nd) != 1 || batch.Outcome(nd[0].GetOutcome()) != batch.Failed || batch.Code(nd[0].GetCode()) != batch.CodeDeadline {
			t.Errorf("not done: %v", nd)
		}
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("after %v, of 300 ms", waited)
		}
	})
}

func TestReleaseReturnsRowsOfSlots(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		a, b := r.dial(), r.dial()
		for i, k := range []*boss{a, b} {
			k.hello([]string{"c-1", "c-2"}[i], false)
			k.define("sharded")
		}
		r.hold("slow0", "slow1")
		a.sendPart(batchOf(1, "sharded", "slow0", "slow1")) // both lanes are busy
		synctest.Wait()
		a.sendPart(batchOf(2, "sharded", "a0", "a1", "a2", "a3"))
		b.sendPart(batchOf(1, "sharded", "b0", "b1", "b2", "b3"))
		synctest.Wait()
		a.send(&pb.CoordinatorMessage{Kind: &pb.CoordinatorMessage_Release{Release: &pb.Release{Flow: "sharded", Slots: []*pb.Range{
			{First: 0, Count: 1}, {First: uint32(slotOf(3)), Count: 1}}}}})
		got := a.result()
		if rows := rowsOf(got.GetReturned()); got.GetPart() != 2 || got.GetLast() || !slices.Equal(rows, []uint32{0, 3}) || len(got.GetFinished()) != 0 {
			t.Errorf("result %v", got)
		}
		r.openAll()
		if got := a.result(); got.GetPart() != 1 || !got.GetLast() {
			t.Errorf("result %v", got)
		}
		if got := a.result(); got.GetPart() != 2 || !got.GetLast() || !slices.Equal(slices.Sorted(slices.Values(texts(got))), []string{"a1", "a2"}) {
			t.Errorf("result %v", got)
		}
		if got := b.result(); !got.GetLast() || len(got.GetReturned()) != 0 || len(texts(got)) != 4 {
			t.Errorf("rows of another coordinator: %v", got)
		}
		if n := r.metric("kisgrid_worker_rows_returned_total"); n != 2 {
			t.Errorf("%v rows returned", n)
		}
	})
}

func TestWorkerThatTakesAnotherID(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		b.define("whole")
		r.hold("slow")
		b.sendPart(batchOf(1, "whole", "slow"))
		b.sendPart(batchOf(2, "whole", "a"))
		b.sendPart(batchOf(3, "whole", "b"))
		synctest.Wait()
		r.server.reset(batch.Errorf(batch.CodeUnavailable, "gone from etcd"))
		wantCode(t, b.ends(), batch.CodeUnavailable, "gone from etcd")
		if held := r.server.budget.sums().held; !held.none() {
			t.Errorf("%v are held for a worker that is no more", held)
		}
		early := r.dial()
		early.send(hello("c-1", workerID, true))
		wantCode(t, early.ends(), batch.CodeUnavailable, "about to register again")

		r.server.setID("w-2")
		late := r.dial()
		late.send(hello("c-1", workerID, true))
		wantCode(t, late.ends(), batch.CodeNotFound, "w-2 is")

		again := r.dial()
		again.send(hello("c-1", "w-2", true))
		if w := again.must().GetWelcome(); w.GetResumed() || w.GetWorker() != "w-2" {
			t.Errorf("Welcome %v", w)
		}
	})
}

func TestNothingIsServedAfterTheEnd(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b := r.dial()
		b.hello("c-1", false)
		r.server.close()
		r.server.close()
		wantCode(t, b.ends(), batch.CodeShutdown, "shutting down")
		late := r.dial()
		late.send(hello("c-1", workerID, true))
		wantCode(t, late.ends(), batch.CodeShutdown, "shutting down")
		if err := r.server.drain(context.Background()); err != nil {
			t.Errorf("drain after the end: %v", err)
		}
	})
}
