package client_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func TestStreamSendsAgainWhatIsUnanswered(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		s, remote := k.stream(n.dial("passthrough:///a:7700"), 100, 1000)
		var pendings []*client.Pending
		for range 5 {
			pendings = append(pendings, send(t, s, numbered(1)))
		}
		first := []*pb.Submission{remote.next(), remote.next(), remote.next(), remote.next(), remote.next()}
		remote.done(3)
		remote.done(1)
		// Outcomes of half a batch from an earlier session do not count: in the next session the batch is answered from the beginning.
		remote.answer(&pb.Answer{Sequence: 2, Revision: 7, NotDone: []*pb.RowOutcome{deadRow}, Finished: []*pb.Range{{First: 0, Count: 1}}})
		wait(t, pendings[0])
		wait(t, pendings[2])
		synctest.Wait()
		time.Sleep(time.Second)
		remote.ended <- status.Error(codes.Unavailable, "going away")

		// New batches wait behind the ones that are sent again.
		fresh := make(chan *client.Pending, 1)
		go func() {
			p, err := s.Send(t.Context(), numbered(1))
			if err != nil {
				t.Error(err)
			}
			fresh <- p
		}()
		again := <-k.sessions
		if !bytes.Equal(again.open.Stream, remote.open.Stream) || again.open.Floor != 2 || again.open.Flow != "F" {
			t.Errorf("the stream was opened again as %v, want stream %x with floor 2", again.open, remote.open.Stream)
		}
		again.opened(&pb.Opened{})
		if got := again.sequences(); got != nil {
			t.Errorf("%v went out without credit", got)
		}
		again.done(4) // which this session has not seen: it can't mean anything
		again.credit(2, 1000)
		for _, want := range []struct {
			sequence uint64
			revision int64
		}{{2, 7}, {4, 0}} {
			m := again.next()
			if m.Sequence != want.sequence || m.Floor != 2 || m.Revision != want.revision || !bytes.Equal(m.Rows.Data, first[want.sequence-1].Rows.Data) {
				t.Errorf("sent again: %v, want sequence %d with floor 2 on revision %d", m, want.sequence, want.revision)
			}
			if m.AgeMilliseconds < 1000 || m.AgeMilliseconds > 1100 {
				t.Errorf("batch %d is %d ms old, want a second and the time to reconnect", m.Sequence, m.AgeMilliseconds)
			}
		}
		if got := again.sequences(); got != nil {
			t.Errorf("%v went out beyond the credit", got)
		}
		again.credit(100, 1000)
		if got := again.sequences(); !slices.Equal(got, []uint64{5, 6}) {
			t.Errorf("then %v went out, want 5, which is old, and 6, which is new", got)
		}
		for _, sequence := range []uint64{6, 5, 4, 2} {
			again.done(sequence)
		}
		for _, p := range append(pendings, <-fresh) {
			if r := wait(t, p); len(r.NotDone) != 0 {
				t.Errorf("batch %s: %+v, want all done", r.BatchID, r.NotDone)
			}
		}
		again.ended <- nil
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestStreamGoesOnAtAnotherCoordinator(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		a, b := n.start("a:7700"), n.start("b:7701")
		c := n.dial("a, b:7701")
		opened := make(chan *client.Stream, 1)
		go func() {
			s, err := c.Stream(t.Context(), "F")
			if err != nil {
				t.Error(err)
			}
			opened <- s
		}()
		here, there := a, b
		var remote *session
		select {
		case remote = <-a.sessions:
		case remote = <-b.sessions:
			here, there = b, a
		}
		remote.opened(&pb.Opened{})
		remote.credit(100, 1000)
		s := <-opened
		p := send(t, s, numbered(2))
		remote.next()
		died := time.Now()
		here.kill()
		again := there.resume(100, 1000)
		if took := time.Since(died); took > time.Second {
			t.Errorf("it took %s to find the other coordinator, want far less than a second", took)
		}
		if m := again.next(); m.Sequence != 1 {
			t.Errorf("sent again: %v", m)
		}
		again.done(1)
		wait(t, p)
	})
}

