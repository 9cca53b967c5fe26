package coordinator

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Client streams are spread evenly over the coordinators that take batches. Each tells the others by its key in etcd how many
// it has. One that has more than its share asks some to move, and one that has less takes them in: the client finds it by
// asking one after the other. So nobody need know by which address a client reaches whom.
const (
	// spreadPause is how often a coordinator looks whether it has more than its share, and tells how many streams it has.
	balanceInterval = time.Second
	// movePatience is how long a stream that was asked to move counts as one that does. After that another one is asked, and
	// in the end the same again. It is longer than the SDK, which waits 5 s for answers, takes for a move: who leaves late
	// would be made up for by others, and these would come back.
	movePatience = 8 * time.Second
	// movePatienceMost is what that grows to for streams whose clients reach no other coordinator, or are too old to move.
	movePatienceMost = 128 * time.Second
)

// share is what is to be spread, as etcd tells of the coordinators that take batches. It is zero while this one is not among
// them.
type streamShare struct {
	coordinators int
	most         int // streams that each is to have, rounded up
	least        int // that one of the others has
	own          int // that this one told of
}

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

// surplus is how many streams are to move away from a coordinator that has that many. Not each stream that opens or ends is
// worth a move elsewhere: a tenth more than the share is let be, unless another has as much less. Of two or more that have just
// their share, which was rounded up, each gives one then.
func (s streamShare) surplus(has int) int {
	over, slack := has-s.most, s.most/10
	if over > slack || over >= 0 && s.most-s.least >= 2+slack {
		return max(1, over)
	}
	return 0
}

// room reports whether a coordinator that has that many streams is to take one more. The last of a rounded share is for when
// no other has fewer.
func (s streamShare) hasRoom(has int) bool {
	return has < s.most-1 || has == s.most-1 && s.least >= has
}

// spread asks streams to move, until ctx is done.
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

// askToMove asks as many streams to move as there are more than this coordinator's share.
func (i *ingest) askToMove(now time.Time) {
	share := i.streamShare()
	i.mu.Lock()
	defer i.mu.Unlock()
	n := share.surplus(min(share.own, len(i.streams))) // those that have left already need not be asked
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
		default: // its client has not been told of the last time yet
		}
	}
}

// expect reports whether a stream that moves is taken, and counts it until arrived is called.
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

// arrived says that a stream that was expected is registered, or will not be.
func (i *ingest) movingArrived() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.arriving--
}

// count is how many streams are here.
func (i *ingest) streamCount() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.streams) + i.arriving
}
