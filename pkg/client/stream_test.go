package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// A batch goes out while there is credit of both kinds, and may overdraw it.
func TestSendBlocksAtTheWindow(t *testing.T) {
	for _, test := range []struct {
		name        string
		rows, bytes uint32
		sizes       []int    // rows of two bytes of each batch sent
		out         []uint64 // that go out at first
		more        [2]uint32
		then        []uint64
	}{
		{"rows", 10, 1000, []int{4, 4, 4, 1}, []uint64{1, 2, 3}, [2]uint32{3, 0}, []uint64{4}},
		{"bytes", 1000, 10, []int{2, 2, 2, 1}, []uint64{1, 2, 3}, [2]uint32{0, 3}, []uint64{4}},
		{"used up to the last row", 8, 1000, []int{4, 4, 1}, []uint64{1, 2}, [2]uint32{1, 0}, []uint64{3}},
		{"not enough credit", 10, 1000, []int{4, 4, 4, 1}, []uint64{1, 2, 3}, [2]uint32{2, 0}, nil},
		{"overdrawn by one batch", 1, 1, []int{100, 1}, []uint64{1}, [2]uint32{100, 200}, []uint64{2}},
		{"none", 0, 0, []int{1}, nil, [2]uint32{1, 1}, []uint64{1}},
		{"none of rows", 0, 100, []int{1}, nil, [2]uint32{0, 1}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			inNetwork(t, func(t *testing.T, n *network) {
				k := n.start("a:7700")
				s, remote := k.stream(n.dial("passthrough:///a:7700"), 0, 0)
				remote.credit(test.rows, test.bytes)
				sends := make(chan error, 1)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					defer close(sends)
					for _, size := range test.sizes {
						if _, err := s.Send(ctx, numbered(size)); err != nil {
							sends <- err
							return
						}
					}
				}()
				if got := remote.sequences(); !slices.Equal(got, test.out) {
					t.Errorf("with credit %d, %d batches %v went out, want %v", test.rows, test.bytes, got, test.out)
				}
				select {
				case err := <-sends:
					t.Fatalf("the last Send returned (%v), want it to block", err)
				default:
				}
				remote.credit(test.more[0], test.more[1])
				if got := remote.sequences(); !slices.Equal(got, test.then) {
					t.Errorf("with more credit batches %v went out, want %v", got, test.then)
				}
				if test.then == nil {
					cancel()
					wantError(t, <-sends, batch.CodeCancelled, false)
				} else if err := <-sends; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestSendWithAContextThatIsOver(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		s, remote := k.stream(n.dial("passthrough:///a:7700"), 1000, 1000)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 20 {
			_, err := s.Send(ctx, numbered(1))
			wantError(t, err, batch.CodeCancelled, false)
		}
		if got := remote.sequences(); got != nil {
			t.Errorf("batches %v went out", got)
		}
	})
}

func TestAnswersComeInPiecesAndInAnyOrder(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		s, remote := k.stream(n.dial("passthrough:///a:7700"), 100, 1000)
		first, second := send(t, s, numbered(4)), send(t, s, numbered(3))
		output := func(origin uint32, rows ...string) *pb.Output {
			o := &pb.Output{Rows: &pb.Columns{}}
			for _, r := range rows {
				o.Rows.Data = append(o.Rows.Data, r...)
				o.Rows.Ends = append(o.Rows.Ends, uint32(len(o.Rows.Data)))
				o.Origins = append(o.Origins, origin)
			}
			return o
		}
		rows := func(first, count uint32) []*pb.Range { return []*pb.Range{{First: first, Count: count}} }

		remote.answer(&pb.Answer{Sequence: 2, Revision: 7, Finished: rows(2, 1), Output: output(2, `"c"`)})
		remote.answer(&pb.Answer{Sequence: 1, Revision: 6, Finished: rows(3, 1), NotDone: []*pb.RowOutcome{{Row: 3, Outcome: pb.Outcome_OUTCOME_ABORTED}}})
		remote.answer(&pb.Answer{Sequence: 2, Revision: 7, Finished: rows(0, 1), Output: output(0, `"a1"`, `"a2"`)})
		remote.answer(&pb.Answer{Sequence: 99, Revision: 7, Last: true}) // nobody's
		synctest.Wait()
		for i, p := range []*client.Pending{first, second} {
			select {
			case <-p.Done():
				t.Fatalf("batch %d is done before its last answer", i+1)
			default:
			}
		}
		remote.answer(&pb.Answer{Sequence: 2, Revision: 7, Output: output(1, `"b"`), Last: true})
		<-second.Done()
		remote.answer(&pb.Answer{Sequence: 1, Revision: 6, NotDone: []*pb.RowOutcome{{Row: 1, Outcome: pb.Outcome_OUTCOME_DEAD}}, Last: true})

		r := wait(t, second)
		if out, err := client.Output[string](r); err != nil || !slices.Equal(out, []string{`"a1"`, `"a2"`, `"b"`, `"c"`}) {
			t.Errorf("output is %v, %v", out, err)
		}
		if out, err := client.Output[any](r); err != nil || len(out) != 4 || out[3] != "c" {
			t.Errorf("decoded output is %v, %v", out, err)
		}
		if len(r.NotDone) != 0 || r.Rows != 3 || r.Revision != 7 || r.BatchID.Sequence != 2 {
			t.Errorf("result is %+v", r)
		}
		r = wait(t, first)
		want := []client.RowOutcome{{Row: 1, Outcome: client.Dead}, {Row: 3, Outcome: client.Aborted}}
		if diff := cmp.Diff(want, r.NotDone); diff != "" || r.Revision != 6 || first.Batch().Revision() != 6 {
			t.Errorf("result is %+v: %s", r, diff)
		}
	})
}

