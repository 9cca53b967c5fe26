package memory

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// record is which effects of a function took place for a stream.
type record struct {
	floor uint64
	used  time.Time
	done  map[uint64]effectIDs // by the batch's sequence
}

type recordKey struct {
	stream         batch.StreamID
	flow, function string
}

// effectIDs are effects of one batch; nil: they are not remembered.
type effectIDs map[effectID]struct{}

type effectID struct {
	row, visit, command uint32
	output              uint64
}

func idOf(e *connector.Effect) effectID { return effectID{e.Row, e.Visit, e.Command, e.Output} }

func (ids effectIDs) has(id effectID) bool {
	_, ok := ids[id]
	return ok
}

func (ids effectIDs) add(id effectID) {
	if ids != nil {
		ids[id] = struct{}{}
	}
}

// done finds what took place of a batch; false: it lies below the floor of its stream. Called with mu held.
func (t *table) done(c *connector.Cause, now time.Time) (effectIDs, bool) {
	if c.Batch.IsZero() {
		return nil, true
	}
	key := recordKey{c.Batch.Stream, c.Flow, c.Function}
	r := t.records[key]
	if r == nil {
		for other, r := range t.records {
			if now.Sub(r.used) > connector.OnceWindow {
				delete(t.records, other)
			}
		}
		r = &record{done: make(map[uint64]effectIDs)}
		t.records[key] = r
	}
	r.used = now
	if c.Floor > r.floor {
		r.floor = c.Floor
		for sequence := range r.done {
			if sequence < r.floor {
				delete(r.done, sequence)
			}
		}
	}
	if c.Batch.Sequence < r.floor {
		return nil, false
	}
	done := r.done[c.Batch.Sequence]
	if done == nil {
		done = make(effectIDs)
		r.done[c.Batch.Sequence] = done
	}
	return done, true
}