func TestBatchesEndUnansweredWhenNobodyComesBack(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700", client.WithRetryFor(30*time.Second))
		s, remote := k.stream(c, 2, 1000)
		out, unsent := send(t, s, numbered(2)), numbered(1)
		remote.next()
		waiting := make(chan error, 1)
		go func() {
			_, err := s.Send(t.Context(), numbered(1))
			waiting <- err
		}()
		synctest.Wait()
		lost := time.Now()
		k.kill()
		_, err := out.Wait(t.Context())
		wantError(t, err, batch.CodeUnavailable, true)
		if took := time.Since(lost); took < 25*time.Second || took > 30*time.Second {
			t.Errorf("gave up after %s, want about 30 s", took)
		}
		wantError(t, <-waiting, batch.CodeUnavailable, false)
		_, err = s.Send(t.Context(), unsent)
		wantError(t, err, batch.CodeUnavailable, false)
		if !unsent.ID().IsZero() {
			t.Error("a batch that was not sent got an id")
		}
		_, err = s.Send(t.Context(), out.Batch())
		wantError(t, err, batch.CodeUnavailable, true) // not sent this time, but before

		// The stream itself goes on as soon as it can.
		time.Sleep(time.Hour / 2)
		k = n.start("a:7700")
		again := k.resume(100, 1000)
		if again.open.Floor != 1 {
			t.Errorf("opened again with floor %d, want 1: that batch is open", again.open.Floor)
		}
		synctest.Wait()
		next, repeated := send(t, s, unsent), send(t, s, out.Batch())
		if m := again.next(); m.Sequence != 2 || m.Floor != 1 {
			t.Errorf("the new batch came as %v", m)
		}
		if m := again.next(); m.Sequence != 1 || m.AgeMilliseconds < 30*60*1000 {
			t.Errorf("the unanswered batch came as %v", m)
		}
		again.done(1)
		again.done(2)
		wait(t, next)
		wait(t, repeated)
		again.ended <- nil
		if err := s.Close(); err != nil {
			t.Errorf("close, with all answered in the end: %v", err)
		}
	})
}

func TestRefusedWhenSentAgainIsInDoubt(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		s, remote := k.stream(n.dial("passthrough:///a:7700"), 100, 1000)
		p := send(t, s, numbered(1))
		remote.next()
		remote.ended <- status.Error(codes.Unavailable, "going away")
		again := k.resume(100, 1000)
		again.next()
		again.answer(&pb.Answer{Sequence: 1, Refused: &pb.Error{Code: pb.Code_CODE_REVISION_GONE, Message: "gone"}, Last: true})
		_, err := p.Wait(t.Context())
		wantError(t, err, batch.CodeRevisionGone, true)

		// Also a refusal for good leaves open whether the batch ran before.
		p = send(t, s, p.Batch())
		again.next()
		again.answer(&pb.Answer{Sequence: 1, Refused: &pb.Error{Code: pb.Code_CODE_BATCH_TOO_LARGE, Message: "by a new limit"}, Last: true})
		_, err = p.Wait(t.Context())
		wantError(t, err, batch.CodeBatchTooLarge, true)
		p = send(t, s, p.Batch())
		again.next()
		again.done(1)
		wait(t, p)

		fresh := send(t, s, numbered(1))
		again.next()
		again.answer(&pb.Answer{Sequence: 2, Refused: &pb.Error{Code: pb.Code_CODE_FLOW_DISABLED, Message: "off"}, Last: true})
		_, err = fresh.Wait(t.Context())
		wantError(t, err, batch.CodeFlowDisabled, false)
	})
}

