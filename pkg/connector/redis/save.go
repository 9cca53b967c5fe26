package redis

import (
	"context"

	"github.com/kisgrid/kisgrid/pkg/connector"
)

// Save implements connector.Connection. The effects of several callers may go to Redis in one script; those of one caller keep
// their order.
func (c *Connection) Save(ctx context.Context, cause connector.Cause, effects []connector.Effect) ([]error, error) {
	return c.guard.Save(effects, func(effects []connector.Effect) ([]error, error) { return c.save(ctx, cause, effects) })
}

// save is Save without the check for KisGrid's own keys.
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
		if part.over {
			return nil, connector.Superseded(c.name, cause.Log)
		}
		if part.givenUp {
			return nil, connector.GivenUp(c.name, &cause)
		}
	}
	return req.verdicts, nil
}
