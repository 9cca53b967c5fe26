package simredis

import (
	"slices"
	"time"
)

// Write is a command that changed data.
type Write struct {
	At time.Time
	// Conn is the number of the connection that it came over, and Owner the process at its other end.
	Conn  int
	Owner string
	// Script means that a script made it.
	Script   bool
	Database int
	// Name is the command, in upper case, and Args are the words behind it. The id of an XADD is the one that it got.
	Name string
	Args []string
	// Lost means that a failover or a restart has undone it.
	Lost bool
}

// reads are the commands that look at data. Others, and those that are not in writes, are unknown: nothing here is left untried beside a real
// Redis.
var reads = map[string]bool{
	"DBSIZE": true, "EXISTS": true, "GET": true, "HEXISTS": true, "HGET": true, "HGETALL": true, "HKEYS": true, "HLEN": true, "HMGET": true, "HSCAN": true,
	"HSTRLEN": true, "KEYS": true, "LLEN": true, "LRANGE": true, "PING": true, "PTTL": true, "SMEMBERS": true, "TIME": true, "TTL": true, "TYPE": true, "XLEN": true,
	"XRANGE": true, "XREVRANGE": true, "ZCARD": true, "ZSCORE": true,
}

// writes are the commands that change data. The value says whether Redis refuses the command while its memory is full.
var writes = map[string]bool{
	"DEL": false, "EXPIRE": false, "FLUSHALL": false, "HDEL": false, "HINCRBY": true, "HINCRBYFLOAT": true, "HSET": true, "HSETNX": true, "INCR": true,
	"PERSIST": false, "PEXPIRE": false, "RPUSH": true, "SADD": true, "SET": true, "UNLINK": false, "XADD": true, "XDEL": false, "ZADD": true,
	"ZREMRANGEBYSCORE": false,
}

// note adds a write to the journal. r.mu is held.
func (r *Redis) note(c *conn, script bool, name string, args []string) {
	r.journal = append(r.journal, Write{At: time.Now(), Conn: c.number, Owner: c.owner, Script: script, Database: c.database, Name: name, Args: args})
}

// Journal returns all writes so far, in their order. The caller must not change their Args.
func (r *Redis) Journal() []Write {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.journal)
}

// Commands returns the number of commands that have come from all clients.
func (r *Redis) Commands() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.commands
}

// Keys returns the keys of a database, sorted.
func (r *Redis) Keys(database int) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.engine.at(database).Keys()
}

// Hash returns the fields of a hash. It is empty if there is no such hash.
func (r *Redis) Hash(database int, key string) map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	db := r.engine.at(database)
	names, _ := db.HKeys(key) // an error says that there is no hash
	fields := make(map[string]string, len(names))
	for _, name := range names {
		fields[name] = db.HGet(key, name)
	}
	return fields
}

// List returns the values of a list. It is empty if there is no such list.
func (r *Redis) List(database int, key string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list, _ := r.engine.at(database).List(key) // an error says that there is no list
	return slices.Clone(list)
}

// TTL returns how long a key is kept; 0 means for ever, or that there is no such key.
func (r *Redis) TTL(database int, key string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.engine
	e.setTime(time.Now())
	if at, expires := e.expiries.at[place{database, key}]; expires {
		return at.Sub(e.now)
	}
	return 0
}
