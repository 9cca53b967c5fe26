package flowexec

import (
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// maxSpan is how many sequences may lie between the floor and the newest before a failed batch is given up: what connectors
// remember of a stream lies above its floor.
const maxSpan = 1 << 16

// producer gives the batches of one stream their ids, and knows which of them may be submitted again. It is safe for
// concurrent use.
type producer struct {
	only bool // it takes no batches with another producer's ids; constant

	mu       sync.Mutex // guards what follows; a batch's own lock is taken within
	stream   batch.StreamID
	sequence uint64
	low      uint64          // none below may be submitted again
	open     map[uint64]bool // those that may; true: it is not under way
}

// begin gives the batch its id at its first use, and tells the floor of its stream; 0: it is another producer's. The error is
// CodeBadBatchID: a batch that can't be submitted here or now.
func (p *producer) begin(b *batch.Batch, flow string, now time.Time) (id batch.ID, floor uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.stream, p.low, p.open = batch.NewStreamID(), 1, make(map[uint64]bool)
	}
	id, err = b.Begin(flow, now, func() batch.ID {
		p.sequence++
		return batch.ID{Stream: p.stream, Sequence: p.sequence}
	})
	switch {
	case err != nil:
		return id, 0, err
	case id.Stream != p.stream && p.only:
		b.Ended()
		return id, 0, batch.Errorf(batch.CodeBadBatchID, "batch %s belongs to another stream than %s: submit it there, or with Local.Submit", id, p.stream)
	case id.Stream == p.stream && id.Sequence < p.low:
		b.Ended()
		b.GiveUp()
		return id, 0, batch.Errorf(batch.CodeBadBatchID, "batch %s is too old to be known to the connectors: submit sooner again", id)
	}
	b.Sent()
	if id.Stream != p.stream {
		return id, 0, nil
	}
	p.open[id.Sequence] = false
	for ; p.low <= p.sequence; p.low++ {
		if idle, open := p.open[p.low]; open && (!idle || p.sequence-p.low < maxSpan) {
			break
		}
		delete(p.open, p.low)
	}
	return id, p.low, nil
}

// landed ends the flight of a batch. It stays open while it may be submitted again.
func (p *producer) landed(id batch.ID, again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, open := p.open[id.Sequence]; !open || id.Stream != p.stream {
		return
	}
	if p.open[id.Sequence] = again; !again {
		delete(p.open, id.Sequence)
	}
}
