package coordinator

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// joinTaking registers a worker that takes so much in one part.
func (r *rig) joinTaking(name string, rows, bytes uint32) *workerSession {
	r.t.Helper()
	s := r.newWorker(name, "echo").register().session()
	if !s.hello.GetFollowsLimits() {
		r.t.Error("Hello does not say that the worker's limits are kept")
	}
	s.send(&pb.WorkerMessage{Kind: &pb.WorkerMessage_Welcome{Welcome: &pb.Welcome{
		Protocol: wire.Protocol, Worker: s.worker.record.ID, BatchRows: rows, BatchBytes: bytes,
	}}})
	go s.read()
	return s
}

// sized are rows of so many bytes.
func sized(bytes ...int) *pb.Columns {
	c := &pb.Columns{}
	for i, n := range bytes {
		head := fmt.Sprintf(`{"id":%d,"t":"`, i)
		c.Data = append(c.Data, head+strings.Repeat("x", n-len(head)-2)+`"}`...)
		c.Ends = append(c.Ends, uint32(len(c.Data)))
	}
	return c
}

// TestWorkerTakesLess sends batches to a worker whose limits are lower than the coordinator's: no part is over them, a row that
// is, ends for itself, and the session, its credit too, goes on.
func TestWorkerTakesLess(t *testing.T) {
	t.Parallel()
	const most, mostRows = 4 << 10, 8
	r := newRig(t)
	s := r.joinTaking("w", mostRows, most)
	s.worker.grant = &pb.Credit{Rows: 300, Bytes: 64 << 10}
	r.sharded()
	r.owns("S", 1)
	c := r.open("S")
	sizes := make([]int, 40)
	for i := range sizes {
		sizes[i] = 1000 // three to a part
	}
	sizes[7], sizes[20], sizes[39] = most, most+1, 16<<10
	for sequence := uint64(1); sequence <= 8; sequence++ { // more than the credit, if that of rows that are not sent were lost
		c.submit(&pb.Submission{Sequence: sequence, Rows: sized(sizes...)})
		for sent := 0; sent < len(sizes)-2; {
			p := s.part()
			n := len(p.GetColumns().GetEnds())
			if n > mostRows || len(p.GetColumns().GetData()) > most {
				t.Fatalf("a part has %d rows and %d bytes", n, len(p.GetColumns().GetData()))
			}
			sent += n
			s.done(p)
			s.credit("S", uint32(n), uint32(len(p.GetColumns().GetData())))
		}
		ended := map[uint32]pb.Code{}
		for last := false; !last; {
			a := c.answer()
			for _, o := range a.GetNotDone() {
				ended[o.GetRow()] = o.GetCode()
			}
			last = a.GetLast()
		}
		if len(ended) != 2 || ended[20] != pb.Code_CODE_ROW_TOO_LARGE || ended[39] != pb.Code_CODE_ROW_TOO_LARGE {
			t.Fatalf("batch %d: not done are %v", sequence, ended)
		}
	}
	r.awaitLedger("S", 8*40, map[batch.Outcome]uint64{batch.Done: 8 * 38, batch.Dead: 16})
	quiet(t, "another session", s.worker.sessions)
}

// TestWholeBatchFindsWhoTakesIt: a batch that must not be divided goes to a worker that takes it; where there is none, it fails, and
// says why.
func TestWholeBatchFindsWhoTakesIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	low := r.joinTaking("low", 100, 4<<10)
	r.whole()
	r.owns("W", 1)
	large := func() *pb.Submission { return &pb.Submission{Sequence: 1, Rows: sized(3000, 3000)} }
	fails := func(in *pb.Submission, code pb.Code, rows int) {
		t.Helper()
		a := r.answered(r.call(t.Context(), "W", in))
		if len(a.GetNotDone()) != rows || a.GetNotDone()[0].GetCode() != code || a.GetNotDone()[0].GetReason() == "" {
			t.Errorf("nobody takes it, and it is answered %v", a)
		}
	}
	fails(large(), pb.Code_CODE_BATCH_TOO_LARGE, 2)
	fails(&pb.Submission{Sequence: 1, Rows: sequence(101)}, pb.Code_CODE_TOO_MANY_ROWS, 101)
	fails(&pb.Submission{Sequence: 1, Rows: sized(5000)}, pb.Code_CODE_ROW_TOO_LARGE, 1)
	_, high := r.join("high") // of a build that does not say
	r.owns("W", 2)
	for range 3 {
		call := r.call(t.Context(), "W", large())
		high.done(high.part())
		if a := r.answered(call); len(a.GetNotDone()) > 0 {
			t.Errorf("answered %v", a)
		}
	}
	quiet(t, "a part for the worker that does not take it", low.parts)
}

