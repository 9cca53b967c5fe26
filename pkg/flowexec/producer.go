package flowexec

import (
	"sync"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// maxSpan is how many sequences may lie between the floor and the newest before a failed batch is given up: what connectors
// remember of a stream lies above its floor.
const maxSpan = 1 << 16

// producer gives the batches of one stream their ids, and knows which of them may be submitted again. It is safe for
// concurrent use.
type producer struct {
	mu       sync.Mutex // guards what follows
	stream   batch.StreamID
	sequence uint64
	low      uint64          // none below may be submitted again
	open     map[uint64]bool // those that may; true: it is not under way
}

// begin gives the batch its id at its first use, and tells the floor of its stream; 0: it is another producer's.
func (p *producer) begin(use func(next func() batch.ID) batch.ID) (id batch.ID, floor uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.stream, p.low, p.open = batch.NewStreamID(), 1, make(map[uint64]bool)
	}
	id = use(func() batch.ID {
		p.sequence++
		return batch.ID{Stream: p.stream, Sequence: p.sequence}
	})
	if id.Stream != p.stream {
		return id, 0
	}
	if id.Sequence >= p.low {
		p.open[id.Sequence] = false
	}
	for ; p.low <= p.sequence; p.low++ {
		if idle, open := p.open[p.low]; open && (!idle || p.sequence-p.low < maxSpan) {
			break
		}
		delete(p.open, p.low)
	}
	return id, p.low
}

// answered ends the flight of a batch. It stays open while rows of it failed.
func (p *producer) answered(id batch.ID, failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, open := p.open[id.Sequence]; !open || id.Stream != p.stream {
		return
	}
	if p.open[id.Sequence] = failed; !failed {
		delete(p.open, id.Sequence)
	}
}
