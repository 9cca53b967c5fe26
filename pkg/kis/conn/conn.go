// Package conn makes connectors apart from those that flows share.
package conn

import "github.com/kisgrid/kisgrid/pkg/kis"

// NewKisConnector is a connector that the caller has to Init, with what kis.Pool has registered for its name.
func NewKisConnector(config *kis.ConnConfig) kis.Connector {
	return kis.NewConnector(kis.Pool(), config)
}
