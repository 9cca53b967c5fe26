package simredis

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"

	"github.com/kisgrid/kisgrid/internal/redisnumbers"
)

// engine keeps data and runs scripts. Redis.mu guards it.
type engine struct {
	redis  *Redis
	data   *miniredis.Miniredis
	server *server.Server
	peers  map[view]*server.Peer
	out    bytes.Buffer  // the answers of server
	into   *bufio.Writer // writes to out
	words  []string      // of the command that server carries out; used again
	lua    interpreter

	now    time.Time         // of the command that is carried out
	newest map[place]entryID // the newest entry that each stream has had
	expiries

	conn  *conn // whose command is carried out
	wrote bool  // the script that runs has written
}

// view is how a client sees the data: the number of the database, and the version of the protocol.
type view struct {
	database int
	resp3    bool
}

// newEngine makes an empty engine.
func newEngine(r *Redis) (*engine, error) {
	e := &engine{redis: r, data: miniredis.NewMiniRedis(), peers: map[view]*server.Peer{}, newest: map[place]entryID{}, expiries: expiries{at: map[place]time.Time{}}}
	unused, err := e.data.Dial() // it makes the server, without a listener
	if err != nil {
		return nil, fmt.Errorf("start the simulated Redis: %w", err)
	}
	_ = unused.Close()
	e.into = bufio.NewWriter(&e.out)
	e.server = e.data.Server()
	e.setTime(time.Now())
	e.lua.engine = e
	return e, nil
}

// close ends the engine.
func (e *engine) close() {
	e.lua.close()
	e.data.Close()
}

// at returns a database as it is now.
func (e *engine) at(database int) *miniredis.RedisDB {
	e.setTime(time.Now())
	return e.data.DB(database)
}

// dispatch has the server carry out a command. The answer is valid until the next call.
func (e *engine) dispatch(v view, name string, args ...string) []byte {
	p := e.peers[v]
	if p == nil {
		p = server.NewPeer(e.into)
		e.peers[v] = p
		e.dispatch(v, "SELECT", strconv.Itoa(v.database))
		p.Resp3 = v.resp3
	}
	e.out.Reset()
	e.words = append(append(e.words[:0], name), args...)
	e.server.Dispatch(p, e.words)
	p.Flush()
	answer := e.out.Bytes()
	if end := bytes.IndexByte(answer, '\n'); answer[0] == '-' && end >= 0 {
		answer = answer[:end+1] // the library's XLEN gives a second answer behind an error
	}
	return answer
}

// carryOut carries out a client's command on data. The answer is the caller's.
func (e *engine) carryOut(c *conn, name string, args []string) []byte {
	e.setTime(time.Now())
	e.conn, e.wrote = c, false
	v := view{c.database, c.resp3}
	switch name {
	case "EVAL", "EVALSHA", "SCRIPT":
		return e.lua.answer(v, name, args)
	}
	return slices.Clone(e.command(v, false, name, args))
}

// command carries out a command of a client or of a script, and journals it if it is a write. The answer is valid until the next call.
func (e *engine) command(v view, script bool, name string, args []string) []byte {
	if name == "PUBLISH" && len(args) == 2 {
		return appendLength(nil, ':', e.redis.publish(args[0], args[1]))
	}
	if text := e.redis.troubles.refusedWrite(name, e.wrote); text != "" {
		return appendError(nil, text)
	}
	if !reads[name] {
		if _, ok := writes[name]; !ok {
			return unknown(script, name, args)
		}
	}
	answer := e.do(v, name, args)
	if answer[0] == '-' {
		return inWordsOfRedis(answer, script)
	}
	if _, ok := writes[name]; ok {
		e.wrote = true
		e.redis.note(e.conn, script, name, noted(name, args, answer))
	}
	return answer
}

// unknown is the answer to a command that is not one of reads and writes.
func unknown(script bool, name string, args []string) []byte {
	if script {
		return appendError(nil, "ERR Unknown Redis command called from script")
	}
	text := "ERR unknown command '" + strings.ToLower(name) + "', with args beginning with:"
	if len(args) > 0 {
		text += " '" + strings.Join(args, "' '") + "'"
	}
	return appendError(nil, line(text)+" ")
}

