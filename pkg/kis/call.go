package kis

import (
	"context"
	"maps"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Call tells a function what it is called for. It is the function's during the call only.
type Call struct {
	// Flow and Function are the names under which the function runs.
	Flow, Function string
	// Revision is that of the flow; 0 outside a cluster.
	Revision int64
	// Attempt is 1 at the first try and counts its retries.
	Attempt int

	frame *Frame
}

type callKey struct{}

// From finds the Call of the function that ctx was given to. Any other context, as in a test of the function alone, has a
// Call without names and parameters.
func From(ctx context.Context) *Call {
	if c, ok := ctx.Value(callKey{}).(*Call); ok {
		return c
	}
	return &Call{Attempt: 1}
}

// RowID names the row of this call for ever, also when it runs again: use it as idempotency key for effects outside the
// connector. In Batch and FaaS it is that of the first row.
func (c *Call) RowID() batch.RowID { return c.RowIDAt(0) }

// RowIDAt is the id of the i-th row that a Batch or FaaS function was given; a row function has only row 0.
func (c *Call) RowIDAt(i int) batch.RowID {
	if c.frame == nil || c.frame.Identify == nil {
		return batch.RowID{}
	}
	return c.frame.Identify(c.frame.Row + i)
}

// Param is the function's parameter of that name: the flow's params over the function's default_params; "" if neither has it.
func (c *Call) Param(name string) string {
	if c.frame == nil {
		return ""
	}
	return c.frame.Params[name]
}

// Params is a copy of all the function's parameters.
func (c *Call) Params() map[string]string {
	if c.frame == nil {
		return nil
	}
	return maps.Clone(c.frame.Params)
}

// Cache is the memory of this copy of the flow. Other copies have their own: what must be shared or must last belongs into
// a connector.
func (c *Call) Cache() *Cache {
	if c.frame == nil || c.frame.Copy == nil {
		return new(Cache)
	}
	return &c.frame.Copy.Cache
}

// Connection is the open connection of a function's connector. The package of the connector's type has what can be done with
// it: see redis.Client.
type Connection interface {
	// Ping asks the store whether it is there. It blocks until there is an answer, or ctx is over.
	Ping(ctx context.Context) error
}

// Connection is the connection of the function's connector (option.cname), the one that Saves and Loads go over in this
// process. It blocks while that is being opened, as long as the call's context allows. It is the function's during the call
// only, and to be asked for by the call itself, not by what it leaves behind. What is done with it is outside of all promises: it
// may happen more than once. Outside of a flow, in a function without a connector, and between calls it is an error.
func (c *Call) Connection() (Connection, error) {
	if c.frame == nil || c.frame.Connect == nil {
		return nil, batch.Errorf(batch.CodeUnknownConnector, "this context is not that of a function in a flow, so it has no connector: "+
			"ask with the context that the function is given")
	}
	return c.frame.Connect(c.frame.ctx)
}

// Origins says of each row that a Batch function is about to return which of the rows it was given it comes from. Without
// it, rows that are the same pointers or as many as were given name their origin themselves; otherwise all rows given stand
// behind each row returned, which a flow with a shard_key refuses (LINEAGE_LOST).
func (c *Call) Origins(given ...int) {
	if c.frame != nil && c.frame.calls.Load()%2 == 1 { // else the call is over
		c.frame.named = append(c.frame.named[:0], given...)
		c.frame.hasNamed = true
	}
}
