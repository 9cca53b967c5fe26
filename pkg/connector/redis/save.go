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
	call, err := c.encode(ctx, effects)
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
func (c *Connection) encode(ctx context.Context, effects []connector.Effect) (*call, error) {
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
		call.commands[i] = newCommand(ctx, args[first:len(args):len(args)])
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

func newCommand(ctx context.Context, args []any) goredis.Cmder {
	if args[0] == commandAddDecimal {
		return goredis.NewStringCmd(ctx, args...) // its answer is not a whole number
	}
	return goredis.NewIntCmd(ctx, args...)
}

// sendSaves is a round trip of Saves, and a second one where additions need another command.
func (c *Connection) sendSaves(ctx context.Context, calls []*call) {
	waited, failure := c.carryOut(ctx, calls)
	var again []*call
	for _, c := range calls {
		if slices.ContainsFunc(c.commands, isRefusedAddition) {
			again = append(again, &call{commands: decimalAdditions(ctx, c), gone: c.gone})
		}
	}
	if len(again) > 0 {
		var failed error
		waited, failed = c.carryOut(ctx, again)
		failure = errors.Join(failure, failed)
	}
	c.finish(calls, "saving", failure)
	c.waits.saved(ctx, calls, waited)
}

// carryOut is the one place where effects reach Redis. It tells whether somebody may wait for keys, and fails when too few
// replicas have what was saved.
func (c *Connection) carryOut(ctx context.Context, calls []*call) (waited bool, failure error) {
	var tail []goredis.Cmder
	copies := goredis.NewIntCmd(ctx, "wait", c.options.replicas, c.options.replicaTimeout.Milliseconds())
	if c.options.replicas > 0 {
		tail = append(tail, copies)
	}
	subscribers := goredis.NewMapStringIntCmd(ctx, "pubsub", "numsub", c.waits.anybody)
	if c.cluster == nil {
		tail = append(tail, subscribers)
	}
	c.roundTrip(ctx, "save", calls, tail...)
	n, failure := copies.Result()
	if failure == nil && n < int64(c.options.replicas) {
		failure = fmt.Errorf("%d of %d replicas had it after %v", n, c.options.replicas, c.options.replicaTimeout)
	}
	c.waits.allowed(subscribers.Err())
	// On a Cluster every node knows its own subscribers only: publish asks them all.
	return c.cluster != nil || subscribers.Val()[c.waits.anybody] > 0, failure
}

func isRefusedAddition(command goredis.Cmder) bool {
	err := command.Err()
	return err != nil && command.Args()[0] == commandAdd && isRefusal(err) && strings.Contains(err.Error(), "not an integer")
}

// decimalAdditions puts other commands in the place of the refused additions. They come behind what the call did after
// them, and Redis ends up the same: the order of additions makes no difference, and one whose field or key a later effect of
// the call sets or deletes is left out, as done.
func decimalAdditions(ctx context.Context, call *call) (again []goredis.Cmder) {
	type place struct{ key, field string }
	deleted, written := map[string]bool{}, map[place]bool{}
	for i, command := range slices.Backward(call.commands) {
		key, args := call.keys[i], command.Args()
		switch {
		case args[0] == commandDelete:
			deleted[key] = true
		case args[0] == commandSet:
			written[place{key, field(args)}] = true
		case !isRefusedAddition(command):
		case deleted[key], written[place{key, field(args)}]:
			command.SetErr(nil)
		default:
			call.commands[i] = newCommand(ctx, append([]any{commandAddDecimal}, args[1:]...))
			again = append(again, call.commands[i])
		}
	}
	return again
}

// field is the one that a command's arguments name.
func field(args []any) string {
	if text, ok := args[2].(*string); ok {
		return *text
	}
	return ""
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
