package client

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// maxSpan is how many sequences may lie between the floor and the newest before the oldest idle ones are given up: what the
// cluster remembers of a stream lies above its floor.
const maxSpan = 1 << 16

// producer gives the batches of one stream id their sequences, and knows which of them may be submitted again. A sequence is
// open from its first use until its batch is answered without a failed row, or given up; the floor is the lowest open one. What
// may have become of a batch's rows is kept with the batch itself.
type producer struct {
	id       batch.StreamID
	resubmit time.Duration // how long a sequence stays open
	foreign  bool          // another client drew the id: this one can't know what is open, moves no floor and keeps nothing

	mu      sync.Mutex // guards what follows; held for a few instructions only; a batch's own lock is taken within
	last    uint64
	low     uint64 // none below is open
	open    map[uint64]*usage
	taken   bool // a batch may have run: what the cluster remembers of the id goes on
	retired bool // its stream has ended: no new sequences
}

// usage is what a producer knows of an open sequence.
type usage struct {
	first    time.Time
	inFlight bool
	givenUp  bool  // close it as soon as it is no longer in flight
	err      error // with which a stream's batch was last in flight; nil where it was answered
}

func newProducer(id batch.StreamID, resubmit time.Duration) *producer {
	return &producer{id: id, resubmit: resubmit, low: 1, open: make(map[uint64]*usage)}
}

// begin gives the batch its id at its first use, and marks it in flight. The error is CodeBadBatchID: a batch that can't be
// submitted here or now.
func (p *producer) begin(b *batch.Batch, flow string, now time.Time) (batch.ID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := func() batch.ID {
		if len(p.open) == 0 {
			p.low = p.last + 1 // so that floor need not go through what never left
		}
		p.last++
		p.open[p.last] = &usage{first: now}
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
		return batch.ID{}, batch.Errorf(batch.CodeBadBatchID, "batch %s belongs to another stream than %s: submit it there, or with Client.Submit", id, p.id)
	case p.foreign:
	case u == nil:
		b.Ended()
		b.GiveUp() // for ever: what it may have done is not remembered
		return batch.ID{}, batch.Errorf(batch.CodeBadBatchID, "batch %s is too old to be known to the cluster: submit sooner again, or raise WithResubmitWithin", id)
	default:
		u.inFlight = true
	}
	return id, nil
}

// answered ends the flight of a batch whose rows have outcomes. It stays open while rows of it failed.
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

// failed ends the flight of a batch without outcomes. keep: the error is wanted later.
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
	p.land(id.Sequence, kept, over || !ran && hopeless(batch.CodeOf(err)))
	return err
}

// land notes how a flight ended; over: the sequence is closed. The caller holds mu.
func (p *producer) land(sequence uint64, err error, over bool) {
	u := p.open[sequence]
	if u == nil {
		return // another client's
	}
	u.inFlight, u.err = false, err
	if over || u.givenUp {
		delete(p.open, sequence)
	}
}

// giveUp closes a sequence, once it is no longer in flight.
func (p *producer) giveUp(sequence uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.open[sequence]; u == nil {
		return
	} else if u.givenUp = true; !u.inFlight {
		delete(p.open, sequence)
	}
}

// floor is the lowest open sequence, or the next one to be given where none is open.
func (p *producer) floor(now time.Time) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.foreign && p.low <= p.last {
		if u := p.open[p.low]; u != nil && (u.inFlight || !p.tooOld(u, now) && p.last-p.low < maxSpan) {
			break
		}
		delete(p.open, p.low)
		p.low++
	}
	return p.low
}

// unanswered counts the open batches that ended in an error, and returns the error of the first, or of the first one that may
// have run.
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

// retire says that there will be no new sequences.
func (p *producer) retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
}

// unused reports whether nothing that the cluster remembers was ever done under the id, nor is.
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

// forgettable reports whether nothing can be submitted under the id any more.
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

// tooOld reports whether the cluster may have forgotten the batch. The caller holds mu.
func (p *producer) tooOld(u *usage, now time.Time) bool { return now.Sub(u.first) > p.resubmit }
