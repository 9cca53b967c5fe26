package connector

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Op is the operation that an effect carries out on its key.
type Op uint8

// The values of Op.
const (
	// Set gives a field of the key's hash a value.
	Set Op = 1 + iota
	// Incr adds a number to a field of the key's hash: a whole number, or a decimal one. A field that is not there counts as 0.
	Incr
	// Append adds a value to the end of the key's list.
	Append
	// Delete removes the key.
	Delete
)

// Effect is one change that the Save of one row makes. It has a name, so that it takes place once however often it is saved: the
// flow, the function and the batch of its Cause, together with its Row, Output, Visit and Command. If the Cause has a Log, that stands in
// place of the batch, and Position in place of Row. If a function runs again and
// makes its commands in another order, other changes get these names, and a store may carry them out again.
type Effect struct {
	Op    Op
	Key   string // without the connector's key prefix
	Field string // for Set and Incr
	Value string // for Set, Incr and Append
	// Row is the input row that the effect comes from, as its place in the batch, from 0. Output tells apart the rows that were
	// made of that input row. Visit counts how often the row has come to the function, and Command counts the effects of one
	// visit.
	Row     uint32
	Visit   uint32
	Command uint32
	Output  uint64
	// Position is where the input row stands in the Log of the Cause; Row is 0 then.
	Position uint64
}

// Cause is the function and the batch that the effects of one Save come from.
type Cause struct {
	Flow, Function string
	// Batch is the batch that the rows belong to. A zero Batch means that the same effects are never saved again: they are
	// carried out, and not remembered.
	Batch batch.ID
	// Floor is the lowest sequence of the batch's stream that may still be submitted again. A store forgets the effects of lower
	// sequences, and refuses their batches from then on; that may be this batch.
	Floor uint64
	// Born is when the batch was first submitted, by the clock of this process. Zero means now.
	Born time.Time
	// Log is the log in which the rows stand; nil means in none. Then Batch and Floor name no effects, and only Born counts of the batch.
	Log *Log
}

// Log is a log in which rows have positions, as a reader sees it. A store remembers effects by position above the log's floor, for
// LogKeep since the last Save. The floor never falls: rows below it are settled, and what they save counts as having taken place. A
// store that has seen a term refuses lower ones with CodeLogSuperseded.
type Log struct {
	ID          batch.LogID
	Term, Floor uint64
}

// LogKeep is how long a store remembers effects by position, counted from the last Save for the log. A batch with positions that is older
// than the once-window is refused as any other.
const LogKeep = 30 * 24 * time.Hour

// Age returns how old the batch is. It compares the monotonic clocks and the wall clocks of both times, and returns the larger
// difference: either clock may have stood still.
func (c *Cause) Age(now time.Time) time.Duration {
	if c.Born.IsZero() {
		return 0
	}
	return max(0, now.Sub(c.Born), now.Round(0).Sub(c.Born.Round(0)))
}

// OnceWindow is the default once-window: how long a store remembers the effects that a function had for a stream, counted from
// the last one. A Save for a batch that is older than the once-window is refused with CodeBatchTooOld.
const OnceWindow = time.Hour

// Field is one field of a hash.
type Field struct{ Name, Value string }

// Value is the hash that a key holds. If the key is not there, it has no fields.
type Value struct {
	Fields []Field
	// Err says why this key could not be read although the store answered: it holds something other than a hash.
	Err error
}

// Missing reports whether the key is not there.
func (v Value) Missing() bool { return len(v.Fields) == 0 && v.Err == nil }

// Connection is an open connection of one connector. It is safe for concurrent use. Each call with a context blocks until its
// round trip is over or the context is, and keeps nothing of its arguments. Keys are without the connector's key prefix.
//
// Errors of calls are *batch.Error. CodeConnectorUnavailable means that the store can't be reached, or that the connection is
// closed. CodeDeadline and CodeCancelled mean that ctx ended first; they wrap its error.
type Connection interface {
	// Save carries out effects in order, except for those that took place before. Each effect takes place once, however often it
	// is saved, and by whomever, for as long as the store keeps the data that it acknowledged. A Save wakes the Watchers of its
	// keys.
	//
	// The slice of verdicts is nil if all effects have taken place. Else it has one entry for each effect: nil, or the error with
	// which the store refused the effect (CodeSaveFailed). A refused effect does not keep others from taking place.
	//
	// The error means that the store could not be asked, or refuses the whole batch (CodeBatchTooOld, CodeBatchGivenUp, CodeLogSuperseded). Some
	// effects may have taken place. Saving the same effects again is safe.
	Save(ctx context.Context, cause Cause, effects []Effect) ([]error, error)
	// Load reads keys in one round trip. It returns one Value for each key, in order.
	Load(ctx context.Context, keys []string) ([]Value, error)
	// Watch makes a Watcher, which waits for keys. wake is called with each key that may be there, with no lock held. Any
	// goroutine may call it, also the one that calls Add. It must not block.
	Watch(wake func(key string)) Watcher
	// Ping asks the store whether it is there.
	Ping(ctx context.Context) error
	// Close ends the connection. Later calls fail, and calls under way fail or end as usual. Its Watchers need not be told of
	// keys any more. Close may be called twice.
	Close() error
}

// Watcher waits for keys of one connection, for as long as that is open. While the store is away it goes on waiting. It is safe
// for concurrent use, and its methods do not block. The cost of a key does not depend on the number of keys.
type Watcher interface {
	// Add waits for keys. For each key, wake is called once when the key may be there, and at once if it is. The key is
	// registered before the store is asked for it, so that no Save in between is missed. Add a key again only after wake was
	// called for it, or after Remove.
	Add(keys ...string)
	// Remove stops waiting for keys. A call of wake that is under way may still come after Remove has returned.
	Remove(keys ...string)
}

// Opener opens the connection that a resolved document describes: one whose ${NAME} are filled in. It does not retry, since Pool
// does. An error with CodeBadDocument is final; any other error is tried again.
type Opener func(ctx context.Context, c *definition.Connector) (Connection, error)