func TestStreamIsNotOpened(t *testing.T) {
	for _, test := range []struct {
		name string
		meet func(s *session)
		code batch.Code
	}{
		{"unknown flow", func(s *session) { s.ended <- wire.Status(batch.Errorf(batch.CodeUnknownFlow, "no such flow")) }, batch.CodeUnknownFlow},
		{"overloaded, always", func(s *session) { s.ended <- wire.Status(batch.Errorf(batch.CodeOverloaded, "full")) }, batch.CodeOverloaded},
		{"ended at once", func(s *session) { s.ended <- nil }, batch.CodeUnavailable},
		{"no word", func(*session) {}, batch.CodeUnavailable},
		{"another protocol", func(s *session) { s.opened(&pb.Opened{Protocol: 2}) }, batch.CodeProtocolMismatch},
		{"not Opened", func(s *session) { s.credit(1, 1) }, batch.CodeBadMessage},
	} {
		t.Run(test.name, func(t *testing.T) {
			inNetwork(t, func(t *testing.T, n *network) {
				k := n.start("a:7700")
				c := n.dial("passthrough:///a:7700", client.WithRetryFor(20*time.Second), client.WithOpenTimeout(3*time.Second))
				failed := make(chan error, 1)
				go func() {
					_, err := c.Stream(t.Context(), "F")
					failed <- err
				}()
				for {
					select {
					case s := <-k.sessions:
						if s.open.Flow != "F" || len(s.open.Stream) != 16 || s.open.Floor != 1 || s.open.ProtocolMin != 1 || s.open.ProtocolMax != 1 {
							t.Errorf("open is %v", s.open)
						}
						test.meet(s)
						continue
					case err := <-failed:
						wantError(t, err, test.code, false)
					}
					break
				}
			})
		})
	}
}

func TestStreamOpensOnceThereIsACoordinator(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		c := n.dial("passthrough:///a:7700")
		opened := make(chan error, 1)
		go func() {
			_, err := c.Stream(t.Context(), "F")
			opened <- err
		}()
		time.Sleep(20 * time.Second)
		k := n.start("a:7700")
		k.resume(1, 1)
		if err := <-opened; err != nil {
			t.Error(err)
		}
	})
}

