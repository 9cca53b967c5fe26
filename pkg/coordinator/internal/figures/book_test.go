package figures

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/internal/sketch"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// start is when the tests begin: at the beginning of a coarse step.
var start = time.Unix(1_800_000_000, 0)

// everything asks for all flows without a history.
var everything = Question{Sees: func(string) bool { return true }}

// oneFlow returns the flow of a name as the Book shows it.
func oneFlow(t interface {
	Helper()
	Fatalf(string, ...any)
}, b *Book, now time.Time, name string, q Question) *pb.FlowFigure {
	t.Helper()
	for _, f := range b.Read(now, q).GetFlows() {
		if f.GetFlow() == name {
			return f
		}
	}
	t.Fatalf("the Book has no flow %s", name)
	return nil
}

// told makes the totals of a function whose runs all took about a millisecond.
func told(flow, function string, count uint32, rows, runs uint64) *pb.FunctionFigures {
	return &pb.FunctionFigures{
		Flow: flow, Function: function, Count: count, Rows: rows, Runs: runs, FirstTime: uint32(sketch.Bucket(time.Millisecond)), Times: []uint64{runs},
	}
}

// model is a cluster whose counts the Books must have: coordinators with ledgers, and processes of workers with totals.
type model struct {
	now     time.Time
	books   map[string]*Book             // of the living coordinators, by id
	ledgers map[string]map[string]Counts // of all coordinators, by id and flow
	started int
	workers map[uint64]*modelWorker
	shown   map[string]map[string]Counts // totals that each Book has shown, by coordinator and flow
	ran     map[string]map[string]uint64 // rows of functions that each Book must have, by coordinator and flow
}

// modelWorker is the process of a worker.
type modelWorker struct {
	id       string
	rows     map[string]uint64 // by flow, in this count
	count    map[string]uint32
	sessions map[string]uint64            // the session with each coordinator, by its id
	heard    map[string]map[string]uint64 // totals of this count that each coordinator has had, by its id and flow
}

var flowNames = []string{"a", "b"}

func (m *model) addCoordinator() {
	m.started++
	id := fmt.Sprintf("coordinator-%d", m.started)
	m.books[id], m.ledgers[id] = New(id, m.now), map[string]Counts{}
	m.shown[id], m.ran[id] = map[string]Counts{}, map[string]uint64{}
}

func (m *model) addWorker() {
	m.started++
	m.workers[uint64(m.started)] = &modelWorker{
		id: fmt.Sprintf("worker-%d", m.started), rows: map[string]uint64{}, count: map[string]uint32{"a": 1, "b": 1},
		sessions: map[string]uint64{}, heard: map[string]map[string]uint64{},
	}
}

// tell brings a worker's totals of one flow to a coordinator.
func (m *model) tell(process uint64, coordinator, flow string) {
	w, b := m.workers[process], m.books[coordinator]
	if w.sessions[coordinator] == 0 {
		w.sessions[coordinator] = b.BeginSession()
	}
	b.Worker(m.now, w.sessions[coordinator], w.id, &pb.WorkerFigures{
		Process: process, Functions: []*pb.FunctionFigures{told(flow, "f", w.count[flow], w.rows[flow], w.rows[flow])},
	})
	if w.heard[coordinator] == nil {
		w.heard[coordinator] = map[string]uint64{}
	}
	m.ran[coordinator][flow] += w.rows[flow] - w.heard[coordinator][flow]
	w.heard[coordinator][flow] = w.rows[flow]
}

// exchange has every coordinator ask every other one.
func (m *model) exchange() {
	ids := slices.Sorted(maps.Keys(m.books))
	for id, b := range m.books {
		own := map[string]Ledger{}
		for flow, counts := range m.ledgers[id] {
			own[flow] = Ledger{Counts: counts}
		}
		b.Own(m.now, own)
	}
	for id, b := range m.books {
		b.Registered(m.now, ids)
		for from, other := range m.books {
			if from != id {
				b.Answered(m.now, from, other.Share(m.now, b.After(from)))
			}
		}
	}
}

