package client

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// maxSpan is the limit for the distance between a producer's floor and its newest sequence. Beyond it, the oldest open sequences that are not
// in flight are closed, because the cluster remembers a stream's effects above its floor.
const maxSpan = 1 << 16

// producer numbers the batches of one stream id, and knows which of them may be submitted again. A stream has one, and so have the calls of
// Submit to one flow. The states of a sequence:
//
//	           begin                  answered, no row failed
//	(unused) ────────► in flight ─────────────────────────────► closed
//	                    ▲     │                                   ▲
//	              begin │     │ an error, or failed rows          │
//	                    │     ▼                                   │
//	                   idle, open ────────────────────────────────┘
//	                               given up, or too old
//
// A sequence is open while it is in flight or idle. The floor is the lowest open sequence: the cluster forgets the effects of batches
// below the floor. The Batch itself remembers whether its rows may have run.
type producer struct {
	id       batch.StreamID
	resubmit time.Duration // how long a sequence stays open after its first use
	foreign  bool          // another client made the id: this producer does not know its sequences, gives none, and moves no floor

	// mu guards the fields below. It is held for a few instructions only. A goroutine that needs a batch's mutex, too, locks mu first.
	mu      sync.Mutex
	last    uint64                // the newest sequence
	low     uint64                // no sequence below it is open
	open    map[uint64]*openBatch // by sequence
	taken   bool                  // a batch may have run, so the cluster remembers something of this id
	retired bool                  // the stream has ended: there will be no new sequences
}

// openBatch is the state of an open sequence.
type openBatch struct {
	first    time.Time // when it was first sent
	inFlight bool
	givenUp  bool  // close it as soon as it is no longer in flight
	err      error // the error with which the batch last ended, if it is of a stream; nil if it was answered
}

func newProducer(id batch.StreamID, resubmit time.Duration) *producer {
	return &producer{id: id, resubmit: resubmit, low: 1, open: make(map[uint64]*openBatch)}
}

// begin marks a batch as in flight, and gives it its id if it has none. The error has CodeBadBatchID: the batch can't be submitted with this
// producer, or not any more.
func (p *producer) begin(b *batch.Batch, flow string, now time.Time) (batch.ID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := func() batch.ID {
		if len(p.open) == 0 {
			p.low = p.last + 1 // so that floor need not walk over sequences that are closed
		}
		p.last++
		p.open[p.last] = &openBatch{first: now}
		return batch.ID{Stream: p.id, Sequence: p.last}
	}
	if p.foreign {
		next = nil
	}
	id, err := b.Begin(flow, now, next)
	if err != nil {
		return batch.ID{}, err
	}
	switch u := p.open[id.Sequence]; {
	case id.Stream != p.id:
		b.Ended()
		return batch.ID{}, batch.Errorf(batch.CodeBadBatchID, "batch %s belongs to another stream than %s: send it on its own stream, or submit it with Client.Submit", id, p.id)
	case p.foreign:
	case u == nil:
		pointForgotten.Hit()
		b.Ended()
		b.GiveUp() // for ever, because the cluster does not remember its effects any more
		return batch.ID{}, batch.Errorf(batch.CodeBadBatchID, "batch %s is too old to be submitted again: submit batches again sooner, or raise WithResubmitWithin", id)
	default:
		u.inFlight = true
	}
	return id, nil
}

