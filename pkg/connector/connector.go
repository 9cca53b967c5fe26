// Package connector says what flows need of a store that they share: effects that are gathered and sent together, keys that
// are read together, and a way to wait for a key. The packages beside it implement it; all pass the suite in conformance.
package connector

import (
	"context"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Op is what an effect does to its key.
type Op uint8

// The operations.
const (
	// Set gives a field of the key's hash a value.
	Set Op = 1 + iota
	// Incr adds to a field of the key's hash: a whole number, or a decimal one.
	Incr
	// Append adds a value to the end of the key's list.
	Append
	// Delete removes the key.
	Delete
)

// Effect is what one row's Save changes.
type Effect struct {
	Op    Op
	Key   string // without the connector's prefix
	Field string // for Set and Incr
	Value string // for Set, Incr and Append
	// Row is the input row behind it, as its place in the batch. Output tells apart what came of that row, Visit how often it
	// came to the function, Command counts what it saves there. Together with flow, function and batch they name the effect
	// for ever: it takes place once. A rerun whose commands come in another order gives other effects these names, which a
	// store may carry out again.
	Row     uint32
	Visit   uint32
	Command uint32
	Output  uint64
}

// Cause is what the effects of one Save come from.
type Cause struct {
	Flow, Function string
	// Batch is zero where nobody will ever ask for the same effects again: they are carried out, and not remembered.
	Batch batch.ID
	// Floor is the lowest sequence of the batch's stream that may still be submitted again: what was remembered of those
	// below is dropped, and they are refused from then on, this batch included if it lies below.
	Floor uint64
	// Born is when the batch was first submitted, by this process's clock. Zero: now.
	Born time.Time
}

// Age is how old the batch is, by the clock that makes it older: one of a process's clocks may have stood still.
func (c *Cause) Age(now time.Time) time.Duration {
	if c.Born.IsZero() {
		return 0
	}
	return max(0, now.Sub(c.Born), now.Round(0).Sub(c.Born.Round(0)))
}

// OnceWindow is how long a store remembers, after the last one, the effects that a function had for a stream, where its
// document does not say otherwise. Batches that are older are refused.
const OnceWindow = time.Hour

// Field is one field of a saved hash.
type Field struct{ Name, Value string }

// Value is what a key holds. A key that is not there has no fields.
type Value struct {
	Fields []Field
	// Err says why this key could not be read although the store answered: it holds something else than a hash.
	Err error
}

// Missing reports that the key is not there.
func (v Value) Missing() bool { return len(v.Fields) == 0 && v.Err == nil }

// Connection is one connector's open connection. It is safe for concurrent use; every call blocks until its round trip is
// over or ctx is, and keeps nothing of its arguments. Keys are without the connector's prefix.
//
// Errors of calls are *batch.Error: CodeConnectorUnavailable when the store is away or the connection closed, CodeDeadline
// or CodeCancelled, wrapping ctx's error, when ctx ended first.
type Connection interface {
	// Save carries out effects in order, but for those that took place already: each takes place once, whoever saves it how
	// often, as far as the store keeps what it acknowledged. The slice it returns is nil when all took effect, else it has one error or nil per
	// effect: what the store refused (CodeSaveFailed) costs no other effect. The error beside it means that the store could
	// not be asked: some may have taken effect, and Save may be called again; or that it refuses the batch
	// (CodeBatchTooOld, CodeBatchGivenUp). A Save wakes who waits for its keys.
	Save(ctx context.Context, cause Cause, effects []Effect) ([]error, error)
	// Load reads keys in one round trip: one Value per key, in order.
	Load(ctx context.Context, keys []string) ([]Value, error)
	// Watch makes a Watcher: what Wait does for one caller, for many keys without a goroutine for each. wake is called by
	// whoever learns of a key, with no lock held; it must not block.
	Watch(wake func(key string)) Watcher
	// Ping asks the store whether it is there.
	Ping(ctx context.Context) error
	// Close ends the connection and what goes on over it. Calls after it fail. Safe twice.
	Close() error
}

// Watcher waits for keys of one connection, as long as that is open. It is safe for concurrent use, and neither method
// blocks. What one key costs does not depend on how many there are.
type Watcher interface {
	// Add has wake called once for each of the keys, when it may have come to be there: at once if it is. A key is added
	// again only after that, or after Remove.
	Add(keys ...string)
	// Remove takes keys back. wake may be under way for them, and come after it.
	Remove(keys ...string)
}

// Opener opens the connection that a resolved document describes. It does not retry: Pool does. An error with
// CodeBadDocument is final; anything else may succeed later.
type Opener func(ctx context.Context, c *definition.Connector) (Connection, error)
