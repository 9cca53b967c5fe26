// Package redis is the connector to Redis: to a single node, to a master that Sentinels watch, or to a Cluster.
//
// A document of type redis names its servers in addrs: one address (host:port, or the path of a unix socket), several addresses of one
// Cluster, or the addresses of the Sentinels. Beside the keys key, tls, username, password_file and replicas, a document may have
// these params:
//
//	master             name of the master that the Sentinels in addrs watch; turns Sentinel on
//	sentinel_username, sentinel_password
//	cluster            true: the one address is that of a Cluster (several addresses are a Cluster without it)
//	db                 number of the database, 0; a Cluster has no other
//	password           better ${NAME} from the environment, or password_file
//	pool_size          connections to each node, 8
//	dial_timeout       5s      read_timeout, write_timeout  3s, each for a whole round trip
//	retries            how often a round trip is tried again while Redis is away, 10
//	retry_min          50ms, doubled each time up to retry_max, 2s: 10 retries take about ten seconds
//	replica_timeout    how long a Save waits for its replicas, 1s
//	once_window        how old a batch may be whose effects are carried out, 1h; Redis remembers that long which effects took
//	                   place. A window that is raised holds for batches that are born from then on (docs/redis.md)
//	tls, tls_ca, tls_cert, tls_key, tls_server_name, tls_skip_verify      files in PEM form; any of them turns TLS on
//
// # Keys and values
//
// The key in Redis is the document's key followed by the row's key. Set and Incr make a hash, Append makes a list. Other programs can
// read them as they are.
//
// # Effects take place once
//
// Effects are carried out by a Lua script (save.lua). In the same step the script notes in a record, a hash under kisgrid:once:, which
// effects took place. If an effect comes again, because a worker died or a batch is submitted again, the script finds it in the record
// and leaves it out. An effect that Redis refuses is not noted, and does not keep other effects from taking place.
//
// There is one record for each stream, flow and function; on a Cluster there is one in each slot, beside the data. A record has one bit
// for each effect, and forgets the batches that lie below the stream's floor, so that it holds the open batches of a stream. It expires a
// quarter longer than once_window after its last use.
//
// A Save that Redis acknowledged lasts as long as Redis keeps the data, and its record is kept with the data. An asynchronous failover
// may lose both: then the effect takes place when it is asked for again. The document's key replicas says how many replicas must have a
// Save before it is acknowledged.
//
// # Waiting for a key
//
// A connection that waits for a key subscribes to a channel of that key, and to a presence channel, which says that somebody waits.
// When Redis has confirmed both, the connection reads the key. A Save asks at the end of its own round trip whether the presence channel
// has subscribers, and only then publishes its keys. So either the reader finds the key, or the Save finds the reader. When a
// connection is lost, Redis forgets its subscriptions; the connection subscribes and reads again when it is back. Programs other than
// KisGrid publish nothing, so all keys that are waited for are also read once a second. A Redis user with restricted rights needs the
// channels &kisgrid:*.
//
// The files, in reading order:
//
//   - redis.go: Config, Open and the life of a Connection.
//   - options.go: the options that a connector's document sets.
//   - peek.go: Peek, which reads one key for people.
//   - client.go: Client, go-redis's own client for functions that need more than Save and Load.
//   - save.go: Save, from effects to their verdicts.
//   - save_trip.go: one round trip of a batch of Saves.
//   - save_verdict.go: whose fault it is that an effect did not take place.
//   - probe.go: Saves to keys of our own, which show whether Redis carries out an operation.
//   - script_part.go: the part of a script that carries out effects of one Save.
//   - record.go: the bits by which a record remembers effects.
//   - slot.go: slots of a Redis Cluster.
//   - script.go: the Lua script that carries out Saves.
//   - load.go: Load, and one round trip of a batch of Loads.
//   - watch.go: the keys that Watchers wait for, and the poll.
//   - subscribe.go: subscriptions to the channels of keys.
//   - publish.go: messages about keys that this process saved.
//   - windows.go: which once-windows are in use, and which one holds for a batch.
//   - batcher.go: requests of callers go to Redis in batches.
//   - trip.go: round trips, and when they are tried again.
//   - settings.go: settings of Redis that may lose data, and its longest text.
//   - health.go: whether Redis can be used: it answers, takes Saves, answers Loads.
//   - errors.go: the errors of calls.
//   - faults.go: whose fault an error is, and advice about it.
//   - points.go: the points, which count how often rare branches were reached.
package redis
