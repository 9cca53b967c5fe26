// Package connector says what flows need of a store that they share: effects that are gathered and sent together, keys that
// are read together, and a way to wait for a key. The packages beside it implement it; all pass the suite in conformance.
package connector

import (
	"context"

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
	// Row is the input row behind it, as its place in the batch; Output, Function, Visit and Command tell the row's effects
	// apart: together with Batch they name the effect for ever.
	Row      uint32
	Output   uint16
	Visit    uint16
	Command  uint16
	Function string
	Batch    batch.ID
}

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
	// Save carries out effects in order. The slice it returns is nil when all took effect, else it has one error or nil per
	// effect: what the store refused (CodeSaveFailed) costs no other effect. The error beside it means that the store could
	// not be asked: some may have taken effect. A Save wakes who waits for its keys.
	Save(ctx context.Context, effects []Effect) ([]error, error)
	// Load reads keys in one round trip: one Value per key, in order.
	Load(ctx context.Context, keys []string) ([]Value, error)
	// Wait returns nil when one of the keys may have come to be there, at once if one is. The waiter is registered before
	// Wait looks itself, so that no Save in between is missed. While the store is away, Wait goes on waiting. No keys: nil.
	Wait(ctx context.Context, keys []string) error
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
