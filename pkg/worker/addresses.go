package worker

import (
	"net"

	"github.com/kisgrid/kisgrid/internal/serve"
)

// advertised is where coordinators are to dial a worker that listens on an address.
func (c *Config) advertised(listening net.Addr) (string, error) {
	return serve.Advertised(c.Advertise, c.Listen, listening, c.Etcd.Endpoints)
}
