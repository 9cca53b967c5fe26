// Package simredis is the Redis of a simulated cluster: a server in memory that the real connector and the real store of dead letters use
// through go-redis, over any listener, in virtual time. It carries commands and scripts out one after the other, and journals what they
// change. A test lets commands go wrong, cuts connections, fills the memory, and makes a failover lose the last writes.
//
// The library miniredis keeps the data, and gopher-lua runs scripts; this package has the connections and everything that can go wrong with
// them.
// The answers about rights, memory and replicas are those of Redis 7.
//
// The files, in reading order:
//
//   - redis.go: Redis, its start, its end, and where it listens.
//   - state.go: Redis's troubles: memory full, read-only, loading, another password, restart, failover.
//   - fault.go: Fault, what goes wrong with one command, and the Rule that says so.
//   - conn.go: a client's connection, from its first command to its end.
//   - answer.go: the commands that this package answers itself: the handshake, settings, WAIT, transactions.
//   - pubsub.go: subscriptions to channels, and messages.
//   - engine.go: commands on data, of clients and of scripts.
//   - expiry.go: keys that expire.
//   - script.go: scripts in the language Lua.
//   - journal.go: the journal of writes, and the data for checks.
//   - resp.go: reading commands.
//   - clients.go: a network for processes with go-redis in a bubble.
package simredis
