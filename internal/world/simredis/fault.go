package simredis

import (
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Command is a command that has come from a client, for a Rule. It is as the client sent it.
type Command struct {
	// Number counts the commands of all clients, from 1.
	Number int
	// Name is the first word, in lower case. Args are the words behind it.
	Name string
	Args []string
	// Conn is the number of the connection, from 1, and Owner the process at its other end.
	Conn  int
	Owner string
}

// IsHandshake reports whether a command belongs to the beginning of a connection.
func (c Command) IsHandshake() bool {
	return slices.Contains([]string{"hello", "auth", "select", "client"}, c.Name)
}

// Fault is the treatment of one command. The zero Fault carries the command out, and answers it.
type Fault struct {
	// Answer, if it is not empty, is an error that the client gets in place of the answer.
	Answer string
	// Done means that the command is carried out, although the client gets another answer, or none.
	Done bool
	// Cut ends the connection after the first Bytes bytes of the answer.
	Cut   bool
	Bytes int
	// Delay is how late the answer is sent. Later commands of the connection wait for that.
	Delay time.Duration
	// Hang means that neither this command nor any later one of its connection is answered, until the connection is cut.
	Hang bool
}

// Rule returns the Fault for a command. Commands come to it one after the other. It must not call methods of Redis.
type Rule func(Command) Fault

// Let sets the rule for commands from now on. nil means that nothing goes wrong.
func (r *Redis) Let(rule Rule) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rule = rule
}

// At makes a Rule with a Fault for the n-th command from now on, counted from 1, of those with one of the names. No names mean all
// commands.
func At(n int, f Fault, names ...string) Rule {
	seen := 0
	return func(c Command) Fault {
		if len(names) > 0 && !slices.Contains(names, c.Name) {
			return Fault{}
		}
		if seen++; seen != n {
			return Fault{}
		}
		return f
	}
}

// Often makes a Rule with a random Fault (Any) for a share of commands, in thousandths. Nobody else may use random.
func Often(random *rand.Rand, share int, answers []string) Rule {
	return func(Command) Fault {
		if random.IntN(1000) >= share {
			return Fault{}
		}
		return Any(random, answers)
	}
}

// Any draws a Fault: an error, of answers, in place of the command; a cut before the command, behind it, or within its answer; or a late
// answer.
func Any(random *rand.Rand, answers []string) Fault {
	switch random.IntN(6) {
	case 0, 1:
		return Fault{Answer: answers[random.IntN(len(answers))]}
	case 2:
		return Fault{Done: true, Cut: true}
	case 3:
		return Fault{Cut: true}
	case 4:
		return Fault{Done: true, Cut: true, Bytes: 1 + random.IntN(8)}
	}
	return Fault{Delay: time.Duration(random.Int64N(int64(5 * time.Second)))}
}

// faultOf asks the rule about a command of a connection. r.mu is held.
func (r *Redis) faultOf(c *conn, args []string) Fault {
	r.commands++
	if r.rule == nil {
		return Fault{}
	}
	return r.rule(Command{Number: r.commands, Name: strings.ToLower(args[0]), Args: args[1:], Conn: c.number, Owner: c.owner})
}
