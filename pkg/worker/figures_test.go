package worker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/kisgrid/kisgrid/internal/sketch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// figuresFor reads messages for a while and returns the figures among them.
func (b *boss) figuresFor(d time.Duration) (all []*pb.WorkerFigures) {
	b.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		m, err := b.recv()
		if err != nil {
			b.t.Fatal(err)
		}
		if r := m.GetResult(); r != nil {
			b.received = r.GetNumber()
		}
		b.count(m)
		if f := m.GetHeartbeat().GetFigures(); f != nil {
			all = append(all, f)
		}
	}
	return all
}

// greetFigures says Hello as a coordinator that takes figures, or as one that does not.
func (b *boss) greetFigures(coordinator string, takes bool) {
	b.t.Helper()
	m := hello(coordinator, workerID, false)
	m.GetHello().TakesFigures = takes
	b.send(m)
	if b.must().GetWelcome() == nil {
		b.t.Fatal("the first message is no Welcome")
	}
}

// A session tells totals that have changed, and a new session all of them. A coordinator of an earlier build gets none.
func TestTellsFigures(t *testing.T) {
	inBubble(t, wideBudget, func(t *testing.T, r *rig) {
		b, old := r.dial(), r.dial()
		b.greetFigures("c-1", true)
		old.greetFigures("c-0", false)
		b.define("sharded")
		first := b.figuresFor(3 * time.Second)
		if len(first) == 0 || first[0].GetProcess() == 0 || first[0].GetWindow().GetLimitRows() != uint64(wideBudget.rows) {
			t.Fatalf("at first it tells %v", first)
		}
		b.sendPart(batchOf(1, "sharded", "good", "bad", "drop"))
		synctest.Wait()
		told := b.figuresFor(3 * time.Second)
		var f *pb.FunctionFigures
		for _, m := range told {
			if m.GetProcess() != first[0].GetProcess() {
				t.Errorf("the process is %d, and was %d", m.GetProcess(), first[0].GetProcess())
			}
			for _, one := range m.GetFunctions() {
				f = one
			}
		}
		var runs uint64
		for _, n := range f.GetTimes() {
			runs += n
		}
		if f.GetFlow() != "sharded" || f.GetFunction() != "echo" || f.GetRows() != 3 || f.GetErrors() != 1 || f.GetRuns() == 0 || f.GetRuns() != runs || f.GetFirstTime() >= sketch.Buckets {
			t.Errorf("of three rows it tells %v", told)
		}
		if more := b.figuresFor(5 * time.Second); len(more) != 0 {
			t.Errorf("although nothing has changed it tells %v", more)
		}
		b.hangUp()
		synctest.Wait()
		again := r.dial()
		again.greetFigures("c-2", true)
		all := again.figuresFor(time.Second)
		if len(all) != 1 || len(all[0].GetFunctions()) != 1 || all[0].GetFunctions()[0].GetRows() != 3 || len(all[0].GetFlows()) != 1 || all[0].GetWindow() == nil {
			t.Errorf("a new session is told %v", all)
		}
		if got := old.figuresFor(time.Second); len(got) != 0 {
			t.Errorf("a coordinator that takes no figures is told %v", got)
		}
	})
}

// One message is bounded: the others follow, and nothing is told twice.
func TestManyFigures(t *testing.T) {
	f := newFigures(nil, nil, nil)
	const functions = 2*figuresAtOnce + 10
	for i := range functions {
		f.functions[functionInFlow{"f", string(rune('a'+i%26)) + string(rune('a'+i/26))}] = &pb.FunctionFigures{Rows: 1}
	}
	f.states["f"], f.window = &pb.FlowFigures{Flow: "f", Lanes: 1}, &pb.WorkerWindow{LimitRows: 1}
	f.version.Add(1)
	told := toldFigures{wanted: true}
	var messages, rows int
	for m := f.changesSince(&told); m != nil; m = f.changesSince(&told) {
		if messages++; len(m.GetFunctions()) > figuresAtOnce {
			t.Fatalf("a message has %d functions", len(m.GetFunctions()))
		}
		rows += len(m.GetFunctions())
	}
	if messages != 3 || rows != functions {
		t.Errorf("%d messages tell of %d functions", messages, rows)
	}
	delete(f.states, "f")
	f.version.Add(1)
	if m := f.changesSince(&told); len(m.GetFlows()) != 1 || m.GetFlows()[0].GetLanes() != 0 || len(m.GetFunctions()) != 0 {
		t.Errorf("of a flow that ended it tells %v", m)
	}
	if m := f.changesSince(&told); m != nil {
		t.Errorf("it tells %v again", m)
	}
}
