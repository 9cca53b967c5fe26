package client

import (
	"fmt"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// maxSpan is how many sequences may lie between the floor and the newest before the oldest idle ones are given up: what the
// cluster remembers of a stream lies above its floor.
const maxSpan = 1 << 16

// producer gives the batches of one stream id their sequences, and knows which of them may be submitted again. A sequence is
// open from its first use until its batch is answered without a failed row, or given up; the floor is the lowest open one.
type producer struct {
	id       batch.StreamID
	flow     string
	resubmit time.Duration // how long a sequence stays open
	foreign  bool          // another client drew the id: this one can't know what is open and moves no floor

	mu      sync.Mutex // guards what follows; held for a few instructions only
	last    uint64
	low     uint64 // none below is open
	open    map[uint64]*usage
	retired bool // its stream has ended: no new sequences
}

// usage is what a producer knows of an open sequence.
type usage struct {
	first     time.Time
	inFlight  bool
	uncertain bool  // rows may have run of which no answer tells
	givenUp   bool  // close it as soon as it is no longer in flight
	err       error // with which it was last in flight; nil where it was answered
}

func newProducer(id batch.StreamID, flow string, resubmit time.Duration) *producer {
	return &producer{id: id, flow: flow, resubmit: resubmit, low: 1, open: make(map[uint64]*usage)}
}

func foreignProducer(id batch.StreamID, flow string, resubmit time.Duration) *producer {
	p := newProducer(id, flow, resubmit)
	p.foreign, p.retired = true, true
	return p
}

// begin gives the batch its id at its first use, and marks it in flight. The error is CodeBadBatchID: a batch that can't be
// submitted here or now.
func (p *producer) begin(b *batch.Batch, flow string, now time.Time) (batch.ID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if flow != p.flow {
		return batch.ID{}, batch.Errorf(batch.CodeBadBatchID, "batch %s was first submitted to flow %q, not %q: pack its rows into a new batch", b.ID(), p.flow, flow)
	}
	id := b.ID()
	switch u := p.open[id.Sequence]; {
	case id.IsZero():
		id = b.Use(now, func() batch.ID {
			p.last++
			return batch.ID{Stream: p.id, Sequence: p.last}
		})
		p.open[id.Sequence] = &usage{first: now, inFlight: true}
	case id.Stream != p.id:
		return batch.ID{}, batch.Errorf(batch.CodeBadBatchID, "batch %s belongs to another stream than %s: submit it there, or with Client.Submit", id, p.id)
	case u == nil && p.foreign:
		p.open[id.Sequence] = &usage{first: now, inFlight: true, uncertain: true}
	case u == nil:
		return batch.ID{}, batch.Errorf(batch.CodeBadBatchID, "batch %s was answered, or is given up or too old to be known to the cluster: to run its rows again, pack them into a new batch", id)
	case u.inFlight:
		return batch.ID{}, batch.Errorf(batch.CodeBadBatchID, "batch %s is under way: wait for its answer before submitting it again", id)
	default:
		u.inFlight = true
	}
	return id, nil
}

// doubt notes that the batch went out and its answer will not come: it may have taken effect.
func (p *producer) doubt(sequence uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[sequence].uncertain = true
}

// answered ends the flight of a batch whose rows have outcomes. It stays open while rows of it failed.
func (p *producer) answered(sequence uint64, r *batch.Result) {
	failed := false
	for i := range r.NotDone {
		failed = failed || r.NotDone[i].Outcome == batch.Failed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.open[sequence]
	u.inFlight, u.uncertain, u.err = false, failed, nil
	if !failed || u.givenUp {
		delete(p.open, sequence)
	}
}

// failed ends the flight of a batch without outcomes, and returns err, matching ErrUnanswered where the batch may have taken
// effect.
func (p *producer) failed(sequence uint64, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.open[sequence]
	err = fmt.Errorf("batch %s of flow %q: %w", batch.ID{Stream: p.id, Sequence: sequence}, p.flow, err)
	if u.uncertain {
		err = fmt.Errorf("%w (%w)", err, ErrUnanswered)
	}
	u.inFlight, u.err = false, err
	if u.givenUp || !u.uncertain && hopeless(batch.CodeOf(err)) {
		delete(p.open, sequence)
	}
	return err
}

// unsent is the error of a call that sent nothing of the batch, matching ErrUnanswered where an earlier call may have.
func (p *producer) unsent(id batch.ID, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.open[id.Sequence]; u != nil && id.Stream == p.id && u.uncertain && !u.inFlight {
		return fmt.Errorf("%w (%w)", err, ErrUnanswered)
	}
	return err
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

// unanswered counts the open batches that ended in an error, and returns the error of the first.
func (p *producer) unanswered() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, first := 0, uint64(0)
	for sequence, u := range p.open {
		if u.err == nil || u.givenUp {
			continue
		}
		if n++; n == 1 || sequence < first {
			first = sequence
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
