// Package connector is the interface between flows and a store that they share: Saves whose effects take place once, Loads of many keys
// together, and a way to wait for a key. The packages beside it implement the interface for Redis and for memory. A connector of your
// own implements Connection, and passes the tests of package conformance.
//
// Beside the interface the package has the pool that keeps a process's connections open:
//
//	pool := connector.NewPool(map[string]connector.Opener{"redis": redis.Open}, os.LookupEnv, nil, nil)
//	defer pool.Close()
//	conn, err := pool.Get(ctx, document) // opens it, or shares the one that is open
//
// The files, in reading order:
//
//   - connector.go: the interface that connectors implement: Connection, Effect, Cause, Watcher.
//   - pool.go: Pool, which opens a connection once and shares it.
//   - kept.go: Kept, a connection that stays open although nobody uses it, so that its state is known.
//   - handle.go: the share in a connection that Pool.Get returns.
//   - pooled_conn.go: one connection of the pool, from its opening to its end.
//   - redact.go: secrets do not reach errors and logs.
//   - guard.go: rows do not reach KisGrid's own keys.
//   - numbers.go: the numbers that Incr adds.
//   - metrics.go: the metrics of connections.
//   - errors.go: the errors that all connectors share.
//   - points.go: the points, which count how often rare branches were reached.
package connector
