package redis

import (
	"cmp"
	"context"
	"slices"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// Load reads hashes. Loads of other callers may go in the same round trip.
func (c *Connection) Load(ctx context.Context, keys []string) ([]connector.Value, error) {
	return c.guard.Load(keys, func(keys []string) ([]connector.Value, error) { return c.load(ctx, keys) })
}

func (c *Connection) load(ctx context.Context, keys []string) ([]connector.Value, error) {
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
		hashes[i].SetErr(errUnsent)
		call.commands[i] = hashes[i]
		if err := c.checkLength(call.keys[i]); err != nil {
			call.refuse(i, batch.Errorf(batch.CodeConversionFailed, "connector %s: %w", c.name, err))
		}
	}
	if err := c.loads.do(ctx, call, "loading"); err != nil {
		return nil, err
	}
	return values(call, hashes), nil
}

// loading is a round trip of Loads on its way. One sender owns it. An answer that no list here tells whose fault it is of is asked
// for once more, beside another key's.
type loading struct {
	conn   *Connection
	calls  []*call // that have not been let go
	again  map[goredis.Cmder]bool
	beside *goredis.StringSliceCmd // of a key of our own
	read   bool                    // Redis has answered with what a key holds
}

// sendLoads is a round trip of Loads.
func (c *Connection) sendLoads(ctx context.Context, calls []*call) {
	t := &loading{conn: c, calls: slices.Clone(calls)}
	c.roundTrip(ctx, "load", t)
	c.finish(t.calls, "loading")
}

// commands implements trip.
func (t *loading) commands(ctx context.Context) []goredis.Cmder {
	n := 0
	for _, call := range t.calls {
		n += len(call.commands)
	}
	commands := make([]goredis.Cmder, 0, n+1)
	for _, call := range t.calls {
		if call.abandoned() {
			continue
		}
		for i, command := range call.commands {
			if !call.settled(i) {
				commands = append(commands, command)
			}
		}
	}
	if len(commands) > 0 && len(t.again) > 0 && !t.read {
		t.beside = goredis.NewStringSliceCmd(ctx, "hgetall", t.conn.prefix+t.conn.probeKey(0))
		commands = append(commands, t.beside)
	}
	return commands
}

// settle implements trip.
func (t *loading) settle(context.Context) error {
	t.read = t.read || t.beside != nil && t.beside.Err() == nil
	for _, call := range t.calls {
		for _, command := range call.commands {
			t.read = t.read || command.Err() == nil
		}
	}
	failure := t.judge()
	if failure != nil || t.read {
		t.conn.answersLoads(failure)
	}
	var over []*call
	t.calls = slices.DeleteFunc(t.calls, func(call *call) bool {
		for i := range call.commands {
			if !call.settled(i) {
				return false
			}
		}
		over = append(over, call)
		return true
	})
	t.conn.finish(over, "loading")
	return failure
}

// judge gives keys that can't be read by their own fault their verdicts. It returns the first failure that is the store's.
func (t *loading) judge() (failure error) {
	for _, call := range t.calls {
		if call.abandoned() {
			continue
		}
		for i, command := range call.commands {
			if call.settled(i) {
				continue
			}
			err := command.Err()
			switch f := faultOf(err); {
			case f == storeFault:
				failure = cmp.Or(failure, err)
			case f == rowFault, t.again[command] && t.read:
				call.refuse(i, t.conn.refused(batch.CodeConversionFailed, "HGETALL", call.keys[i], err))
			case t.again[command]:
				failure = cmp.Or(failure, err)
			default:
				if t.again == nil {
					t.again = make(map[goredis.Cmder]bool)
				}
				t.again[command] = true
			}
		}
	}
	return failure
}

// partly implements trip.
func (t *loading) partly() bool { return t.read }

// values are the answers to a Load.
func values(call *call, hashes []*goredis.StringSliceCmd) []connector.Value {
	n := 0
	for _, hash := range hashes {
		n += len(hash.Val()) / 2
	}
	fields := make([]connector.Field, 0, n) // of all keys
	values := make([]connector.Value, len(hashes))
	for i, hash := range hashes {
		if call.verdicts != nil && call.verdicts[i] != nil {
			values[i].Err = call.verdicts[i]
			continue
		}
		flat := hash.Val()
		first := len(fields)
		for j := 0; j+1 < len(flat); j += 2 {
			fields = append(fields, connector.Field{Name: flat[j], Value: flat[j+1]})
		}
		values[i].Fields = fields[first:len(fields):len(fields)]
	}
	return values
}