// Whatever happens, totals never go back. Once everybody has been heard, they are the sums of all ledgers, and of all workers.
func TestTotals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			now: start, books: map[string]*Book{}, ledgers: map[string]map[string]Counts{}, workers: map[uint64]*modelWorker{},
			shown: map[string]map[string]Counts{}, ran: map[string]map[string]uint64{},
		}
		m.addCoordinator()
		m.addCoordinator()
		m.addWorker()
		anyOf := func(ids []string) string { return rapid.SampledFrom(ids).Draw(t, "coordinator") }
		living := func() []string { return slices.Sorted(maps.Keys(m.books)) }
		worker := func() uint64 { return rapid.SampledFrom(slices.Sorted(maps.Keys(m.workers))).Draw(t, "worker") }
		flow := func() string { return rapid.SampledFrom(flowNames).Draw(t, "flow") }
		check := func() {
			for id, b := range m.books {
				for _, f := range b.Read(m.now, everything).GetFlows() {
					now, was := countsOf(f.GetRows()), m.shown[id][f.GetFlow()]
					for kind, n := range now {
						if n < was[kind] {
							t.Fatalf("%s shows %v of flow %s after %v", id, now, f.GetFlow(), was)
						}
					}
					m.shown[id][f.GetFlow()] = now
					for _, fn := range f.GetFunctions() {
						if want := m.ran[id][f.GetFlow()]; fn.GetRows() != want {
							t.Fatalf("%s shows %d rows of the function in flow %s instead of %d", id, fn.GetRows(), f.GetFlow(), want)
						}
					}
				}
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			m.now = m.now.Add(rapid.SampledFrom([]time.Duration{time.Second, 7 * time.Second, time.Minute}).Draw(t, "time"))
			for _, b := range m.books {
				b.Tick(m.now)
			}
			switch rapid.SampledFrom([]string{"submit", "submit", "end", "run", "run", "tell", "tell", "break", "anew", "register again", "worker dies", "worker", "coordinator", "coordinator ends", "missed", "exchange", "exchange"}).Draw(t, "what") {
			case "submit":
				l := m.ledgers[anyOf(living())]
				name := flow()
				c := l[name]
				c[in] += uint64(rapid.IntRange(1, 100).Draw(t, "rows"))
				l[name] = c
			case "end":
				l := m.ledgers[anyOf(living())]
				name := flow()
				c := l[name]
				c[rapid.IntRange(int(batch.Done), int(batch.Failed)).Draw(t, "outcome")] += min(c.inFlight(), 10)
				l[name] = c
			case "run":
				m.workers[worker()].rows[flow()] += uint64(rapid.IntRange(1, 100).Draw(t, "rows"))
			case "tell":
				m.tell(worker(), anyOf(living()), flow())
			case "break":
				w, id := m.workers[worker()], anyOf(living())
				if s := w.sessions[id]; s != 0 {
					m.books[id].EndSession(m.now, s)
					delete(w.sessions, id)
				}
			case "anew":
				w, name := m.workers[worker()], flow()
				w.rows[name], w.count[name] = 0, w.count[name]+1
				for _, heard := range w.heard {
					delete(heard, name)
				}
			case "register again":
				w := m.workers[worker()]
				w.id += "'"
				for id, s := range w.sessions {
					m.books[id].EndSession(m.now, s)
				}
				clear(w.sessions)
			case "worker dies":
				if len(m.workers) > 1 {
					number := worker()
					for id, s := range m.workers[number].sessions {
						m.books[id].EndSession(m.now, s)
					}
					delete(m.workers, number)
				}
			case "worker":
				m.addWorker()
			case "coordinator":
				m.addCoordinator()
			case "coordinator ends":
				if len(m.books) > 1 {
					for range 2 { // the others hear of its last rows, and of rows that only it has heard of
						m.exchange()
					}
					id := anyOf(living())
					delete(m.books, id)
					for _, w := range m.workers {
						delete(w.sessions, id)
					}
				}
			case "missed":
				m.books[anyOf(living())].Missed(anyOf(living()), "it is away")
			case "exchange":
				m.exchange()
			}
			check()
		}
		for range 2 { // in the second round those hear of ended coordinators that the others did not know in the first one
			m.exchange()
		}
		check()
		want := map[string]Counts{}
		for _, l := range m.ledgers {
			for name, counts := range l {
				sum := want[name]
				sum.add(&counts)
				want[name] = sum
			}
		}
		for id := range m.books {
			for name, counts := range want {
				if got := m.shown[id][name]; got != counts {
					t.Fatalf("at the end %s shows %v of flow %s instead of %v", id, got, name, counts)
				}
			}
		}
	})
}