// TestClientTakesLess answers clients that take less than the coordinator sends, or don't say what they take.
func TestClientTakesLess(t *testing.T) {
	t.Parallel()
	const raised = 32 << 20
	r := newRig(t, func(c *Config) {
		c.Limits.BatchBytes, c.Transport.BatchBytes = raised, raised
	})
	_, s := r.join("w")
	r.sharded()
	r.owns("S", 1)
	defaults := (&transport.Config{}).MessageBytes()
	for _, says := range []uint32{0, 2 << 20, 1, 16 << 20, 100 << 20} {
		t.Run(fmt.Sprint(says), func(t *testing.T) {
			takes := max(2<<20, int(says))
			if says == 0 {
				takes = defaults
			}
			check := func(m *pb.Answer, bytes int) (output int) {
				t.Helper()
				if bytes > takes {
					t.Errorf("a message of %d bytes to a client that takes %d", bytes, takes)
				}
				for _, o := range m.GetNotDone() {
					if o.GetCode() != pb.Code_CODE_ROW_TOO_LARGE || o.GetRow() != 2 {
						t.Errorf("row %d ended %s", o.GetRow(), o.GetCode())
					}
				}
				return len(m.GetOutput().GetRows().GetData())
			}
			// Of three rows one comes to what is too much for this client, as a worker of an earlier build passes it on.
			answer := func() {
				p := s.part()
				if limit := int(p.GetOutputRowBytes()); limit > takes || (limit == 0) != (takes >= raised+raised/4) {
					t.Errorf("the worker is told %d", limit)
				}
				long := min(takes, raised)
				data := make([]byte, 1000+long)
				s.result(&pb.Result{Part: p.GetNumber(), Last: true, Output: &pb.Output{
					Rows: &pb.Columns{Data: data, Ends: []uint32{500, 1000, uint32(len(data))}}, Origins: []uint32{0, 1, 2},
				}})
			}
			id := batch.NewStreamID()
			c, err := r.tryOpenWith(&pb.Open{Flow: "S", Stream: id[:], TakesBytes: says})
			if err != nil {
				t.Fatal(err)
			}
			c.submit(&pb.Submission{Sequence: 1, Rows: rows(0, 1, 2), Output: true})
			answer()
			output := 0
			for last := false; !last; {
				a := c.answer()
				last = a.GetLast()
				output += check(a, len(a.GetOutput().GetRows().GetData()))
			}
			if fits := takes > raised+raised/4; fits != (output == 1000+raised) || !fits && output != 1000 {
				t.Errorf("%d bytes of output came", output)
			}
			c.cancel()
		})
	}
}

// TestLetterOverLimits redrives letters over a limit that was lowered, the coordinator's or the worker's: they stay as they were, the
// reason is told, and those beside them are redriven.
func TestLetterOverLimits(t *testing.T) {
	t.Parallel()
	const ours, theirs = 8 << 10, 4 << 10
	server := miniredis.RunT(t)
	store, err := deadletter.Open(deadletter.Config{URL: "redis://" + server.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	r := newRig(t, func(c *Config) {
		c.DeadLetters, c.Limits = store, batch.Limits{RowBytes: ours, BatchBytes: ours}
	})
	s := r.joinTaking("w", 1000, theirs)
	revision := r.sharded()
	r.owns("S", 1)
	var letters []*deadletter.Letter
	for i, bytes := range []int{100, theirs, theirs + 1, ours + 1, 200} {
		letters = append(letters, &deadletter.Letter{
			ID: batch.NewStreamID(), Sequence: 1, Flow: "S", Revision: revision, Function: "echo", Code: batch.CodeFunctionError, Reason: "it was bad",
			Row: sized(bytes).GetData(), Origin: batch.RowID{Batch: batch.ID{Stream: batch.NewStreamID(), Sequence: 1}}, ShardKey: "id", Key: uint64(i),
		})
	}
	if _, err := store.Keep(t.Context(), "S", letters); err != nil {
		t.Fatal(err)
	}
	redrive, err := pb.NewAdminClient(r.conn).RedriveDead(t.Context(), &pb.RedriveDeadRequest{Filter: &pb.DeadFilter{Flow: "S"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.done(s.part())
	}
	var told *pb.DeadProgress
	for {
		m, err := redrive.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		told = m
	}
	if told.GetDone() != 3 || told.GetLeft() != 2 || told.GetDead() != 0 || len(told.GetReasons()) != 2 {
		t.Errorf("told %v", told)
	}
	for _, reason := range told.GetReasons() {
		if reason.GetCode() != pb.Code_CODE_ROW_TOO_LARGE || !strings.Contains(reason.GetReason(), "--max-batch-bytes") {
			t.Errorf("a letter stays because of %v", reason)
		}
	}
	left, _, err := store.Page(t.Context(), "S", "", "+", 10)
	if err != nil || len(left) != 2 {
		t.Fatalf("%d letters are left, %v", len(left), err)
	}
	for i, l := range left {
		if l.ID != letters[i+2].ID || l.Code != batch.CodeFunctionError || l.Reason != "it was bad" || l.Redrives != 0 || len(l.Row) != len(letters[i+2].Row) {
			t.Errorf("letter %d is left as %+v", i, l)
		}
	}
	quiet(t, "another session", s.worker.sessions)
}
