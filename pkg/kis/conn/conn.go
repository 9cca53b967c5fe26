// Package conn makes connectors that flows do not share.
package conn

import "github.com/kisgrid/kisgrid/pkg/kis"

// NewKisConnector makes a connector that no flow uses, and that the caller opens with Init. It calls the functions that are
// registered with kis.Pool for the connector's name.
func NewKisConnector(config *kis.ConnConfig) kis.Connector {
	return kis.NewConnector(kis.Pool(), config)
}