// A restart shows no burst: totals that come for the first time, or after a break, are in no rate.
func TestRatesAfterRestarts(t *testing.T) {
	now := start
	b := New("one", now)
	second := func(f func()) {
		now = now.Add(time.Second)
		b.Tick(now)
		f()
	}
	ids := []string{"one", "two"}
	share := func(rows uint64) {
		b.Registered(now, ids)
		b.Answered(now, "two", &pb.ShareFiguresResponse{Coordinator: "two", Mark: rows, Counts: []*pb.SharedCount{{Flow: "f", Rows: &pb.RowCounts{In: rows, Done: rows}}}})
	}
	session := b.BeginSession()
	worker := func(rows uint64) {
		b.Worker(now, session, "w", &pb.WorkerFigures{Process: 1, Functions: []*pb.FunctionFigures{told("f", "g", 1, rows, rows/10)}})
	}
	rates := func() (came, ran float64) {
		f := oneFlow(t, b, now, "f", everything)
		return f.GetPerSecond().GetIn(), f.GetFunctions()[0].GetRowsPerSecond()
	}
	second(func() { share(1_000_000); worker(1_000_000) }) // both have run for long
	if came, ran := rates(); came != 0 || ran != 0 {
		t.Fatalf("at first it shows %v and %v rows a second", came, ran)
	}
	total := uint64(1_000_000)
	for range 30 {
		second(func() { total += 100; share(total); worker(total) })
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if got < want*0.9 || got > want*1.1 {
			t.Errorf("%s: %v rows a second instead of %v", what, got, want)
		}
	}
	came, ran := rates()
	near("in", came, 100)
	near("the function", ran, 100)
	b.Missed("two", "away")
	b.EndSession(now, session)
	if missing := b.Missing(); missing["two"] != "away" {
		t.Errorf("it misses %v", missing)
	}
	now = now.Add(10 * time.Minute)
	total += 60_000
	session = b.BeginSession()
	second(func() { share(total); worker(total) })
	if came, ran = rates(); came != 0 || ran != 0 {
		t.Errorf("after the break it shows %v and %v rows a second", came, ran)
	}
	f := oneFlow(t, b, now, "f", everything)
	if f.GetRows().GetIn() != total || f.GetFunctions()[0].GetRows() != total {
		t.Errorf("in total %d and %d rows instead of %d", f.GetRows().GetIn(), f.GetFunctions()[0].GetRows(), total)
	}
	if len(b.Missing()) != 0 {
		t.Errorf("it misses %v", b.Missing())
	}
	// A ledger that begins anew, because the flow was deleted and made again, only adds.
	b.Own(now, map[string]Ledger{"f": {Counts: Counts{in: 10, batch.Done: 10}}})
	b.Own(now, map[string]Ledger{})
	b.Own(now, map[string]Ledger{"f": {Counts: Counts{in: 30}}})
	b.Own(now, map[string]Ledger{"f": {Counts: Counts{in: 2}}})
	if got := oneFlow(t, b, now, "f", everything).GetRows().GetIn(); got != total+42 {
		t.Errorf("in total %d rows instead of %d", got, total+42)
	}
}

// A process that was forgotten, and comes back, is not counted twice.
func TestForgottenProcess(t *testing.T) {
	now := start
	b := New("one", now)
	figures := func(rows uint64) {
		s := b.BeginSession()
		b.Worker(now, s, "w", &pb.WorkerFigures{Process: 7, Window: &pb.WorkerWindow{LimitRows: 9}, Functions: []*pb.FunctionFigures{told("f", "g", 1, rows, 1)}})
		if w := b.Windows()["w"]; w.GetLimitRows() != 9 {
			t.Errorf("the window is %v", w)
		}
		b.EndSession(now, s)
	}
	figures(50)
	for range 4 * 60 {
		now = now.Add(30 * time.Second)
		b.Tick(now)
	}
	figures(70)
	figures(75)
	if got := oneFlow(t, b, now, "f", everything).GetFunctions()[0].GetRows(); got != 55 {
		t.Errorf("the function has %d rows: those before it was forgotten, and those since it is back, are 55", got)
	}
	if len(b.Windows()) != 0 {
		t.Errorf("without a session there are windows: %v", b.Windows())
	}
}