// inWordsOfRedis returns an error in the words of Redis 7, where the library has others.
func inWordsOfRedis(answer []byte, script bool) []byte {
	if script && strings.HasPrefix(string(answer), "-ERR wrong number of arguments") {
		return appendError(nil, "ERR Wrong number of args calling Redis command from script")
	}
	return answer
}

// again carries out a write of the journal.
func (e *engine) again(w Write) {
	e.setTime(w.At)
	e.do(view{database: w.Database}, w.Name, w.Args)
}

// do carries out a command, whatever state Redis is in.
func (e *engine) do(v view, name string, args []string) []byte {
	switch {
	case len(args) == 3 && slices.Contains(redisnumbers.Commands, name):
		return e.add(v, name, args)
	case name == "XADD" && len(args) > 1:
		return e.addEntry(v, args)
	case name == "SET" && len(args) > 1:
		return e.set(v, args)
	case name == "PEXPIRE" || name == "EXPIRE":
		return e.expire(v, name, args)
	case name == "PTTL" || name == "TTL":
		return e.left(v, name, args)
	case name == "PERSIST":
		return e.persist(v, args)
	}
	answer := e.dispatch(v, name, args...)
	switch name {
	case "DEL", "UNLINK":
		e.forgetExpiry(v.database, args...)
	case "HDEL", "ZREMRANGEBYSCORE":
		e.forgetExpiry(v.database, args[:min(1, len(args))]...)
	case "FLUSHALL":
		e.expiries.at = map[place]time.Time{}
	}
	return answer
}

// addEntry carries out XADD for a stream's next entry. The library gives the id of a deleted entry again.
func (e *engine) addEntry(v view, args []string) []byte {
	key := place{v.database, args[0]}
	if e.data.DB(v.database).Type(args[0]) != "stream" {
		delete(e.newest, key)
	}
	newest, id := e.newest[key], entryID{}
	if args[1] == "*" {
		id = later(entryID{uint64(e.now.UnixMilli()), 0}, entryID{newest[0], newest[1] + 1})
	} else if _, err := fmt.Sscanf(args[1], "%d-%d", &id[0], &id[1]); err != nil {
		return e.dispatch(v, "XADD", args...)
	} else if slices.Compare(id[:], newest[:]) <= 0 && id != (entryID{}) {
		return appendError(nil, "ERR The ID specified in XADD is equal or smaller than the target stream top item")
	}
	answer := e.dispatch(v, "XADD", append([]string{args[0], fmt.Sprintf("%d-%d", id[0], id[1])}, args[2:]...)...)
	if answer[0] == '$' {
		e.newest[key] = id
	}
	return answer
}

// entryID is the id of an entry in a stream: a time in milliseconds, and a number.
type entryID [2]uint64

// later returns the larger of two ids.
func later(a, b entryID) entryID {
	if slices.Compare(a[:], b[:]) > 0 {
		return a
	}
	return b
}

// add carries out HINCRBY or HINCRBYFLOAT.
func (e *engine) add(v view, name string, args []string) []byte {
	if failure := redisnumbers.Check(name, args[2]); failure != "" {
		return appendError(nil, failure)
	}
	said := e.dispatch(v, "HGET", args[0], args[1])
	if said[0] == '-' {
		return said
	}
	held, there := bulk(said)
	sum, failure := redisnumbers.Add(name, held, there, args[2])
	if failure != "" {
		return appendError(nil, failure)
	}
	e.dispatch(v, "HSET", args[0], args[1], sum)
	if name == "HINCRBY" {
		return append(append([]byte{':'}, sum...), "\r\n"...)
	}
	return appendBulk(nil, sum)
}

// noted returns the arguments of a write as the journal has them: with the id that an XADD got.
func noted(name string, args []string, answer []byte) []string {
	if name != "XADD" {
		return args
	}
	for i := 1; i < len(args); i++ {
		if args[i] == "*" {
			args = slices.Clone(args)
			args[i], _ = bulk(answer)
			break
		}
	}
	return args
}

// bulk returns the text of an answer that is a text, or false for one that there is none.
func bulk(answer []byte) (string, bool) {
	head, rest, _ := strings.Cut(string(answer), "\r\n")
	n, err := strconv.Atoi(head[1:])
	if head[0] != '$' || err != nil || n < 0 {
		return "", false
	}
	return rest[:n], true
}
