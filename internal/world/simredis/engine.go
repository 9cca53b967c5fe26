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
	e := &engine{redis: r, data: miniredis.NewMiniRedis(), peers: map[view]*server.Peer{}}
	unused, err := e.data.Dial() // it makes the server, without a listener
	if err != nil {
		return nil, fmt.Errorf("start the simulated Redis: %w", err)
	}
	_ = unused.Close()
	e.into = bufio.NewWriter(&e.out)
	e.server = e.data.Server()
	e.data.SetTime(time.Now())
	e.data.ClockTTL(true)
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
	e.data.SetTime(time.Now())
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
	return e.out.Bytes()
}

// carryOut carries out a client's command on data. The answer is the caller's.
func (e *engine) carryOut(c *conn, name string, args []string) []byte {
	e.data.SetTime(time.Now())
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
	answer := e.do(v, name, args)
	if _, ok := writes[name]; ok && answer[0] != '-' {
		e.wrote = true
		e.redis.note(e.conn, script, name, noted(name, args, answer))
	}
	return answer
}

// again carries out a write of the journal.
func (e *engine) again(w Write) {
	e.data.SetTime(w.At)
	e.do(view{database: w.Database}, w.Name, w.Args)
}

// do carries out a command, whatever state Redis is in.
func (e *engine) do(v view, name string, args []string) []byte {
	if len(args) == 3 && slices.Contains(redisnumbers.Commands, name) {
		return e.add(v, name, args)
	}
	return e.dispatch(v, name, args...)
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
