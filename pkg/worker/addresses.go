package worker

import (
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/serve"
)

// listen opens a port, or, where that is in use and elsewhere will do, a free one.
func listen(ctx context.Context, address string, elsewhere bool, log hclog.Logger) (net.Listener, error) {
	l, err := serve.Listen(ctx, address)
	if err == nil || !elsewhere || !errors.Is(err, syscall.EADDRINUSE) {
		return l, err
	}
	host, _, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		return nil, err
	}
	if l, err = serve.Listen(ctx, net.JoinHostPort(host, "0")); err != nil {
		return nil, err
	}
	log.Warn("the port is in use, took a free one instead", "wanted", address, "listen", l.Addr().String())
	return l, nil
}

// advertised is where coordinators are to dial a worker that listens on an address.
func (c *Config) advertised(listening net.Addr) (string, error) {
	return serve.Advertised(c.Advertise, c.Listen, listening, c.Etcd.Endpoints)
}