func TestSendFillsKeysOfTheActiveRevision(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		s, remote := k.stream(n.dial("passthrough:///a:7700"), 1000, 100_000)
		hash := func(field, row string) uint64 {
			key := batch.NewKeyField(field)
			h, err := key.Hash([]byte(row))
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		const row = `{"id":101,"class":"b"}`
		columns := batch.Columns{Data: []byte("xy"), Ends: []uint32{1, 2}, Keys: []uint64{5, 6}, Encoding: "msgpack"}
		for _, test := range []struct {
			name     string
			shardKey string
			batch    *client.Batch
			keys     []uint64
			field    string
		}{
			{"no shard key", "", client.Rows(row), nil, ""},
			{"shard key", "id", client.Rows(row, row), []uint64{hash("id", row), hash("id", row)}, "id"},
			{"another one", "class", client.Rows(row), []uint64{hash("class", row)}, "class"},
			{"a row without it is the coordinator's to find", "class", client.Rows(row, `{"id":1}`), nil, ""},
			{"the producer's own", "id", client.Pack(columns), []uint64{5, 6}, ""},
			{"not JSON", "id", client.Pack(batch.Columns{Data: []byte("xy"), Ends: []uint32{2}, Encoding: "msgpack"}), nil, ""},
		} {
			remote.send(&pb.StreamResponse{Kind: &pb.StreamResponse_Switched{Switched: &pb.Switched{Revision: 8, ShardKey: test.shardKey}}})
			synctest.Wait()
			send(t, s, test.batch)
			m := remote.next()
			if !slices.Equal(m.Rows.Keys, test.keys) || m.ShardKey != test.field {
				t.Errorf("%s: keys %v of field %q, want %v of %q", test.name, m.Rows.Keys, m.ShardKey, test.keys, test.field)
			}
		}
	})
}

func TestSendOptionsTravel(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		s, remote := k.stream(n.dial("passthrough:///a:7700"), 1000, 100_000)
		send(t, s, numbered(1))
		if m := remote.next(); !m.Output || m.ReportOnly || m.DeadlineMilliseconds != 0 || m.AgeMilliseconds != 0 {
			t.Errorf("submission is %v", m)
		}
		send(t, s, numbered(1), client.NoOutput(), client.ReportOnly(), client.Timeout(2*time.Second))
		if m := remote.next(); m.Output || !m.ReportOnly || m.DeadlineMilliseconds != 2000 {
			t.Errorf("submission is %v", m)
		}
	})
}

func TestSendChecksTheCoordinatorsLimits(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")
		opened := make(chan *client.Stream, 1)
		go func() {
			s, err := c.Stream(t.Context(), "F")
			if err != nil {
				t.Error(err)
			}
			opened <- s
		}()
		remote := <-k.sessions
		remote.opened(&pb.Opened{Limits: &pb.Limits{BatchRows: 3, BatchBytes: 5}})
		s := <-opened
		for _, test := range []struct {
			name  string
			batch *client.Batch
			code  batch.Code
		}{
			{"rows", numbered(4), batch.CodeTooManyRows},
			{"bytes", numbered(3), batch.CodeBatchTooLarge},
			{"empty", client.Rows[int](), batch.CodeEmptyBatch},
			{"columns", client.Pack(batch.Columns{Data: []byte("ab"), Ends: []uint32{2, 1}}), batch.CodeBadColumns},
			{"encoding", client.Rows(make(chan int)), batch.CodeRowUnencodable},
		} {
			_, err := s.Send(t.Context(), test.batch)
			if batch.CodeOf(err) != test.code {
				t.Errorf("%s: error is %v, want code %s", test.name, err, test.code)
			}
		}
	})
}

