package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// Save carries out effects in order. Saves of other callers may go in the same round trip, each in its own order.
func (c *Connection) Save(ctx context.Context, effects []connector.Effect) ([]error, error) {
	if len(effects) == 0 {
		return nil, nil
	}
	call, err := c.encode(effects)
	if err != nil {
		return nil, err
	}
	if err := c.saves.do(ctx, call, "saving"); err != nil {
		return nil, err
	}
	return c.verdicts(call), nil
}

// The commands of effects.
const (
	commandSet        = "hset"
	commandAdd        = "hincrby"
	commandAddDecimal = "hincrbyfloat"
	commandAppend     = "rpush"
	commandDelete     = "del"
)

// encode turns effects into commands. They hold no memory of the effects' owner: a caller that gives up may leave.
func (c *Connection) encode(effects []connector.Effect) (*call, error) {
	n := len(effects)
	call := &call{commands: make([]goredis.Cmder, n), keys: make([]string, n)}
	// The arguments of all commands lie in one slice and point into two others: a string in an any would be an allocation.
	args, texts := make([]any, 0, 4*n), make([]string, 0, 2*n)
	text := func(s string) *string {
		texts = append(texts, s)
		call.bytes += len(s)
		return &texts[len(texts)-1]
	}
	for i := range effects {
		e, first := &effects[i], len(args)
		call.keys[i] = c.prefix + e.Key
		call.bytes += len(call.keys[i])
		switch e.Op {
		case connector.Set:
			args = append(args, commandSet, &call.keys[i], text(e.Field), text(e.Value))
		case connector.Incr:
			args = append(args, addition(e.Value), &call.keys[i], text(e.Field), text(e.Value))
		case connector.Append:
			args = append(args, commandAppend, &call.keys[i], text(e.Value))
		case connector.Delete:
			args = append(args, commandDelete, &call.keys[i])
		default:
			return nil, batch.Errorf(batch.CodeInternal, "connector %s: function %s made an effect of kind %d, which is none; report this", c.name, e.Function, e.Op)
		}
		call.commands[i] = command(c.ctx, args[first:len(args):len(args)])
	}
	return call, nil
}

// addition chooses the command: adding whole numbers takes Redis half the time.
func addition(value string) string {
	if _, err := strconv.ParseInt(value, 10, 64); err == nil {
		return commandAdd
	}
	return commandAddDecimal
}

func command(ctx context.Context, args []any) goredis.Cmder {
	if args[0] == commandAddDecimal {
		return goredis.NewStringCmd(ctx, args...) // its answer is not a whole number
	}
	return goredis.NewIntCmd(ctx, args...)
}

// sendSaves is a round trip of Saves: the one place where effects reach Redis.
func (c *Connection) sendSaves(calls []*call) {
	var tail []goredis.Cmder
	var copies *goredis.IntCmd
	if c.options.replicas > 0 {
		copies = goredis.NewIntCmd(c.ctx, "wait", c.options.replicas, c.options.replicaTimeout.Milliseconds())
		tail = append(tail, copies)
	}
	var audience *goredis.MapStringIntCmd
	if c.cluster == nil {
		audience = c.waits.audience()
		tail = append(tail, audience)
	}
	c.roundTrip("save", commands(calls), tail...)
	c.addToDecimals(calls)
	c.finish(calls, "saving", c.replicated(copies))
	c.waits.saved(calls, audience)
}

// replicated is nil when as many replicas as the document asks for have what was saved.
func (c *Connection) replicated(copies *goredis.IntCmd) error {
	if copies == nil {
		return nil
	}
	n, err := copies.Result()
	if err == nil && n < int64(c.options.replicas) {
		err = fmt.Errorf("%d of %d replicas had it after %v", n, c.options.replicas, c.options.replicaTimeout)
	}
	return err
}

// addToDecimals adds the whole numbers that Redis refused to add to a decimal one, with the command for those.
func (c *Connection) addToDecimals(calls []*call) {
	var again []goredis.Cmder
	for _, call := range calls {
		if slices.ContainsFunc(call.commands, isRefusedAddition) {
			again = append(again, c.decimalAdditions(call)...)
		}
	}
	if len(again) > 0 {
		c.roundTrip("save", again)
	}
}

func isRefusedAddition(command goredis.Cmder) bool {
	err := command.Err()
	return err != nil && command.Args()[0] == commandAdd && isRefusal(err) && strings.Contains(err.Error(), "not an integer")
}

// decimalAdditions puts other commands in the place of the refused additions. They come behind what the call did after
// them, and nobody can tell: the order of additions makes no difference, and one whose field or key a later effect of the
// call sets or deletes is left out.
func (c *Connection) decimalAdditions(call *call) (again []goredis.Cmder) {
	type place struct {
		key, field string
		whole      bool
	}
	overwritten := map[place]bool{}
	for i, refused := range slices.Backward(call.commands) {
		key, args := call.keys[i], refused.Args()
		switch {
		case args[0] == commandDelete:
			overwritten[place{key: key, whole: true}] = true
		case args[0] == commandSet:
			overwritten[place{key: key, field: *args[2].(*string)}] = true
		case !isRefusedAddition(refused):
		case overwritten[place{key: key, whole: true}] || overwritten[place{key: key, field: *args[2].(*string)}]:
			refused.SetErr(nil)
		default:
			call.commands[i] = command(c.ctx, append([]any{commandAddDecimal}, args[1:]...))
			again = append(again, call.commands[i])
		}
	}
	return again
}

// verdicts are what the effects' caller is told: nil when all took place.
func (c *Connection) verdicts(call *call) []error {
	var verdicts []error
	for i, command := range call.commands {
		if err := command.Err(); err != nil {
			if verdicts == nil {
				verdicts = make([]error, len(call.commands))
			}
			verdicts[i] = c.refused(batch.CodeSaveFailed, command, call.keys[i], err)
		}
	}
	return verdicts
}

// refused is the verdict on one command that Redis understood but did not carry out.
func (c *Connection) refused(code batch.Code, command goredis.Cmder, key string, err error) error {
	advice := "a number can only be added to a number"
	var answer goredis.Error
	if errors.As(err, &answer) && strings.HasPrefix(answer.Error(), "WRONGTYPE ") {
		advice = "the key holds another type: give the connector's document another key prefix, or delete the key"
	}
	return batch.Errorf(code, "connector %s: %s %q: %w; %s", c.name, strings.ToUpper(command.Name()), key, err, advice)
}
