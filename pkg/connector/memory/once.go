package memory

import (
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// record remembers which effects of one function took place for one stream.
type record struct {
	floor uint64               // batches with a lower sequence are refused
	used  time.Time            // when it was last used
	done  map[uint64]effectIDs // by the sequence of the batch
}

// recordKey is the stream, flow and function that a record is for.
type recordKey struct {
	stream         batch.StreamID
	flow, function string
}

// effectIDs is the set of the effects of one batch that took place. A nil set remembers nothing.
type effectIDs map[effectID]struct{}

// effectID tells the effects of one batch apart.
type effectID struct {
	row, visit, command uint32
	output              uint64
}

// idOf returns the id of an effect.
func idOf(e *connector.Effect) effectID { return effectID{e.Row, e.Visit, e.Command, e.Output} }

// has reports whether an effect took place.
func (ids effectIDs) has(id effectID) bool {
	_, ok := ids[id]
	return ok
}

// add remembers that an effect took place.
func (ids effectIDs) add(id effectID) {
	if ids != nil {
		ids[id] = struct{}{}
	}
}

// done returns the effects of a batch that took place before; the caller adds those that take place now. It returns false if the
// batch lies below the floor of its stream. Records that are older than the once-window are dropped when a new record is made.
// t.mu is held.
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
		pointGivenUp.Hit()
		return nil, false
	}
	done := r.done[c.Batch.Sequence]
	if done == nil {
		done = make(effectIDs)
		r.done[c.Batch.Sequence] = done
	}
	return done, true
}

// positionRecord remembers which effects of one function took place for one log, by position.
type positionRecord struct {
	term, floor uint64               // the highest that were seen
	used        time.Time            // when it was last used
	done        map[uint64]effectIDs // by position, at and above floor
}

// logKey is the log, flow and function that a positionRecord is for.
type logKey struct {
	log            batch.LogID
	flow, function string
}

// positions returns the record of a cause that has a log, with the floor raised. It returns nil if a later term of the log has begun.
// Records that are older than connector.LogKeep are dropped when a new one is made. t.mu is held.
func (t *table) positions(c *connector.Cause, now time.Time) *positionRecord {
	key := logKey{c.Log.ID, c.Flow, c.Function}
	r := t.logs[key]
	if r == nil {
		for other, r := range t.logs {
			if now.Sub(r.used) > connector.LogKeep {
				delete(t.logs, other)
			}
		}
		r = &positionRecord{done: make(map[uint64]effectIDs)}
		t.logs[key] = r
	}
	if c.Log.Term < r.term {
		pointSuperseded.Hit()
		return nil
	}
	r.used, r.term = now, c.Log.Term
	if c.Log.Floor > r.floor {
		r.floor = c.Log.Floor
		for at := range r.done {
			if at < r.floor {
				delete(r.done, at)
			}
		}
	}
	return r
}

// at returns the effects that took place for a position; the caller adds those that take place now. settled says that the position lies
// below the floor, so that nothing of it takes place any more.
func (r *positionRecord) at(position uint64) (done effectIDs, settled bool) {
	if position < r.floor {
		pointSettled.Hit()
		return nil, true
	}
	if done = r.done[position]; done == nil {
		done = make(effectIDs)
		r.done[position] = done
	}
	return done, false
}
