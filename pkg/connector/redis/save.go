package redis

import (
	"context"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
)

// Save implements connector.Connection. The effects of several callers may go to Redis in one script; those of one caller keep
// their order.
func (c *Connection) Save(ctx context.Context, cause connector.Cause, effects []connector.Effect) ([]error, error) {
	return c.guard.Save(effects, func(effects []connector.Effect) ([]error, error) { return c.save(ctx, cause, effects) })
}

// save is Save for effects whose keys rows may use.
func (c *Connection) save(ctx context.Context, cause connector.Cause, effects []connector.Effect) ([]error, error) {
	if len(effects) == 0 {
		return nil, nil
	}
	if err := c.windows.admit(ctx, &cause, c.now()); err != nil {
		return nil, err
	}
	req, err := c.encode(&cause, effects)
	if err != nil {
		return nil, err
	}
	if len(req.parts) == 0 {
		return req.verdicts, nil
	}
	if err := c.saves.do(ctx, req, "saving"); err != nil {
		return nil, err
	}
	for _, part := range req.parts {
		if part.givenUp {
			return nil, connector.GivenUp(c.name, &cause)
		}
	}
	return req.verdicts, nil
}

// refused is the verdict on one command that Redis refused by the command's own fault. name is the Redis command.
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
