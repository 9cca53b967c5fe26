package redis

import (
	"cmp"
	"context"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// isClosing reports whether Close of the connection has begun.
func (c *Connection) isClosing() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

// ended is the error of a call whose context is over. doing says what the call did. If Redis can't be used at present, the error
// says why, since nothing else would tell the caller.
func (c *Connection) ended(ctx context.Context, doing string) error {
	err := connector.Ended(ctx, c.name, doing)
	down := c.Down()
	if down == nil {
		return err
	}
	return batch.Errorf(batch.CodeOf(err), "connector %s: %s at redis %s was not done in time: %w; redis can't be used: %v; %s",
		c.name, doing, c.addrs, ctx.Err(), down, c.advice(down))
}

// unavailable makes the error, with CodeConnectorUnavailable, of a call that Redis did not answer or did not carry out because of
// err. It says where Redis is and how to mend the fault. doing says what the call did.
func (c *Connection) unavailable(doing string, err error) error {
	return batch.Errorf(batch.CodeConnectorUnavailable, "connector %s: %s at redis %s: %w; %s", c.name, doing, c.addrs, err, c.advice(err))
}

// advice says how to mend a fault of Redis, for the end of an error.
func (c *Connection) advice(err error) string {
	return cmp.Or(storeAdvice(err, c.prefix), "see that Redis runs there and can be reached from here; then try again")
}

// refused makes the verdict, with this code, on one command that Redis refused because of its key or value, for example because
// the key holds a list. name is the Redis command.
func (c *Connection) refused(code batch.Code, name, key string, err error) error {
	advice := "give the row another key or value"
	switch text := said(err); {
	case faultOf(err) == keyFault, faultOf(err) == commandFault:
		advice = "give the user the rights to this key, or the row another one"
	case strings.HasPrefix(text, "WRONGTYPE"):
		advice = "the key holds another type: give the connector's document another key prefix, or delete the key"
	case strings.HasPrefix(text, "ERR hash value"), strings.HasPrefix(text, "ERR value is not"), strings.HasPrefix(text, "ERR value is NaN"):
		advice = "a number can only be added to a number"
	case strings.HasPrefix(text, "ERR increment"):
		advice = "the sum is too large: set the field anew"
	}
	return batch.Errorf(code, "connector %s: %s %q: %w; %s", c.name, name, key, err, advice)
}
