package simredis

import (
	"bufio"
	"bytes"
	"crypto/sha1" //nolint:gosec // Redis names scripts so
	"encoding/hex"
	"fmt"
	"regexp"
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
	redis   *Redis
	data    *miniredis.Miniredis
	server  *server.Server
	numbers server.Hook
	answer  bytes.Buffer  // what commands answer
	into    *bufio.Writer // writes to answer

	conn   *conn // whose command is carried out; nil while writes are done again
	inside bool  // the command is carried out by hook itself
	wrote  bool  // the script that runs has written
	failed string
}

// newEngine makes an empty engine.
func newEngine(r *Redis) (*engine, error) {
	e := &engine{redis: r, data: miniredis.NewMiniRedis()}
	unused, err := e.data.Dial() // it makes the server, without a listener
	if err != nil {
		return nil, fmt.Errorf("start the simulated Redis: %w", err)
	}
	_ = unused.Close()
	e.into = bufio.NewWriter(&e.answer)
	e.server = e.data.Server()
	e.numbers = redisnumbers.Hook(e.server)
	e.server.SetPreHook(e.hook)
	e.data.SetTime(time.Now())
	e.data.ClockTTL(true)
	return e, nil
}

// close ends the engine.
func (e *engine) close() { e.data.Close() }

// at returns a database as it is now.
func (e *engine) at(database int) *miniredis.RedisDB {
	e.data.SetTime(time.Now())
	return e.data.DB(database)
}

// newPeer makes the engine's view of a connection.
func (e *engine) newPeer() *server.Peer { return server.NewPeer(e.into) }

// dispatch has the engine carry out a command of a client, and returns the answer.
func (e *engine) dispatch(p *server.Peer, name string, args []string) []byte {
	e.answer.Reset()
	e.server.Dispatch(p, append([]string{name}, args...))
	p.Flush()
	return slices.Clone(e.answer.Bytes())
}

// carryOut carries out a client's command on data.
func (e *engine) carryOut(c *conn, name string, args []string) []byte {
	e.data.SetTime(time.Now())
	e.conn, e.wrote, e.failed = c, false, ""
	answer := e.dispatch(c.peer, name, args)
	if (name == "EVAL" || name == "EVALSHA") && e.failed != "" && bytes.HasPrefix(answer, []byte("-ERR Error compiling script")) && bytes.Contains(answer, []byte(e.failed)) {
		// A command of the script failed, and the script with it.
		sha := args[0]
		if name == "EVAL" {
			sha = shaOf(args[0])
		}
		answer = appendError(nil, e.failed+" script: "+sha+", on @user_script:"+lineOf(string(answer))+".")
	}
	return answer
}

// again carries out a write of the journal.
func (e *engine) again(w Write) {
	e.data.SetTime(w.At)
	e.inside = true
	defer func() { e.inside = false }()
	p := e.newPeer()
	e.dispatch(p, "SELECT", []string{strconv.Itoa(w.Database)})
	if e.numbers(p, w.Name, w.Args...) {
		return
	}
	e.dispatch(p, w.Name, w.Args)
}

// hook treats a command before the engine does: one of a client, or one of a script. It returns true if the command is done.
func (e *engine) hook(p *server.Peer, name string, args ...string) bool {
	if e.inside {
		return false
	}
	if name == "PUBLISH" && len(args) == 2 {
		p.WriteInt(e.redis.publish(args[0], args[1]))
		return true
	}
	if text := e.redis.troubles.refusedWrite(name, e.wrote); text != "" {
		e.failed = text
		p.WriteError(text)
		return true
	}
	if _, ok := writes[name]; !ok {
		return false
	}
	e.inside = true
	defer func() { e.inside = false }()
	var answer bytes.Buffer
	into := bufio.NewWriter(&answer)
	inner := server.NewPeer(into)
	inner.Ctx, inner.Resp3 = p.Ctx, p.Resp3
	if !e.numbers(inner, name, args...) {
		e.server.Dispatch(inner, append([]string{name}, args...))
	}
	_ = into.Flush()
	p.Ctx = inner.Ctx
	said := answer.String()
	if strings.HasPrefix(said, "-") {
		e.failed = strings.TrimSuffix(said[1:], "\r\n")
	} else {
		e.wrote = true
		e.redis.note(e.conn, p != e.conn.peer, name, noted(name, args, said))
	}
	p.Block(func(w *server.Writer) { w.WriteRaw(said) })
	return true
}

// noted returns the arguments of a write as the journal has them: with the id that an XADD got.
func noted(name string, args []string, answer string) []string {
	if name != "XADD" {
		return args
	}
	_, id, _ := strings.Cut(strings.TrimSuffix(answer, "\r\n"), "\r\n")
	for i := 1; i < len(args); i++ {
		if args[i] == "*" {
			args = slices.Clone(args)
			args[i] = id
			break
		}
	}
	return args
}

// shaOf is the name that Redis gives to a script.
func shaOf(script string) string {
	sum := sha1.Sum([]byte(script)) //nolint:gosec // Redis names scripts so
	return hex.EncodeToString(sum[:])
}

// inLine finds the line of a script in an error of the script's interpreter.
var inLine = regexp.MustCompile(`<string>:(\d+):`)

// lineOf returns the line of a script in which a command failed, as the interpreter's error says. "1" if it does not say.
func lineOf(said string) string {
	if found := inLine.FindStringSubmatch(said); found != nil {
		return found[1]
	}
	return "1"
}
