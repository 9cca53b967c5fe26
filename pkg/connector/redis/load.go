package redis

import (
	"cmp"
	"context"
	"slices"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// Load implements connector.Connection. The keys of several callers may go to Redis in one round trip.
func (c *Connection) Load(ctx context.Context, keys []string) ([]connector.Value, error) {
	return c.guard.Load(keys, func(keys []string) ([]connector.Value, error) { return c.load(ctx, keys) })
}

// load is Load without the check for KisGrid's own keys.
func (c *Connection) load(ctx context.Context, keys []string) ([]connector.Value, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	req := &request{commands: make([]goredis.Cmder, len(keys)), keys: make([]string, len(keys))}
	hashes := make([]*goredis.StringSliceCmd, len(keys)) // the commands
	args := make([]any, 0, 2*len(keys))
	for i, key := range keys {
		req.keys[i] = c.prefix + key
		req.bytes += len(req.keys[i])
		args = append(args, "hgetall", &req.keys[i])
		hashes[i] = goredis.NewStringSliceCmd(ctx, args[2*i:2*i+2:2*i+2]...)
		hashes[i].SetErr(errUnsent)
		req.commands[i] = hashes[i]
		if err := c.settings.checkLength(req.keys[i]); err != nil {
			req.refuse(i, batch.Errorf(batch.CodeConversionFailed, "connector %s: %w", c.name, err))
		}
	}
	if err := c.loads.do(ctx, req, "loading"); err != nil {
		return nil, err
	}
	return values(req, hashes), nil
}

// loadTrip is the trip of a batch of Loads. One sender owns it. If an answer does not tell whose fault it is, the key is asked
// for once more, beside a control, which reads a key of KisGrid's own. If the control can be read, it was the key's own fault.
type loadTrip struct {
	conn    *Connection
	reqs    []*request              // the requests whose callers wait
	retried map[goredis.Cmder]bool  // keys that were asked for once more
	control *goredis.StringSliceCmd // reads a key of KisGrid's own
	works   bool                    // Redis has answered the value of some key
}

// sendLoads makes one round trip of a batch of Loads, and finishes them.
func (c *Connection) sendLoads(ctx context.Context, reqs []*request) {
	t := &loadTrip{conn: c, reqs: slices.Clone(reqs)}
	c.roundTrip(ctx, "load", t)
	c.loads.finish(t.reqs, "loading")
}

// commands implements trip: it returns the commands of the keys that have neither a value nor a verdict.
func (t *loadTrip) commands(ctx context.Context) []goredis.Cmder {
	n := 0
	for _, req := range t.reqs {
		n += len(req.commands)
	}
	commands := make([]goredis.Cmder, 0, n+1)
	for _, req := range t.reqs {
		if req.abandoned() {
			continue
		}
		for i, command := range req.commands {
			if !req.settled(i) {
				commands = append(commands, command)
			}
		}
	}
	if len(commands) > 0 && len(t.retried) > 0 && !t.works {
		t.control = goredis.NewStringSliceCmd(ctx, "hgetall", t.conn.prefix+t.conn.probeKey(0))
		commands = append(commands, t.control)
	}
	return commands
}

// settle implements trip: it gives keys their verdicts, reports to the connection's health, and finishes the requests whose keys
// are all settled.
func (t *loadTrip) settle(context.Context) error {
	t.works = t.works || t.control != nil && t.control.Err() == nil
	for _, req := range t.reqs {
		for _, command := range req.commands {
			t.works = t.works || command.Err() == nil
		}
	}
	failure := t.judge()
	if failure != nil || t.works {
		t.conn.health.answersLoads(failure)
	}
	var over []*request
	t.reqs = slices.DeleteFunc(t.reqs, func(req *request) bool {
		for i := range req.commands {
			if !req.settled(i) {
				return false
			}
		}
		over = append(over, req)
		return true
	})
	t.conn.loads.finish(over, "loading")
	return failure
}

// judge sets the verdict on keys that can't be read by their own fault. It returns the first error that is the fault of Redis,
// and nil if there is none.
func (t *loadTrip) judge() (failure error) {
	for _, req := range t.reqs {
		if req.abandoned() {
			continue
		}
		for i, command := range req.commands {
			if req.settled(i) {
				continue
			}
			err := command.Err()
			switch f := faultOf(err); {
			case f == storeFault:
				failure = cmp.Or(failure, err)
			case f == rowFault, t.retried[command] && t.works:
				req.refuse(i, t.conn.refused(batch.CodeConversionFailed, "HGETALL", req.keys[i], err))
			case t.retried[command]:
				failure = cmp.Or(failure, err)
			default:
				if t.retried == nil {
					t.retried = make(map[goredis.Cmder]bool)
				}
				pointLoadAlone.Hit()
				t.retried[command] = true
			}
		}
	}
	return failure
}

// partly implements trip: it reports whether Redis has answered the value of any key.
func (t *loadTrip) partly() bool { return t.works }

// values makes the result of a Load from the answers of its commands.
func values(req *request, hashes []*goredis.StringSliceCmd) []connector.Value {
	n := 0
	for _, hash := range hashes {
		n += len(hash.Val()) / 2
	}
	fields := make([]connector.Field, 0, n) // of all keys
	values := make([]connector.Value, len(hashes))
	for i, hash := range hashes {
		if req.verdicts != nil && req.verdicts[i] != nil {
			values[i].Err = req.verdicts[i]
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