func TestStreamEndsWhenItCannotGoOn(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		s, remote := k.stream(n.dial("passthrough:///a:7700"), 100, 1000)
		p := send(t, s, numbered(1))
		remote.next()
		remote.ended <- status.Error(codes.Unavailable, "going away")
		again := <-k.sessions
		again.ended <- wire.Status(batch.Errorf(batch.CodeUnknownFlow, "flow F was deleted"))
		_, err := p.Wait(t.Context())
		wantError(t, err, batch.CodeUnknownFlow, true)
		_, err = s.Send(t.Context(), numbered(1))
		wantError(t, err, batch.CodeUnknownFlow, false)
		err = s.Close()
		wantError(t, err, batch.CodeUnknownFlow, true)
		if !strings.Contains(err.Error(), "1 unanswered") {
			t.Errorf("error %q does not say how many", err)
		}
	})
}

// Outages add up to one only while no session is of use. Either makes one: an answer, or time.
func TestEachOutageHasItsOwnTime(t *testing.T) {
	for _, test := range []struct {
		name     string
		answers  bool
		lasts    time.Duration
		sessions int
	}{
		{"short sessions with an answer each", true, 4 * time.Second, 20},
		{"long sessions without any", false, time.Minute, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			inNetwork(t, func(t *testing.T, n *network) {
				k := n.start("a:7700")
				s, remote := k.stream(n.dial("passthrough:///a:7700", client.WithRetryFor(30*time.Second)), 100, 1000)
				slow := send(t, s, numbered(1))
				for range test.sessions {
					if test.answers {
						quick := send(t, s, numbered(1))
						synctest.Wait()
						remote.done(quick.Batch().ID().Sequence)
						wait(t, quick)
					}
					time.Sleep(test.lasts)
					remote.ended <- status.Error(codes.Unavailable, "going away")
					remote = k.resume(100, 1000)
					synctest.Wait()
				}
				remote.done(1)
				wait(t, slow)
			})
		})
	}
}

// A coordinator that takes the stream and dies of it every time must not keep batches waiting for ever.
func TestSessionsThatAnswerNothingAreAnOutage(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		c := n.dial("passthrough:///a:7700", client.WithRetryFor(10*time.Second))
		s, remote := k.stream(c, 100, 1000)
		p := send(t, s, numbered(1))
		began := time.Now()
		for ended := false; !ended; {
			remote.next()
			remote.ended <- status.Error(codes.Unavailable, "it died of the batch")
			select {
			case <-p.Done():
				ended = true
			case remote = <-k.sessions:
				remote.opened(&pb.Opened{})
				remote.credit(100, 1000)
			}
		}
		_, err := p.Wait(t.Context())
		wantError(t, err, batch.CodeUnavailable, true)
		if took := time.Since(began); took > 12*time.Second {
			t.Errorf("gave up after %s, want about 10 s", took)
		}
	})
}

func TestCloseDuringAnOutage(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		s, _ := k.stream(n.dial("passthrough:///a:7700"), 100, 1000)
		k.kill()
		time.Sleep(10 * time.Second)
		began := time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("closing a stream without batches took %s", took)
		}
	})
}

// gRPC refuses to pack a message over its limit, wherever that was set: that is the batch's end, not the stream's.
func TestBatchThatCannotBePacked(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		k := n.start("a:7700")
		limit := client.WithDialOptions(grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(300)))
		s, _ := k.stream(n.dial("passthrough:///a:7700", limit), 1000, 10_000)
		before, large := send(t, s, numbered(1)), send(t, s, numbered(200))
		_, err := large.Wait(t.Context())
		wantError(t, err, batch.CodeBatchTooLarge, false)
		again := k.resume(1000, 10_000)
		after := send(t, s, numbered(1))
		if got := again.sequences(); !slices.Equal(got, []uint64{1, 3}) {
			t.Errorf("then %v went out, want 1 and 3", got)
		}
		again.done(1)
		again.done(3)
		wait(t, before)
		wait(t, after)
	})
}
