package flowexec

import (
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// maxSpan is how many sequences may lie between the floor of a stream and its newest batch. Stores remember the effects of all batches above
// the floor. A failed batch that would make the distance larger is given up: it can't be submitted again.
const maxSpan = 1 << 16

// producer gives the batches of one stream their ids, and keeps the stream's floor: the lowest sequence that is under way or may be submitted
// again. It is safe for concurrent use.
type producer struct {
	// ownOnly says that the producer refuses batches whose id another producer gave them. It does not change.
	ownOnly bool

	// mu guards the fields below. A batch's own lock may be taken while mu is held.
	mu       sync.Mutex
	stream   batch.StreamID
	sequence uint64 // the sequence of the newest batch; 0 if there was none
	// floor is the lowest sequence that is under way or may be submitted again.
	floor uint64
	// open has the batches that are under way, or that may be submitted again, by sequence. true means that the batch is not under way.
	open map[uint64]bool
}

// begin notes that a batch is submitted to a flow. If the batch has no id yet, it gets the stream's next one. begin returns the id and the
// stream's floor, or the floor 0 if another producer gave the id. The error has the code BAD_BATCH_ID: the batch can't be submitted here, or
// not now.
func (p *producer) begin(b *batch.Batch, flow string, now time.Time) (id batch.ID, floor uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.stream, p.floor, p.open = batch.NewStreamID(), 1, make(map[uint64]bool)
	}
	id, err = b.Begin(flow, now, func() batch.ID {
		p.sequence++
		return batch.ID{Stream: p.stream, Sequence: p.sequence}
	})
	switch {
	case err != nil:
		return id, 0, err
	case id.Stream != p.stream && p.ownOnly:
		b.Ended()
		return id, 0, batch.Errorf(batch.CodeBadBatchID, "submit batch %s to stream %s: the batch was first submitted to another stream: submit it there, or with Local.Submit",
			id, p.stream)
	case id.Stream == p.stream && id.Sequence < p.floor:
		b.Ended()
		b.GiveUp()
		return id, 0, batch.Errorf(batch.CodeBadBatchID, "submit batch %s again: more than %d batches were submitted after it, so that the connectors "+
			"do not remember it any more: submit it sooner", id, maxSpan)
	}
	b.Sent()
	if id.Stream != p.stream {
		return id, 0, nil
	}
	p.open[id.Sequence] = false
	for ; p.floor <= p.sequence; p.floor++ {
		if idle, open := p.open[p.floor]; open && (!idle || p.sequence-p.floor < maxSpan) {
			break
		}
		delete(p.open, p.floor)
	}
	return id, p.floor, nil
}

// ended notes that a batch is not under way any more. again says that it may be submitted again: then the floor does not rise above its
// sequence before maxSpan makes it. A batch of another producer is ignored.
func (p *producer) ended(id batch.ID, again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, open := p.open[id.Sequence]; !open || id.Stream != p.stream {
		return
	}
	if p.open[id.Sequence] = again; !again {
		delete(p.open, id.Sequence)
	}
}
