// Package redisnumbers makes the Redis in memory that tests and demos use (miniredis) add numbers as Redis does. Its own HINCRBY and
// HINCRBYFLOAT accept other texts as numbers, compute with another precision, and know no overflow; tests would pass that fail with a real
// Redis.
package redisnumbers

import (
	"bufio"
	"bytes"
	"strconv"

	"github.com/alicebob/miniredis/v2/server"

	"github.com/kisgrid/kisgrid/pkg/connector"
)

// Hook returns a hook for s that carries out HINCRBY and HINCRBYFLOAT as Redis does, for clients and for scripts. It passes on all other
// commands, and these with a wrong number of arguments.
func Hook(s *server.Server) server.Hook {
	return func(c *server.Peer, command string, args ...string) bool {
		if (command != "HINCRBY" && command != "HINCRBYFLOAT") || len(args) != 3 {
			return false
		}
		if command == "HINCRBY" && !connector.IsWhole(args[2]) {
			c.WriteError("ERR value is not an integer or out of range")
			return true
		}
		if connector.CheckAddend(args[2]) != nil {
			c.WriteError("ERR value is not a valid float")
			return true
		}
		ask := func(command ...string) (any, error) {
			var reply bytes.Buffer
			w := bufio.NewWriter(&reply)
			peer := server.NewPeer(w)
			peer.Ctx = c.Ctx // it has the number of the database, and whether a script calls
			s.Dispatch(peer, command)
			if err := w.Flush(); err != nil {
				return nil, err
			}
			return server.ParseReply(bufio.NewReader(&reply))
		}
		held, err := ask("HGET", args[0], args[1])
		text, there := held.(string)
		switch {
		case err != nil:
			c.WriteError(err.Error())
			return true
		case !there:
			text = "0"
		case command == "HINCRBY" && !connector.IsWhole(text):
			c.WriteError("ERR hash value is not an integer")
			return true
		case connector.CheckAddend(text) != nil:
			c.WriteError("ERR hash value is not a float")
			return true
		}
		sum, err := connector.Add(text, args[2])
		if err != nil {
			c.WriteError("ERR increment or decrement would overflow")
			return true
		}
		if _, err := ask("HSET", args[0], args[1], sum); err != nil {
			c.WriteError(err.Error())
			return true
		}
		if command == "HINCRBY" {
			n, _ := strconv.Atoi(sum) // it is whole
			c.WriteInt(n)
		} else {
			c.WriteBulk(sum)
		}
		return true
	}
}
