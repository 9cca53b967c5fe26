package coordinator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// same are n rows of one key.
func same(n int) *pb.Columns { return rows(slices.Repeat([]int{101}, n)...) }

// explained is where the rows of key 101 are.
func (r *rig) explained(most uint32) *pb.ExplainResponse {
	r.t.Helper()
	e, err := pb.NewAdminClient(r.conn).Explain(r.t.Context(), &pb.ExplainRequest{Flow: "S", Key: "101", Rows: true, Most: most})
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// countsOf are the counts by place, and checks that they are the worker's.
func countsOf(e *pb.ExplainResponse) map[string]uint64 {
	counts := map[string]uint64{}
	for _, c := range e.GetCounts() {
		where := c.GetWhere()
		if c.GetOthers() {
			where += " of others"
		}
		counts[where] += c.GetRows()
	}
	return counts
}

func placesOf(e *pb.ExplainResponse) string {
	var all []string
	for _, r := range e.GetRows() {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%d/%d %s %s", r.GetBatch().GetSequence(), r.GetRow(), r.GetWhere(), r.GetGivenUp())))
	}
	return strings.Join(all, ", ")
}

// TestExplainRows tells of each row of a key where it is: rows that were set aside for a hot key, and rows that a worker has although
// their client gave them up. A worker of an older build does not say more.
func TestExplainRows(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.newWorker("w", "echo")
	w.grant = &pb.Credit{Rows: 8, Bytes: 1 << 20} // of which one key may have 8
	s := w.register().session().welcome(false, 0)
	r.sharded()
	r.owns("S", 1)
	if e := r.explained(5); !e.GetLooked() || len(e.GetRows())+len(e.GetCounts()) > 0 || len(e.GetUnknown()) != 1 || !strings.Contains(e.GetUnknown()[0], "older build") {
		t.Errorf("without rows it is explained %v", e)
	}
	stream := batch.NewStreamID()
	ctx, giveUp := context.WithCancel(t.Context())
	abandoned := r.callOn(ctx, stream, "S", &pb.Submission{Sequence: 1, Rows: same(2)})
	first := s.part()
	giveUp()
	within(t, "the call has ended", abandoned)
	until(t, "the coordinator knows that the rows were given up", func() bool { return r.explained(0).GetGivenUp() == 2 })
	call := r.callOn(t.Context(), stream, "S", &pb.Submission{Sequence: 2, Rows: same(20)})
	second := s.part()

	e := r.explained(8)
	if got, want := placesOf(e), "1/0 at_worker cancelled, 1/1 at_worker cancelled, 2/0 at_worker, 2/1 at_worker, 2/2 at_worker, 2/3 at_worker, 2/4 at_worker, 2/5 at_worker"; got != want {
		t.Errorf("the rows are at\n%s\nnot\n%s", got, want)
	}
	if e.GetGivenUp() != 2 || e.GetSent() != 6 || e.GetQueued() != 14 {
		t.Errorf("it is explained %v", e)
	}
	if counts := countsOf(e); counts["at_worker"] != 8 || counts["set_aside"] != 14 || len(counts) != 2 {
		t.Errorf("it counts %v", counts)
	}
	if e := r.explained(9); e.GetRows()[8].GetWhere() != "set_aside" || e.GetRows()[8].GetRow() != 6 || e.GetRows()[8].GetWorker() != w.record.ID {
		t.Errorf("the ninth row is %v", e.GetRows()[8])
	}
	// Who asks without rows, as builds of before do, is answered without.
	if e, err := pb.NewAdminClient(r.conn).Explain(t.Context(), &pb.ExplainRequest{Flow: "S", Key: "101"}); err != nil || e.GetLooked() || len(e.GetRows())+len(e.GetCounts()) > 0 || e.GetSent() != 6 || e.GetQueued() != 14 {
		t.Errorf("it is explained %v, %v", e, err)
	}
	s.done(first)
	s.done(second)
	for left := 14; left > 0; {
		s.credit("S", 8, 1<<20)
		p := s.part()
		left -= len(p.GetColumns().GetEnds())
		s.done(p)
	}
	r.answered(call)
	if e := r.explained(5); len(e.GetRows())+len(e.GetCounts()) > 0 || e.GetGivenUp() > 0 {
		t.Errorf("at the end it is explained %v", e)
	}
}

// TestExplainAsksWorkers puts together what a worker says with what the coordinator knows: what was answered meanwhile is no more, what
// the worker does not have is on its way, and rows of other coordinators are told of, too.
func TestExplainAsksWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.newWorker("w", "echo")
	var says atomic.Pointer[pb.Located]
	w.locate = func(l *pb.Locate) *pb.Located {
		answer := says.Load()
		if answer == nil || l.GetFlow() != "S" || l.GetMost() != 10 {
			return nil
		}
		return &pb.Located{Number: l.GetNumber(), Rows: answer.GetRows(), Counts: answer.GetCounts()}
	}
	s := w.register().session().welcome(false, 0)
	r.sharded()
	r.owns("S", 1)
	stream, others := batch.NewStreamID(), wire.FromID(batch.ID{Stream: batch.NewStreamID(), Sequence: 9})
	first := r.callOn(t.Context(), stream, "S", &pb.Submission{Sequence: 1, Rows: same(1)})
	p := s.part()
	second := r.callOn(t.Context(), stream, "S", &pb.Submission{Sequence: 2, Rows: same(2)})
	q := s.part()
	says.Store(&pb.Located{
		Rows: []*pb.RowPlace{
			{Where: "parked", Worker: w.record.ID, Coordinator: "another", Batch: others, Wait: "key", Connector: "C", Key: "k"},
			{Where: "parked", Worker: w.record.ID, Part: p.GetNumber(), Batch: p.GetBatch(), Wait: "order"},
			{Where: "lane", Worker: w.record.ID, Part: q.GetNumber(), Batch: q.GetBatch()},
			{Where: "lane", Worker: w.record.ID, Part: q.GetNumber() + 1, Batch: q.GetBatch()},
		},
		Counts: []*pb.PlaceCount{{Where: "parked", Rows: 1, Others: true}, {Where: "parked", Rows: 1}, {Where: "lane", Rows: 1}},
	})
	e := r.explained(10)
	if got, want := placesOf(e), "9/0 parked, 1/0 parked, 2/0 lane, 2/1 travelling"; got != want || len(e.GetUnknown()) > 0 {
		t.Errorf("the rows are at\n%s\nnot\n%s; not known: %q", got, want, e.GetUnknown())
	}
	if r := e.GetRows()[0]; r.GetCoordinator() != "another" || r.GetKey() != "k" || r.GetWait() != "key" {
		t.Errorf("the row of another coordinator is %v", r)
	}
	if counts := countsOf(e); counts["parked"] != 1 || counts["lane"] != 1 || counts["parked of others"] != 1 || counts["travelling"] != 1 || len(counts) != 4 {
		t.Errorf("it counts %v", counts)
	}
	s.done(p)
	r.answered(first)
	if got, want := placesOf(r.explained(10)), "9/0 parked, 2/0 lane, 2/1 travelling"; got != want {
		t.Errorf("after an answer the rows are at\n%s\nnot\n%s", got, want)
	}
	// One that says nothing holds nobody up.
	says.Store(nil)
	e = r.explained(10)
	if got, want := placesOf(e), "2/0 at_worker, 2/1 at_worker"; got != want || len(e.GetUnknown()) != 1 || !strings.Contains(e.GetUnknown()[0], "did not say") {
		t.Errorf("the rows are at\n%s\nnot\n%s; not known: %q", got, want, e.GetUnknown())
	}
	s.done(q)
	r.answered(second)
}
