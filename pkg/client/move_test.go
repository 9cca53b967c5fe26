package client_test

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kisgrid/kisgrid/pkg/client"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

func (s *session) move(coordinators uint32) {
	s.t.Helper()
	s.send(&pb.StreamResponse{Kind: &pb.StreamResponse_Move{Move: &pb.Move{Coordinators: coordinators}}})
}

// refuse does not take a stream that moves.
func (k *coordinator) refuse(s *session) {
	s.ended <- status.Error(codes.Unavailable, "this coordinator has its share")
}

// pair starts two coordinators and a stream, which is at the first that is returned.
func (n *network) pair(opts ...client.Option) (s *client.Stream, here, there *coordinator, remote *session) {
	n.t.Helper()
	a, b := n.start("a:7700"), n.start("b:7700")
	c := n.dial("a,b", opts...)
	opened := make(chan *client.Stream, 1)
	go func() {
		s, err := c.Stream(n.t.Context(), "F")
		if err != nil {
			n.t.Error(err)
		}
		opened <- s
	}()
	select {
	case remote = <-a.sessions:
		here, there = a, b
	case remote = <-b.sessions:
		here, there = b, a
	}
	remote.opened(&pb.Opened{Coordinator: here.address, Revision: 7})
	remote.credit(100, 1000)
	s = <-opened
	synctest.Wait() // both are connected
	return s, here, there, remote
}

// asked answers Opens of a stream that moves until the coordinator is asked that is to take it.
func asked(t *testing.T, here, there *coordinator) *session {
	t.Helper()
	for {
		select {
		case s := <-here.sessions:
			if !s.open.Moving {
				t.Fatal("the stream left before it had a place")
			}
			here.refuse(s)
		case s := <-there.sessions:
			if !s.open.Moving {
				t.Fatal("the stream does not say that it moves")
			}
			return s
		}
	}
}

func TestStreamMoves(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		s, here, there, remote := n.pair()
		first, second := send(t, s, numbered(1)), send(t, s, numbered(1))
		remote.next()
		remote.next()
		remote.move(2)
		next := asked(t, here, there)
		if !bytes.Equal(next.open.Stream, remote.open.Stream) {
			t.Errorf("stream %x moves as %x", remote.open.Stream, next.open.Stream)
		}
		// Until it has its new place it works on.
		third := send(t, s, numbered(1))
		if got := remote.sequences(); !slices.Equal(got, []uint64{3}) {
			t.Errorf("%v came while the stream looked for a place, want 3", got)
		}
		next.opened(&pb.Opened{Coordinator: there.address, Revision: 7})
		next.credit(100, 1000)
		synctest.Wait()

		// Then nothing goes out before all is answered, at neither end; and nothing is sent twice.
		fourth := send(t, s, numbered(1))
		if got := remote.sequences(); got != nil {
			t.Errorf("%v went to the coordinator that the stream leaves", got)
		}
		if got := next.sequences(); got != nil {
			t.Errorf("%v went to the next one while others are unanswered", got)
		}
		for _, sequence := range []uint64{2, 1, 3} {
			remote.done(sequence)
		}
		if _, open := <-remote.in; open {
			t.Error("the stream was not ended")
		}
		remote.ended <- nil
		if m := next.next(); m.Sequence != 4 || !m.First {
			t.Errorf("the next coordinator got %v, want batch 4 for the first time", m)
		}
		next.done(4)
		for _, p := range []*client.Pending{first, second, third, fourth} {
			wait(t, p)
		}
		next.ended <- nil
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestStreamMovesWithWhatIsNotAnswered(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		s, here, there, remote := n.pair()
		slow, quick := send(t, s, numbered(1)), send(t, s, numbered(1))
		remote.next()
		remote.next()
		remote.move(2)
		next := asked(t, here, there)
		next.opened(&pb.Opened{Coordinator: there.address, Revision: 7})
		next.credit(100, 1000)
		began := time.Now()
		later := send(t, s, numbered(1))
		remote.done(2)
		m := next.next()
		if took := time.Since(began); took < 4*time.Second || took > 6*time.Second {
			t.Errorf("it moved after %s, want 5 s", took)
		}
		if m.Sequence != 1 || m.First {
			t.Errorf("the next coordinator got %v, want batch 1 again", m)
		}
		if m := next.next(); m.Sequence != 3 {
			t.Errorf("then it got %v, want batch 3", m)
		}
		next.done(3)
		next.done(1)
		for _, p := range []*client.Pending{slow, quick, later} {
			wait(t, p)
		}
	})
}

func TestStreamStaysWhereNobodyTakesIt(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		s, here, there, remote := n.pair()
		p := send(t, s, numbered(1))
		remote.next()
		remote.move(2)
		for range 4 { // two rounds
			select {
			case c := <-here.sessions:
				here.refuse(c)
			case c := <-there.sessions:
				there.refuse(c)
			}
		}
		synctest.Wait()
		if len(here.sessions)+len(there.sessions) > 0 {
			t.Error("it goes on asking")
		}
		remote.done(1)
		wait(t, p)
		p = send(t, s, numbered(1))
		remote.next()
		remote.done(2)
		wait(t, p)

		// Asked again, it tries again.
		remote.move(2)
		next := asked(t, here, there)
		next.opened(&pb.Opened{Coordinator: there.address, Revision: 7})
		next.credit(100, 1000)
		if _, open := <-remote.in; open {
			t.Error("the stream was not ended")
		}
		remote.ended <- nil
		p = send(t, s, numbered(1))
		next.next()
		next.done(3)
		wait(t, p)
	})
}

func TestStreamLosesItsCoordinatorWhileItMoves(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		s, here, there, remote := n.pair()
		p := send(t, s, numbered(1))
		remote.next()
		remote.move(2)
		next := asked(t, here, there)
		here.kill() // before it has a place: it opens anew
		again := there.resume(100, 1000)
		if again.open.Moving {
			t.Error("a stream without a coordinator moves")
		}
		if err := next.rpc.Context().Err(); err == nil {
			t.Error("the place that it asked for is kept")
		}
		again.next()
		again.done(1)
		wait(t, p)
	})
}

func TestStreamIsClosedWhileItMoves(t *testing.T) {
	inNetwork(t, func(t *testing.T, n *network) {
		s, here, there, remote := n.pair()
		p := send(t, s, numbered(1))
		remote.next()
		remote.move(2)
		next := asked(t, here, there)
		closed := make(chan error, 1)
		go func() { closed <- s.Close() }()
		synctest.Wait()
		remote.done(1)
		wait(t, p)
		if _, open := <-remote.in; open {
			t.Error("the stream was not ended")
		}
		remote.ended <- nil
		if err := <-closed; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if next.rpc.Context().Err() == nil {
			t.Error("the place that it asked for is kept")
		}
	})
}
