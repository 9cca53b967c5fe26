package redis

import (
	"context"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// Client is go-redis's client behind a connection: the same sockets and pool that its Saves and Loads use. conn is what
// kis.From(ctx).Connection returns in a function or a CaaS call, or a connector.Connection. A connection to another type of
// store is an error.
//
// What goes through the client is outside of the connector's guarantees: it happens as often as the function runs, in no
// order with Saves that gather, without the document's key prefix, retries or replicas, and wakes no Load at once. With
// kis.From(ctx).RowID as part of a key, a SET NX can make it idempotent. The client is safe for concurrent use, for as long
// as conn may be used; its Close does nothing.
func Client(conn interface {
	Ping(ctx context.Context) error
}) (goredis.UniversalClient, error) {
	if held, ok := conn.(interface{ Unwrap() connector.Connection }); ok {
		conn = held.Unwrap()
	}
	c, ok := conn.(*Connection)
	if !ok {
		return nil, batch.Errorf(batch.CodeBadDocument, "a client for Redis was asked of a %T: the connector's document must have the type redis, "+
			"and flowexec.Local must be told how to open it, as without WithOpeners it keeps all in memory", conn)
	}
	return sharedClient{c.client}, nil
}

// sharedClient is not its user's to close.
type sharedClient struct{ goredis.UniversalClient }

func (sharedClient) Close() error { return nil }
