package coordinator

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Client streams are spread evenly over the coordinators that take batches. Each coordinator tells the others, in its key in etcd, how many
// streams it has. A coordinator that has more than its share asks some clients to move their streams. A client finds a coordinator that has
// less than its share by asking one after the other, so no coordinator needs to know which addresses a client can reach.
const (
	// balanceInterval is how often a coordinator compares its streams with its share, and tells how many streams it has.
	balanceInterval = time.Second
	// movePatience is for how long a stream that was asked to move counts as moving. After that another stream is asked in its place. It is
	// longer than the SDK takes for a move, including the 5 s for which the SDK waits for answers: if other streams moved in place of a
	// slow one, some would have to move back.
	movePatience = 8 * time.Second
	// movePatienceMost is the most that movePatience grows to, for streams that do not move when asked: their clients reach no other
	// coordinator, or are of builds that can't move.
	movePatienceMost = 128 * time.Second
)

// streamShare is this coordinator's share of the streams of all coordinators that take batches, computed from their keys in etcd. It is
// zero while this coordinator is not among them.
type streamShare struct {
	coordinators int
	most         int // how many streams each coordinator is to have, rounded up
	least        int // the fewest streams that another coordinator has
	own          int // how many streams this coordinator has told of
}

// streamShare computes the share from the keys of the coordinators that take batches.
func (i *ingest) streamShare() (s streamShare) {
	all, known := 0, false
	s.least = math.MaxInt
	for id, c := range i.coordinators() {
		if !c.Ready {
			continue
		}
		all, s.coordinators = all+c.Streams, s.coordinators+1
		if id == i.id {
			known, s.own = true, c.Streams
		} else {
			s.least = min(s.least, c.Streams)
		}
	}
	if !known {
		return streamShare{}
	}
	s.most = (all + s.coordinators - 1) / s.coordinators
	return s
}

// surplus returns how many streams a coordinator that has so many should move away. Small differences are not worth a move: up to a tenth
// above the share is fine, unless another coordinator has at least two streams and a tenth less than it. For example, with shares of 10, a
// coordinator with 12 streams moves two, and one with 11 moves one only if another coordinator has 7 or fewer.
func (s streamShare) surplus(has int) int {
	over, slack := has-s.most, s.most/10
	if over > slack || over >= 0 && s.most-s.least >= 2+slack {
		return max(1, over)
	}
	return 0
}

// hasRoom reports whether a coordinator that has so many streams should take one more. The share is rounded up; its last place is filled
// only when no coordinator has fewer streams.
func (s streamShare) hasRoom(has int) bool {
	return has < s.most-1 || has == s.most-1 && s.least >= has
}

// balanceStreams asks clients to move streams, again and again, until ctx is done.
func (i *ingest) balanceStreams(ctx context.Context) {
	ticker := time.NewTicker(balanceInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			i.askToMove(now)
		}
	}
}

// askToMove asks as many clients to move their streams as this coordinator has streams above its share.
func (i *ingest) askToMove(now time.Time) {
	share := i.streamShare()
	i.mu.Lock()
	defer i.mu.Unlock()
	n := share.surplus(min(share.own, len(i.streams))) // streams that have left since need not be asked
	if n == 0 {
		return
	}
	var candidates []*stream
	for _, s := range i.streams {
		if now.Sub(s.askedToMove) < s.movePatience {
			n--
		} else {
			candidates = append(candidates, s)
		}
	}
	slices.SortFunc(candidates, func(a, b *stream) int { return a.askedToMove.Compare(b.askedToMove) })
	for _, s := range candidates[:max(0, min(n, len(candidates)))] {
		s.askedToMove, s.movePatience = now, min(max(movePatience, s.movePatience*3/2), movePatienceMost)
		select {
		case s.moveRequests <- share.coordinators:
		default: // the client has not been told of the last request yet
		}
	}
}

// admitMoving reports whether a stream that moves here is taken. If so, it counts until movingArrived is called.
func (i *ingest) admitMoving(id batch.StreamID) bool {
	share := i.streamShare()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.streams[id] != nil || !share.hasRoom(len(i.streams)+i.arriving) {
		return false
	}
	i.arriving++
	return true
}

// movingArrived says that a stream which admitMoving has admitted is registered now, or will never be: it counts no more as arriving.
func (i *ingest) movingArrived() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.arriving--
}

// streamCount is how many streams are here or are moving here.
func (i *ingest) streamCount() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.streams) + i.arriving
}