// The history has the rows of each step, in both resolutions, and forgets those that are too old.
func TestHistory(t *testing.T) {
	now := start
	b := New("one", now)
	session := b.BeginSession()
	var rows uint64
	for range 2 * 3600 {
		now = now.Add(time.Second)
		rows += 2
		b.Own(now, map[string]Ledger{"f": {Counts: Counts{in: rows, batch.Done: rows - 1}, Oldest: now.Add(-3 * time.Second)}})
		b.Worker(now, session, "w", &pb.WorkerFigures{
			Process: 1, Functions: []*pb.FunctionFigures{told("f", "g", 1, rows, rows)},
			Flows: []*pb.FlowFigures{{Flow: "f", Lanes: 1, ParkedRows: 5, ParkedKeys: 2, Keys: []*pb.ParkedKey{{Key: 1, Rows: 3}, {Key: 2, Rows: 2}}}},
		})
		b.Tick(now)
	}
	for i, r := range resolutions {
		q := everything
		q.Step = r.every
		f := oneFlow(t, b, now, "f", q)
		if len(f.GetSteps()) != r.steps || len(f.GetFunctions()[0].GetSteps()) != r.steps {
			t.Fatalf("resolution %d has %d steps, and %d of the function, instead of %d", i, len(f.GetSteps()), len(f.GetFunctions()[0].GetSteps()), r.steps)
		}
		want := uint64(r.every / time.Second * 2)
		for n, s := range f.GetSteps() {
			g := f.GetFunctions()[0].GetSteps()[n]
			if s.GetRows().GetIn() != want || g.GetRows() != want || s.GetInFlight() != 1 || s.GetParkedRows() != 5 || s.GetOldestMilliseconds() != 3000 {
				t.Fatalf("resolution %d, step %d: %v, %v", i, n, s, g)
			}
			if p := g.GetP99Seconds(); p < 0.0005 || p > 0.002 {
				t.Fatalf("resolution %d, step %d: p99 is %v", i, n, p)
			}
			if at := start.Add(2*time.Hour - time.Duration(r.steps-n)*r.every).UnixMilli(); s.GetBeginsUnixMilliseconds() != at || g.GetBeginsUnixMilliseconds() != at {
				t.Fatalf("resolution %d, step %d begins at %d instead of %d", i, n, s.GetBeginsUnixMilliseconds(), at)
			}
		}
		q.Since = now.Add(-3 * r.every)
		if got := oneFlow(t, b, now, "f", q); len(got.GetSteps()) != 3 {
			t.Errorf("resolution %d: of the last three steps there are %d", i, len(got.GetSteps()))
		}
	}
	q := everything
	if f := oneFlow(t, b, now, "f", q); len(f.GetKeys()) != 0 || f.GetParkedKeys() != 2 {
		t.Errorf("without the right to see rows: %v", f)
	}
	q.Keys = func(string) bool { return true }
	if f := oneFlow(t, b, now, "f", q); len(f.GetKeys()) != 2 || f.GetKeys()[0].GetKey() != 1 {
		t.Errorf("keys: %v", f.GetKeys())
	}
	b.EndSession(now, session)
	if f := oneFlow(t, b, now, "f", q); f.GetParkedRows() != 0 {
		t.Errorf("after the session %d rows are parked", f.GetParkedRows())
	}
	for range 3 * 120 {
		now = now.Add(30 * time.Second)
		b.Tick(now)
	}
	if b.bytes != 0 {
		t.Errorf("an idle flow holds %d bytes of history", b.bytes)
	}
	if f := oneFlow(t, b, now, "f", q); f.GetRows().GetIn() != rows || f.GetFunctions()[0].GetRows() != rows {
		t.Errorf("an idle flow has %v", f)
	}
}

