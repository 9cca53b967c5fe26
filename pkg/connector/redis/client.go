package redis

import (
	"context"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// Client returns go-redis's client of a connection, which uses the same sockets as the connection's Saves and Loads. In a
// function, conn is the result of kis.From(ctx).Connection; elsewhere it may be a connector.Connection. It is an error if the
// connector is not of type redis.
//
// None of the connector's guarantees hold for commands that go through the client. They take place as often as the function runs,
// not once. They are not ordered with Saves that wait to be sent. They get neither the document's key prefix nor its retries and
// replicas, and they wake no Load at once. A command such as SET NX with kis.From(ctx).RowID in its key can make them idempotent.
//
// The client is safe for concurrent use, for as long as conn may be used. Its Close does nothing.
func Client(conn interface {
	Ping(ctx context.Context) error
}) (goredis.UniversalClient, error) {
	if held, ok := conn.(interface{ Unwrap() connector.Connection }); ok {
		conn = held.Unwrap()
	}
	c, ok := conn.(*Connection)
	if !ok {
		return nil, batch.Errorf(batch.CodeBadDocument, "redis.Client was given a %T: the connector's document must have the type redis, "+
			"and flowexec.Local must be told how to open it, as without WithOpeners it keeps all in memory", conn)
	}
	return sharedClient{c.client}, nil
}

// sharedClient is a client that its user can't close.
type sharedClient struct{ goredis.UniversalClient }

func (sharedClient) Close() error { return nil }