func TestRefusedBatchDoesNotEndTheStream(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		s, remote := k.stream(n.dial("passthrough:///a:7700"), 1000, 100_000)
		first, second := send(t, s, numbered(1)), send(t, s, numbered(1))
		remote.answer(&pb.Answer{Sequence: 1, Refused: &pb.Error{Code: pb.Code_CODE_NO_CAPABLE_WORKER, Message: "no worker has G", RetryAfterMilliseconds: 900}, Last: true})
		remote.done(2)
		_, err := first.Wait(t.Context())
		wantError(t, err, batch.CodeNoCapableWorker, false)
		var e *client.Error
		if errors.As(err, &e); e.RetryAfter != 900*time.Millisecond {
			t.Errorf("error says to retry after %s, want 900 ms", e.RetryAfter)
		}
		wait(t, second)

		again := send(t, s, first.Batch())
		remote.next()
		remote.next()
		if m := remote.next(); m.Sequence != 1 || m.Floor != 1 {
			t.Errorf("the refused batch came again as %v", m)
		}
		remote.answer(&pb.Answer{Sequence: 1, NotDone: []*pb.RowOutcome{failedRow}, Last: true})
		wait(t, again)
		if err := s.Close(); err != nil {
			t.Errorf("close after all is answered: %v", err)
		}
	})
}

func TestAnswerWithoutSenseLeavesItsBatchOpen(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		s, remote := k.stream(n.dial("passthrough:///a:7700"), 1000, 100_000)
		first, second := send(t, s, numbered(2)), send(t, s, numbered(2))
		remote.answer(&pb.Answer{Sequence: 1, NotDone: []*pb.RowOutcome{{Row: 2, Outcome: pb.Outcome_OUTCOME_DEAD}}})
		remote.done(1)
		remote.done(2)
		_, err := first.Wait(t.Context())
		wantError(t, err, batch.CodeBadMessage, true)
		wait(t, second)
	})
}

func TestManyGoroutinesSend(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		const senders, each = 8, 50
		k := n.start("a:7700")
		s, remote := k.stream(n.dial("passthrough:///a:7700"), 10, 100)
		served := make(chan []uint64)
		go func() {
			var order []uint64
			for m := range remote.in {
				order = append(order, m.Sequence)
				rows := uint32(len(m.Rows.Ends))
				remote.credit(rows, 2*rows) // before the last answer, with which the stream may end
				remote.send(&pb.StreamResponse{Kind: &pb.StreamResponse_Answer{Answer: &pb.Answer{Sequence: m.Sequence, Last: true}}})
			}
			served <- order
		}()
		var wg sync.WaitGroup
		for range senders {
			wg.Go(func() {
				for range each {
					p, err := s.Send(t.Context(), numbered(3))
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := p.Wait(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		remote.ended <- nil // the coordinator ends what the client has ended
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		order := <-served
		if len(order) != senders*each || !slices.IsSorted(order) || order[len(order)-1] != senders*each {
			t.Errorf("%d batches came, in the order %v, want 1..%d", len(order), order, senders*each)
		}
	})
}

func TestFlushAndCloseWaitForAnswers(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		s, remote := k.stream(n.dial("passthrough:///a:7700"), 1, 1000)
		first := send(t, s, numbered(1))
		waiting := make(chan error, 1)
		go func() { // has no credit
			_, err := s.Send(t.Context(), numbered(1))
			waiting <- err
		}()
		synctest.Wait()

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) || batch.CodeOf(err) != batch.CodeDeadline {
			t.Errorf("flush with an unanswered batch: %v, want the deadline", err)
		}
		if _, err := first.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, client.ErrUnanswered) {
			t.Errorf("wait: %v, want the deadline", err)
		}
		flushed := make(chan error, 1)
		go func() { flushed <- s.Flush(t.Context()) }()
		closed := make(chan error, 2)
		for range 2 {
			go func() { closed <- s.Close() }()
		}
		wantError(t, <-waiting, batch.CodeCancelled, false)
		_, err := s.Send(t.Context(), numbered(1))
		wantError(t, err, batch.CodeCancelled, false)
		synctest.Wait()
		if len(flushed)+len(closed) != 0 {
			t.Error("Flush or Close returned before the answer")
		}
		remote.next()
		remote.done(1)
		if err := <-flushed; err != nil {
			t.Error(err)
		}
		if _, ok := <-remote.in; ok {
			t.Error("a batch came after Close")
		}
		remote.ended <- nil
		for range 2 {
			if err := <-closed; err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("close again: %v", err)
		}
		wait(t, first)
		if err := s.Flush(t.Context()); err != nil {
			t.Errorf("flush after close: %v", err)
		}
	})
}

