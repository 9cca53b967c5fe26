package coordinator

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/cluster"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// spreading is coordinators that know of each other's streams what was told up to a second ago.
type spreading struct {
	random *rand.Rand
	all    []*ingest
	told   map[string]cluster.Coordinator
	moves  int

	slow    time.Duration // how long a stream that has its new place waits for what it sent
	leaving map[batch.StreamID]time.Time
}

func newSpreading(seed uint64, streams ...int) *spreading {
	s := &spreading{random: rand.New(rand.NewPCG(seed, 0)), told: map[string]cluster.Coordinator{}, leaving: map[batch.StreamID]time.Time{}}
	for n, has := range streams {
		i := &ingest{id: fmt.Sprint(n), coordinators: func() map[string]cluster.Coordinator { return nil }, streams: map[streamKey]*stream{}}
		for range has {
			s.open(i)
		}
		s.all = append(s.all, i)
		s.tell(i)
	}
	return s
}

func (s *spreading) open(i *ingest) {
	st := &stream{id: batch.NewStreamID(), moveRequests: make(chan int, 1)}
	i.streams[st.key()] = st
}

// tell has one coordinator tell the others how many streams it has.
func (s *spreading) tell(i *ingest) {
	s.told[i.id] = cluster.Coordinator{ID: i.id, Ready: true, Streams: i.streamCount()}
}

// second lets each coordinator, in any order, tell and look once. Streams that are asked to move do so as their clients do.
func (s *spreading) second(now time.Time) {
	for _, n := range s.random.Perm(len(s.all)) {
		i := s.all[n]
		known := maps.Clone(s.told)
		i.coordinators = func() map[string]cluster.Coordinator { return known }
		s.tell(i)
		i.askToMove(now)
		for key, st := range i.streams {
			id := st.id
			if at, leaves := s.leaving[id]; leaves {
				if !now.Before(at) {
					delete(i.streams, key)
				}
				continue
			}
			select {
			case coordinators := <-st.moveRequests:
				first := s.random.IntN(len(s.all)) // other streams of a client and its calls go round too
				for try := range 2 * coordinators {
					to := s.all[(first+try)%len(s.all)]
					if to.admitMoving(key) {
						if s.leaving[id] = now.Add(s.slow); s.slow == 0 {
							delete(i.streams, key)
						}
						to.movingArrived()
						s.open(to)
						s.moves++
						break
					}
				}
			default:
			}
		}
	}
}

func (s *spreading) counts() (all []int) {
	for _, i := range s.all {
		all = append(all, i.streamCount())
	}
	return all
}

// TestBalanceStreams lets streams of coordinators that are there move to those that come. It takes seconds, few of them move more
// than once, and then none does.
func TestBalanceStreams(t *testing.T) {
	for seed := range uint64(50) {
		for _, streams := range [][]int{
			{12, 12, 0, 0}, {24, 0}, {2, 0, 0, 0}, {2, 2, 1, 0}, {3, 2, 1, 1}, {7, 7, 7, 4}, {1000, 0, 0, 0}, {500, 500, 0, 0}, {30, 30, 30, 30, 30, 30, 30, 30, 30, 0},
			{110, 110, 110, 110, 110, 110, 110, 110, 110, 110, 0}, {29, 29, 29, 29, 29, 29, 29, 29, 29, 9},
			{0, 0}, {1, 0}, {5, 5, 5},
		} {
			s := newSpreading(seed, streams...)
			if seed%2 == 1 {
				s.slow = 5*time.Second + 500*time.Millisecond // the SDK waits for 5 s
			}
			sum, even := 0, 0
			for _, n := range streams {
				sum += n
			}
			for _, n := range streams {
				even += max(0, n-sum/len(streams))
			}
			now := time.Now()
			rounds := 20
			if s.slow > 0 {
				rounds = 40 // while it moves, a stream counts at both ends, and some take more than their share at first
			}
			for range rounds {
				now = now.Add(balanceInterval)
				s.second(now)
			}
			counts, moves := s.counts(), s.moves
			share := (sum + len(streams) - 1) / len(streams)
			if slices.Max(counts) > share+share/10 || share < 10 && slices.Max(counts)-slices.Min(counts) > 1 || slices.Min(counts) < share*7/10-1 {
				t.Errorf("seed %d: %v streams became %v", seed, streams, counts)
			}
			if moves > 2*even {
				t.Errorf("seed %d: %v became %v by %d moves, and %d would do", seed, streams, counts, moves, even)
			}
			for range 10 {
				now = now.Add(balanceInterval)
				s.second(now)
			}
			if s.moves > moves {
				t.Errorf("seed %d: %v became %v, and streams go on moving", seed, streams, counts)
			}
		}
	}
}

