package flowexec

import (
	"context"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Connectors hands out connections to the stores that connectors' documents describe. *connector.Pool implements it.
type Connectors interface {
	// Get returns a hold on the connection of a connector: the caller closes it. The connection is opened at its first use; Get waits
	// for that until ctx ends.
	Get(ctx context.Context, c *definition.Connector) (connector.Connection, error)
}

// connect calls from.Get: it returns a hold on the connection of a connector, which the caller closes. If from is nil, it returns
// an error with the code UNKNOWN_CONNECTOR.
func connect(ctx context.Context, from Connectors, c *definition.Connector) (connector.Connection, error) {
	if from == nil {
		return nil, batch.Errorf(batch.CodeUnknownConnector, "connect to %s: this process was started without connectors: set LanesConfig.Connectors", c.Name)
	}
	return from.Get(ctx, c)
}