func TestCloseDoesNotWaitForeverForTheCoordinatorsEnd(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		s, _ := k.stream(n.dial("passthrough:///a:7700"), 1, 1)
		began := time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %s, want a second of grace", took)
		}
	})
}

func TestStreamEndsWithItsContext(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(c *client.Client, cancel func())
	}{
		{"context", func(_ *client.Client, cancel func()) { cancel() }},
		{"client", func(c *client.Client, _ func()) { _ = c.Close() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			inNetwork(t, func(t *testing.T, n *network) {
				k := n.start("a:7700")
				c := n.dial("passthrough:///a:7700")
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				opened := make(chan *client.Stream, 1)
				go func() {
					s, err := c.Stream(ctx, "F")
					if err != nil {
						t.Error(err)
					}
					opened <- s
				}()
				remote := k.resume(1, 1000)
				s := <-opened
				p := send(t, s, numbered(1))
				waiting := make(chan error, 1)
				go func() {
					_, err := s.Send(t.Context(), numbered(1))
					waiting <- err
				}()
				remote.next()
				synctest.Wait()
				test.end(c, cancel)
				if test.name == "client" {
					select {
					case <-p.Done():
					default:
						t.Error("Close did not wait for the stream")
					}
				}
				_, err := p.Wait(t.Context())
				wantError(t, err, batch.CodeCancelled, true)
				wantError(t, <-waiting, batch.CodeCancelled, false)
				err = s.Close()
				wantError(t, err, batch.CodeCancelled, true)
				if !strings.Contains(err.Error(), fmt.Sprint(p.Batch().ID())) {
					t.Errorf("error %q does not name the batch", err)
				}
			})
		})
	}
}

func TestEndedStreamsAreForgotten(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")
		for range 3 {
			s, remote := k.stream(c, 100, 1000)
			if streams, producers := c.Held(); streams != 1 || producers != 1 {
				t.Errorf("the client holds %d streams and %d producers, want the one", streams, producers)
			}
			p := send(t, s, numbered(1))
			remote.next()
			remote.done(1)
			wait(t, p)
			remote.ended <- nil
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if streams, _ := c.Held(); streams != 0 {
			t.Errorf("the client holds %d streams, want none", streams)
		}
	})
}

func TestBatchOfAnotherStream(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700")
		s, remote := k.stream(c, 100, 1000)
		b := numbered(1)
		exchange(t, c, k, b, failedRow)
		_, err := s.Send(t.Context(), b)
		wantError(t, err, batch.CodeBadBatchID, true)

		// The other way round is how batches of a stream that has ended are answered.
		p := send(t, s, numbered(1))
		remote.next()
		_, err = s.Send(t.Context(), p.Batch())
		wantError(t, err, batch.CodeBadBatchID, true) // under way
		remote.answer(&pb.Answer{Sequence: 1, Revision: 5, NotDone: []*pb.RowOutcome{failedRow}, Last: true})
		if r := wait(t, p); r.Counts()[client.Failed] != 1 {
			t.Errorf("result is %+v, want one failed row", r)
		}
		remote.ended <- nil
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		m := exchange(t, c, k, p.Batch())
		if m.Sequence != 1 || m.Floor != 1 || m.Revision != 5 {
			t.Errorf("the stream's batch came as %v", m)
		}
	})
}