// TestStreamsThatCanNotMove: where clients reach one coordinator only, as through one address for all, it asks less and less.
func TestStreamsThatCanNotMove(t *testing.T) {
	s := newSpreading(0, 20, 0)
	here, asked := s.all[0], [2]int{} // in the first minute, and in an hour's last ten
	here.coordinators = func() map[string]cluster.Coordinator { return s.told }
	now := time.Now()
	for second := range 3600 {
		now = now.Add(time.Second)
		here.askToMove(now)
		for _, st := range here.streams {
			select {
			case <-st.moveRequests:
				if second < 60 {
					asked[0]++
				} else if second >= 3000 {
					asked[1]++
				}
			default:
			}
		}
	}
	if asked[0] < 30 || asked[1] < 10 || asked[1] > 50 {
		t.Errorf("10 streams too many are asked to move %d times in the first minute and %d times in the last ten, want 30 or more and 10 to 50", asked[0], asked[1])
	}
}

// TestHTTPStreamsStay: streams of HTTP requests are not asked to move, and others move in their place.
func TestHTTPStreamsStay(t *testing.T) {
	s := newSpreading(0, 10, 0)
	here := s.all[0]
	n := 0
	for _, st := range here.streams {
		st.stays = n < 8
		n++
	}
	here.coordinators = func() map[string]cluster.Coordinator { return s.told }
	here.askToMove(time.Now())
	asked := 0
	for _, st := range here.streams {
		if len(st.moveRequests) > 0 {
			asked++
			if st.stays {
				t.Error("a stream was asked to move that can't")
			}
		}
	}
	if asked != 2 {
		t.Errorf("%d streams were asked to move, want the two that can", asked)
	}
}

// TestStreamIsAskedToMove has a coordinator come beside one that has all streams.
func TestStreamIsAskedToMove(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, _ := r.join("w")
	r.whole()
	var streams []*clientStream
	for range 4 {
		streams = append(streams, r.open("W"))
	}
	moving := func(r *rig, id batch.StreamID) error {
		_, err := r.tryOpenWith(&pb.Open{Flow: "W", Stream: id[:], Moving: true})
		return err
	}
	wantCode(t, fromStatus(moving(r, batch.NewStreamID())), batch.CodeUnavailable, "its share")

	p := r.peer()
	w.session().welcome(false, 0) // a coordinator without a session counts itself as cut off after 3 s
	p.awaitActive("W", r.c.board.Load().Flows["W"].Active.Number)
	asked := make(chan *clientStream, len(streams))
	for _, s := range streams {
		go func() {
			for {
				m, err := s.stream.Recv()
				if err != nil {
					return // the test is over
				}
				if m.GetMove() != nil {
					if n := m.GetMove().GetCoordinators(); n != 2 {
						t.Errorf("it says that there are %d coordinators, want 2", n)
					}
					asked <- s
				}
			}
		}()
	}
	for range 2 {
		s := within(t, "a stream is asked to move", asked)
		wantCode(t, fromStatus(moving(r, s.id)), batch.CodeUnavailable, "its share") // and the call that is there goes on
		if err := moving(p, s.id); err != nil {
			t.Errorf("the new coordinator does not take it: %v", fromStatus(err))
		}
		if err := s.stream.CloseSend(); err != nil {
			t.Error(err)
		}
	}
	until(t, "each has two", func() bool { return r.c.ingest.streamCount() == 2 && p.c.ingest.streamCount() == 2 })
	until(t, "the new coordinator knows that each has two", func() bool {
		share := p.c.ingest.streamShare()
		return share.own == 2 && share.least == 2
	})
	wantCode(t, fromStatus(moving(p, batch.NewStreamID())), batch.CodeUnavailable, "its share")
}
