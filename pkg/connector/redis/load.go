package redis

import (
	"context"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// Load reads hashes. Loads of other callers may go in the same round trip.
func (c *Connection) Load(ctx context.Context, keys []string) ([]connector.Value, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	call := &call{commands: make([]goredis.Cmder, len(keys)), keys: make([]string, len(keys))}
	hashes := make([]*goredis.StringSliceCmd, len(keys)) // the commands
	args := make([]any, 0, 2*len(keys))
	for i, key := range keys {
		call.keys[i] = c.prefix + key
		call.bytes += len(call.keys[i])
		args = append(args, "hgetall", &call.keys[i])
		hashes[i] = goredis.NewStringSliceCmd(ctx, args[2*i:2*i+2:2*i+2]...)
		call.commands[i] = hashes[i]
	}
	if err := c.loads.do(ctx, call, "loading"); err != nil {
		return nil, err
	}
	return c.values(call.keys, hashes), nil
}

// sendLoads is a round trip of Loads.
func (c *Connection) sendLoads(ctx context.Context, calls []*call) {
	first := true
	c.roundTrip(ctx, "load", func(context.Context) ([]goredis.Cmder, error) {
		if first {
			first = false
			return commands(calls), nil
		}
		return unanswered(calls)
	})
	c.finish(calls, "loading", nil)
}

// values are the answers to a Load.
func (c *Connection) values(keys []string, hashes []*goredis.StringSliceCmd) []connector.Value {
	n := 0
	for _, hash := range hashes {
		n += len(hash.Val()) / 2
	}
	fields := make([]connector.Field, 0, n) // of all keys
	values := make([]connector.Value, len(hashes))
	for i, hash := range hashes {
		flat, err := hash.Result()
		if err != nil {
			values[i].Err = c.refused(batch.CodeConversionFailed, "HGETALL", keys[i], err)
			continue
		}
		first := len(fields)
		for j := 0; j+1 < len(flat); j += 2 {
			fields = append(fields, connector.Field{Name: flat[j], Value: flat[j+1]})
		}
		values[i].Fields = fields[first:len(fields):len(fields)]
	}
	return values
}

// commands are those of all calls.
func commands(calls []*call) []goredis.Cmder {
	if len(calls) == 1 {
		return calls[0].commands
	}
	n := 0
	for _, call := range calls {
		n += len(call.commands)
	}
	all := make([]goredis.Cmder, 0, n)
	for _, call := range calls {
		all = append(all, call.commands...)
	}
	return all
}
