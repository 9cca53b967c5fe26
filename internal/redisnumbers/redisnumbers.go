// Package redisnumbers makes the Redis in memory that tests and demos use (miniredis) add numbers as Redis does. Its own HINCRBY and
// HINCRBYFLOAT accept other texts as numbers, compute with another precision, and know no overflow; tests would pass that fail with a real
// Redis.
package redisnumbers

import (
	"bufio"
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/alicebob/miniredis/v2/server"

	"github.com/kisgrid/kisgrid/pkg/connector"
)

// The errors of Redis about numbers.
const (
	notWhole      = "ERR value is not an integer or out of range"
	infinite      = "ERR value is NaN or Infinity"
	notFloat      = "ERR value is not a valid float"
	heldNotWhole  = "ERR hash value is not an integer"
	heldNotFloat  = "ERR hash value is not a float"
	noNumberSum   = "ERR increment would produce NaN or Infinity"
	wouldOverflow = "ERR increment or decrement would overflow"
)

// Commands are the commands that this package carries out.
var Commands = []string{"HINCRBY", "HINCRBYFLOAT"}

// Check returns the error of Redis, or none, if an addend is not a number that the command adds.
func Check(command, addend string) (failure string) {
	switch {
	case command == "HINCRBY" && !connector.IsWhole(addend):
		return notWhole
	case isInfinite(addend):
		return infinite
	case connector.CheckAddend(addend) != nil:
		return notFloat
	}
	return ""
}

// isInfinite reports whether a text is a spelling of infinity.
func isInfinite(text string) bool {
	switch strings.ToLower(strings.TrimLeft(text, "+-")) {
	case "inf", "infinity":
		return true
	}
	return false
}

// Add returns the text that a field has after the command has added addend, which has passed Check, to held. there is false if the field is
// not there. failure is the error of Redis, or empty.
func Add(command, held string, there bool, addend string) (sum, failure string) {
	switch {
	case !there:
		held = "0"
	case command == "HINCRBY" && !connector.IsWhole(held):
		return "", heldNotWhole
	case isInfinite(held):
		return "", noNumberSum
	case connector.CheckAddend(held) != nil:
		return "", heldNotFloat
	}
	if command == "HINCRBYFLOAT" && connector.IsWhole(held) {
		held += ".0" // so that the sum may be larger than a whole number may be
	}
	sum, err := connector.Add(held, addend)
	switch {
	case err == nil:
		return sum, ""
	case command == "HINCRBY":
		return "", wouldOverflow
	}
	return "", noNumberSum
}

// Hook returns a hook for s that carries out Commands as Redis does, for clients and for scripts. It passes on all other commands, and
// these with a wrong number of arguments.
func Hook(s *server.Server) server.Hook {
	return func(c *server.Peer, command string, args ...string) bool {
		if !slices.Contains(Commands, command) || len(args) != 3 {
			return false
		}
		if failure := Check(command, args[2]); failure != "" {
			c.WriteError(failure)
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
		if err != nil {
			c.WriteError(err.Error())
			return true
		}
		text, there := held.(string)
		sum, failure := Add(command, text, there, args[2])
		if failure != "" {
			c.WriteError(failure)
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