// answered notes that a batch in flight has its result. If a row failed, the batch may be submitted again; else its sequence is closed.
func (p *producer) answered(b *batch.Batch, flow string, r *batch.Result) {
	failed := false
	for i := range r.NotDone {
		failed = failed || r.NotDone[i].Outcome == batch.Failed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	sequence := b.ID().Sequence
	b.Answered(flow, failed)
	p.taken = true
	p.land(sequence, nil, !failed)
}

// failed notes that a batch in flight ended with err instead of outcomes. It returns the error for the program, with the batch's id and
// flow. If keep is true, the producer keeps that error, and unanswered can return it later.
func (p *producer) failed(b *batch.Batch, flow string, err error, keep bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := b.ID()
	over := b.Ended()
	if over {
		err = fmt.Errorf("a batch of flow %q: %w", flow, err)
	} else {
		err = fmt.Errorf("batch %s of flow %q: %w", id, flow, err)
	}
	err = b.Judge(err)
	ran := errors.Is(err, ErrUnanswered)
	p.taken = p.taken || ran
	kept := err
	if !keep {
		kept = nil
	}
	p.land(id.Sequence, kept, over || !ran && neverAccepted(batch.CodeOf(err)))
	return err
}

// land notes that the batch with a sequence is no longer in flight. err is the error with which it ended; nil means that it was answered,
// or that the error is not needed later. If over is true, or the batch was given up, the sequence is closed: the batch can't be submitted
// again. The caller holds mu.
func (p *producer) land(sequence uint64, err error, over bool) {
	u := p.open[sequence]
	if u == nil {
		return // another client made the id
	}
	u.inFlight, u.err = false, err
	if over || u.givenUp {
		delete(p.open, sequence)
	}
}

// giveUp closes a sequence whose batch will not be submitted again: at once if it is idle, else as soon as it is no longer in flight.
func (p *producer) giveUp(sequence uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.open[sequence]; u == nil {
		return
	} else if u.givenUp = true; !u.inFlight {
		delete(p.open, sequence)
	}
}

// floor returns the lowest open sequence. If none is open, it returns the next sequence that will be given. Before that, it closes
// sequences from the lowest on that are not in flight, and are too old or maxSpan or more behind the newest one.
func (p *producer) floor(now time.Time) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.foreign && p.low <= p.last {
		if u := p.open[p.low]; u != nil && (u.inFlight || !p.tooOld(u, now) && p.last-p.low < maxSpan) {
			break
		}
		if p.open[p.low] != nil {
			pointTooOld.Hit()
		}
		delete(p.open, p.low)
		p.low++
	}
	return p.low
}

// unanswered counts the open batches that ended with an error which failed kept. It also returns one of these errors, or nil if there are
// none: that of the lowest sequence whose batch may have run, or, if none may have, that of the lowest sequence.
func (p *producer) unanswered() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, first, ran := 0, uint64(0), false
	for sequence, u := range p.open {
		if u.err == nil || u.givenUp {
			continue
		}
		n++
		may := errors.Is(u.err, ErrUnanswered)
		if n == 1 || may && !ran || may == ran && sequence < first {
			first, ran = sequence, may
		}
	}
	if n == 0 {
		return 0, nil
	}
	return n, p.open[first].err
}

// retire notes that the stream has ended, so that there will be no new sequences.
func (p *producer) retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
}

// unused reports whether the cluster remembers nothing of this id: no batch may have run, and none is in flight.
func (p *producer) unused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.open {
		if u.inFlight {
			return false
		}
	}
	return !p.taken
}

// forgettable reports whether no batch with this id can be submitted any more: the stream has ended, and each of its sequences is closed or
// too old. It is always false for the producer of the calls to a flow.
func (p *producer) forgettable(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.retired {
		return false
	}
	for _, u := range p.open {
		if u.inFlight || !p.tooOld(u, now) {
			return false
		}
	}
	return true
}

// tooOld reports whether a sequence was first sent longer ago than resubmit. The cluster may have forgotten the effects of its batch then.
// The caller holds mu.
func (p *producer) tooOld(u *openBatch, now time.Time) bool { return now.Sub(u.first) > p.resubmit }

// neverAccepted reports whether a batch that was refused with the code will always be refused, so that its sequence can be closed.
func neverAccepted(c batch.Code) bool {
	switch c {
	case batch.CodeEmptyBatch, batch.CodeBadColumns, batch.CodeBatchTooLarge, batch.CodeTooManyRows, batch.CodeMissingKeys,
		batch.CodeBadBatchID, batch.CodeBadMessage:
		return true
	}
	return false
}

// minSweep is the number of producers below which a client does not look for producers that it can forget.
const minSweep = 64

// add adds a producer to the client's. When there are twice as many as the last time, it first drops the producers of ended streams with
// which no batch can be submitted any more. The caller holds mu.
func (c *Client) add(p *producer) {
	if len(c.producers) >= c.sweepAt {
		now := time.Now()
		maps.DeleteFunc(c.producers, func(_ batch.StreamID, old *producer) bool { return old.forgettable(now) })
		c.sweepAt = max(minSweep, 2*len(c.producers))
	}
	c.producers[p.id] = p
}

// forget removes a producer from the client's if no batch can be submitted with it any more.
func (c *Client) forget(p *producer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.forgettable(time.Now()) {
		delete(c.producers, p.id)
	}
}
