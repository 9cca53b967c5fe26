package coordinator

import (
	"slices"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// placed makes the batch with a sequence whose rows have these ids and positions in a log.
func placed(log batch.LogID, sequence, floor uint64, positions []uint64, ids ...int) *pb.Submission {
	c := rows(ids...)
	c.Positions = positions
	return &pb.Submission{Sequence: sequence, Floor: sequence, Rows: c, Log: &pb.LogTerm{Log: log[:], Term: 1, Floor: floor}}
}

// refusedPlaces returns the rows of an answer that failed with a code, and fails the test if there are other outcomes in it.
func refusedPlaces(t *testing.T, a *pb.Answer, code batch.Code) (places []uint32) {
	t.Helper()
	for _, o := range a.GetNotDone() {
		if batch.Code(o.GetCode()) != code || o.GetOutcome() != pb.Outcome_OUTCOME_FAILED {
			t.Errorf("row %d ended as %v", o.GetRow(), o)
		}
		places = append(places, o.GetRow())
	}
	return places
}

// TestPositions sends rows of a log: parts have the positions of their rows, and positions that break a rule are refused.
func TestPositions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.newWorker("w", "echo")
	w.positions = true
	s := w.register().session().welcome(false, 0)
	r.sharded()
	r.owns("S", 1)
	log := batch.LogIDOf("a")
	stream := r.open("S")
	stream.submit(placed(log, 1, 5, []uint64{7, 9}, 1, 2))
	p := s.part()
	if got := p.GetLog(); batch.LogID(got.GetLog()) != log || got.GetTerm() != 1 || got.GetFloor() != 5 || !slices.Equal(p.GetColumns().GetPositions(), []uint64{7, 9}) {
		t.Errorf("the part has %v in %v", p.GetColumns().GetPositions(), got)
	}
	s.done(p)
	stream.answer()
	for _, wrong := range []*pb.Submission{
		placed(log, 3, 0, []uint64{7}, 1, 2), placed(log, 3, 0, []uint64{7, 7}, 1, 2), placed(log, 3, 0, nil, 1), placed(batch.LogID{}, 3, 0, []uint64{7}, 1),
	} {
		stream.submit(wrong)
		if a := stream.answer(); batch.Code(a.GetRefused().GetCode()) != batch.CodeBadPositions {
			t.Errorf("positions %v of %d rows: %v", wrong.GetRows().GetPositions(), len(wrong.GetRows().GetEnds()), a)
		}
	}

	// Rows behind a failed row of their key are held back until that comes again, or the floor has passed it.
	fail := func(p *pb.Part, row uint32) {
		s.result(&pb.Result{Part: p.GetNumber(), Last: true, NotDone: []*pb.RowOutcome{
			{Row: row, Outcome: pb.Outcome_OUTCOME_FAILED, Code: pb.Code_CODE_CONNECTOR_UNAVAILABLE, Reason: "it is away"},
		}})
	}
	stream.submit(placed(log, 4, 5, []uint64{10, 11, 12}, 1, 2, 3))
	fail(s.part(), 1)
	if got := refusedPlaces(t, stream.answer(), batch.CodeConnectorUnavailable); !slices.Equal(got, []uint32{1}) {
		t.Errorf("rows %v failed", got)
	}
	stream.submit(placed(log, 5, 5, []uint64{13, 14, 15}, 1, 2, 3))
	p = s.part()
	if got := p.GetColumns().GetPositions(); !slices.Equal(got, []uint64{13, 15}) || !slices.Equal(p.GetRows(), []uint32{0, 2}) {
		t.Errorf("behind a failed row, the positions %v went out", got)
	}
	s.done(p)
	for held := 0; held == 0; {
		a := stream.answer()
		held += len(refusedPlaces(t, a, batch.CodeBehindFailed))
		if held == 0 && a.GetLast() {
			t.Fatal("no row was held back")
		}
		for !a.GetLast() {
			a = stream.answer()
		}
	}
	stream.submit(placed(log, 6, 5, []uint64{11, 14}, 2, 2))
	p = s.part()
	if got := p.GetColumns().GetPositions(); !slices.Equal(got, []uint64{11, 14}) {
		t.Errorf("with the failed row, the positions %v went out", got)
	}
	fail(p, 0)
	stream.answer()
	stream.submit(placed(log, 7, 12, []uint64{14}, 2))
	s.done(s.part())
	stream.answer()
}

// TestPositionsAndOldWorkers has a worker of a build that knows no positions: it gets no rows that have some.
func TestPositionsAndOldWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, s := r.join("w")
	r.sharded()
	r.owns("S", 1)
	stream := r.open("S")
	stream.submit(placed(batch.LogIDOf("a"), 1, 0, []uint64{7, 9}, 1, 2))
	if got := refusedPlaces(t, stream.answer(), batch.CodeProtocolMismatch); !slices.Equal(got, []uint32{0, 1}) {
		t.Errorf("rows %v failed", got)
	}
	stream.submit(&pb.Submission{Sequence: 2, Floor: 2, Rows: rows(1)})
	s.done(s.part())
	stream.answer()
}
