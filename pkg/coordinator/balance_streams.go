package coordinator

import (
	"context"
	"math"
	"slices"
	"time"
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

// streamShare is how many streams this coordinator should have, if the streams of all coordinators that take batches are shared out evenly.
// It is computed from their keys in etcd, and is zero while this coordinator is not among them.
type streamShare struct {
	// coordinators is how many coordinators take batches, this one included.
	coordinators int
	most         int // the share: how many streams each coordinator should have, rounded up
	least        int // the fewest streams that any other coordinator has; math.MaxInt if there is no other one
	own          int // how many streams this coordinator has according to its own key in etcd
}

// streamShare computes this coordinator's share of the streams as it is now.
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

// surplus returns how many streams a coordinator should move away. has is how many it has. Small differences are not worth a move: up to a
// tenth above the share is fine, unless another coordinator has at least two streams and a tenth less than it. For example, with shares of
// 10, a coordinator with 12 streams moves two, and one with 11 moves one only if another coordinator has 7 or fewer.
func (s streamShare) surplus(has int) int {
	over, slack := has-s.most, s.most/10
	if over > slack || over >= 0 && s.most-s.least >= 2+slack {
		return max(1, over)
	}
	return 0
}

// hasRoom reports whether a coordinator should take one more stream. has is how many it has. The share is rounded up, so its last place is
// filled only if no other coordinator has fewer streams.
func (s streamShare) hasRoom(has int) bool {
	return has < s.most-1 || has == s.most-1 && s.least >= has
}

// balanceStreams compares this coordinator's streams with its share every balanceInterval, and asks clients to move those above it. It
// blocks until ctx is done.
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

// askToMove asks clients to move as many streams as this coordinator has above its share, less those that were asked a short time ago and
// count as moving.
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
		switch {
		case s.stays:
		case now.Sub(s.askedToMove) < s.movePatience:
			n--
		default:
			candidates = append(candidates, s)
		}
	}
	slices.SortFunc(candidates, func(a, b *stream) int { return a.askedToMove.Compare(b.askedToMove) })
	for _, s := range candidates[:max(0, min(n, len(candidates)))] {
		pointAskedToMove.Hit()
		s.askedToMove, s.movePatience = now, min(max(movePatience, s.movePatience*3/2), movePatienceMost)
		select {
		case s.moveRequests <- share.coordinators:
		default: // the client has not been told of the last request yet
		}
	}
}

// admitMoving reports whether this coordinator takes a stream that moves here: it has room for one more, and the stream is not here
// already. A stream that it takes counts as arriving until movingArrived is called.
func (i *ingest) admitMoving(key streamKey) bool {
	share := i.streamShare()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.streams[key] != nil || !share.hasRoom(len(i.streams)+i.arriving) {
		pointNoShare.Hit()
		return false
	}
	pointMovedHere.Hit()
	i.arriving++
	return true
}

// movingArrived is called once for each stream that admitMoving has taken, when the stream is registered or will never be. The stream does
// not count as arriving any more.
func (i *ingest) movingArrived() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.arriving--
}

// streamCount returns how many streams are open here or are moving here.
func (i *ingest) streamCount() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.streams) + i.arriving
}