// fill makes a Book of a cluster with so many flows that have run for a while, with eight functions each, ten workers and three coordinators.
func fill(flows int) *Book {
	now := start
	b := New("one", now)
	names := make([]string, flows)
	for i := range names {
		names[i] = fmt.Sprintf("a flow with a name of usual length %d", i)
	}
	sessions := make([]uint64, 10)
	for w := range sessions {
		sessions[w] = b.BeginSession()
	}
	for round := range uint64(4) {
		now = now.Add(30 * time.Second)
		ledgers, m := map[string]Ledger{}, &pb.ShareFiguresResponse{}
		for _, name := range names {
			ledgers[name] = Ledger{Counts: Counts{in: round * 100}}
			m.Counts = append(m.Counts, &pb.SharedCount{Flow: name, Rows: &pb.RowCounts{In: round}})
		}
		b.Own(now, ledgers)
		b.Registered(now, []string{"one", "two", "three"})
		for _, id := range []string{"two", "three"} {
			m.Coordinator = id
			b.Answered(now, id, m)
		}
		for w, s := range sessions {
			for _, name := range names {
				figures := &pb.WorkerFigures{Process: uint64(w + 1), Flows: []*pb.FlowFigures{{Flow: name, Lanes: 4}}}
				for fn := range 8 {
					times := make([]uint64, 12)
					for i := range times {
						times[i] = round * uint64(i)
					}
					figures.Functions = append(figures.Functions, &pb.FunctionFigures{
						Flow: name, Function: fmt.Sprintf("function %d", fn), Count: 1, Rows: round * 1000, Runs: round * 66, FirstTime: 10, Times: times,
					})
				}
				b.Worker(now, s, fmt.Sprintf("worker-%d", w), figures)
			}
		}
		b.Tick(now)
	}
	return b
}

// An hour of 200 flows takes no more than 16 MiB.
func TestMemory(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	b := fill(200)
	used := int64(heap()) - int64(before)
	t.Logf("200 flows take %.1f MiB, %.1f of them history", float64(used)/(1<<20), float64(b.bytes)/(1<<20))
	if used > 16<<20 {
		t.Errorf("200 flows take %d bytes", used)
	}
	if got := b.Read(start, everything); got.GetWithoutHistory() != 0 || len(got.GetFlows()) != 200 {
		t.Errorf("%d flows, %d without history", len(got.GetFlows()), got.GetWithoutHistory())
	}
	runtime.KeepAlive(b)
}

// More flows than fit have totals and no history, and the answer says so.
func TestMemoryIsBounded(t *testing.T) {
	b := fill(400)
	got := b.Read(start.Add(2*time.Minute), everything)
	if b.bytes > maxHistory || got.GetWithoutHistory() == 0 {
		t.Errorf("%d bytes of history, and %d without", b.bytes, got.GetWithoutHistory())
	}
	for _, f := range got.GetFlows() {
		if f.GetRows().GetIn() != 306 {
			t.Fatalf("flow %s: %v", f.GetFlow(), f.GetRows())
		}
		for _, fn := range f.GetFunctions() {
			if fn.GetRows() != 10*3000 {
				t.Fatalf("flow %s: %v", f.GetFlow(), fn)
			}
		}
	}
}

// Coordinators that ended long ago are put together, and nobody brings them back.
func TestManyCoordinators(t *testing.T) {
	now := start
	b := New("one", now)
	old := &pb.ShareFiguresResponse{Coordinator: "two", Mark: 1}
	for i := range 3 * maxGone {
		now = now.Add(time.Second)
		id := fmt.Sprintf("coordinator-%d", i)
		b.Registered(now, []string{"one", "two", id})
		b.Answered(now, id, &pb.ShareFiguresResponse{Coordinator: id, Mark: 1, Counts: []*pb.SharedCount{{Flow: "f", Rows: &pb.RowCounts{In: 1}}}})
		old.Counts = append(old.Counts, &pb.SharedCount{Flow: "f", Coordinator: id, Rows: &pb.RowCounts{In: 1}})
	}
	for range 2 {
		now = now.Add(time.Second)
		b.Registered(now, []string{"one", "two"})
		b.Answered(now, "two", old)
		if got := oneFlow(t, b, now, "f", everything).GetRows().GetIn(); got != 3*maxGone {
			t.Fatalf("it shows %d rows instead of %d", got, 3*maxGone)
		}
	}
	if n := len(b.others.by); n > maxGone+1 {
		t.Errorf("it knows %d coordinators apart", n)
	}
	// A coordinator that answers at another one's address is not taken for it.
	b.Answered(now, "two", &pb.ShareFiguresResponse{Coordinator: "three", Counts: []*pb.SharedCount{{Flow: "f", Rows: &pb.RowCounts{In: 1000}}}})
	if got := oneFlow(t, b, now, "f", everything).GetRows().GetIn(); got != 3*maxGone || b.Missing()["two"] == "" {
		t.Errorf("it shows %d rows, and misses %v", got, b.Missing())
	}
}
