package kis

import (
	"context"
	"maps"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Call has the facts of one call of a function: the names of flow and function, the attempt, the row's id, the parameters, the
// connection. The function gets its Call from its context, with From, and may use it until it returns.
type Call struct {
	// Flow and Function are the names of the flow and of the function in it.
	Flow, Function string
	// Revision is the etcd revision of the flow's documents; 0 outside a cluster.
	Revision int64
	// Attempt is 1 at the first try, 2 at the first retry, and so on.
	Attempt int

	frame *Frame // nil outside a flow
}

// callKey is the type of the key under which a function's context has its Call.
type callKey struct{}

// From returns the Call of the function that got ctx. For any other context, as in a test that calls a function by itself, it
// returns a Call without names and parameters, and with Attempt 1.
func From(ctx context.Context) *Call {
	if c, ok := ctx.Value(callKey{}).(*Call); ok {
		return c
	}
	return &Call{Attempt: 1}
}

// RowID returns the id of the row that this call is for. The id never changes: when the row runs again, on any worker, it is the
// same. Use it as the idempotency key for effects outside the connector. In Batch and FaaS functions it is the id of the first
// row. Outside a flow, and after the function has returned, it is the zero RowID.
func (c *Call) RowID() batch.RowID { return c.RowIDAt(0) }

// RowIDAt returns the id of the i-th row, from 0, of those that a Batch or FaaS function was given; for a number that no row has,
// it returns the zero RowID. In other functions only 0 is of use: it stands for the row of the call.
func (c *Call) RowIDAt(i int) batch.RowID {
	if c.frame == nil || c.frame.Identify == nil {
		return batch.RowID{}
	}
	return c.frame.Identify(c.frame.Row + i)
}

// Param returns a parameter of the function: the value from the flow's params, or else from the function's default_params, or "".
func (c *Call) Param(name string) string {
	if c.frame == nil {
		return ""
	}
	return c.frame.Params[name]
}

// Params returns a copy of all parameters of the function, and nil outside a flow.
func (c *Call) Params() map[string]string {
	if c.frame == nil {
		return nil
	}
	return maps.Clone(c.frame.Params)
}

// Cache returns the Cache of this copy of the flow, which keeps values in memory from one run to the next. Other copies have
// their own. Data that copies share, or that has to last, belongs in a connector. Outside a flow it returns a new empty Cache at
// each call.
func (c *Call) Cache() *Cache {
	if c.frame == nil || c.frame.Copy == nil {
		return new(Cache)
	}
	return &c.frame.Copy.Cache
}

// Connection is the open connection of a connector. The package of the connector's type has functions that use it; see
// redis.Client.
type Connection interface {
	// Ping asks the store whether it is there. It blocks until there is an answer or ctx is over.
	Ping(ctx context.Context) error
}

// Connection returns the connection of the function's connector (option.cname), over which Saves and Loads of this process go. It
// blocks while the connection is being opened, for as long as the call's context allows. The function may use the connection
// until it returns. It is an error outside a flow, in a function without a connector, and after the function has returned.
//
// None of KisGrid's promises hold for commands over this connection: a command may take place several times, since the row may
// run again.
func (c *Call) Connection() (Connection, error) {
	if c.frame == nil || c.frame.Connect == nil {
		return nil, batch.Errorf(batch.CodeUnknownConnector, "this context does not belong to a function in a flow, so it has no connector: "+
			"ask with the context that the function was given")
	}
	return c.frame.Connect(c.frame.ctx)
}

// Origins is for Batch functions: it says from which input row each row comes that the function is about to return. given has one
// number for each row to be returned: the place of its input row, from 0. Elsewhere, and after the function has returned, Origins
// does nothing.
//
// Without Origins KisGrid finds it out: if all rows returned are pointers that the function was given, each comes from the row
// with the same pointer; otherwise, if as many rows are returned as were given, each comes from the row in its place. If only one
// row was given, all come from it. In any other case every row given counts as an origin of every row returned; in a flow with a
// shard_key the rows are then dead, with LINEAGE_LOST.
func (c *Call) Origins(given ...int) {
	if c.frame != nil && c.frame.calls.Load()%2 == 1 { // an even number means that the function has returned
		c.frame.named = append(c.frame.named[:0], given...)
		c.frame.hasNamed = true
	}
}
