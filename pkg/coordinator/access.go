package coordinator

import (
	"errors"
	"net"

	"github.com/kisgrid/kisgrid/internal/access"
)

// openAccess opens the access file of a configuration. It returns nil if there is none, and then logs a warning if everybody who reaches the
// port of the listener may do everything.
func openAccess(c *Config) (*access.Guard, error) {
	encrypted := c.Transport.TLSCert != ""
	if c.AccessFile == "" {
		if !encrypted && !onLoopback(c.Listener.Addr()) {
			c.Logger.Warn("everybody who reaches this port may submit rows, read dead letters and change flows: give certificates (--tls-cert, --tls-require-client-cert) "+
				"or an access file (--access-file), or let the port be reached from this machine only", "port", c.Listener.Addr().String())
		}
		return nil, nil
	}
	guard, err := access.Open(c.AccessFile, c.Logger.Named("access"))
	if err != nil {
		return nil, err
	}
	switch {
	case encrypted && c.Transport.TLSCA != "":
		return guard, guard.NeedProcesses()
	case encrypted:
		return nil, errors.New("an access file needs --tls-ca where there is TLS: without it workers and coordinators can't prove what they are")
	case !c.AccessPlaintext && !onLoopback(c.Listener.Addr()):
		return nil, errors.New("an access file needs TLS where the port can be reached from other machines, because tokens would travel in the open: " +
			"give --tls-cert, --tls-key and --tls-ca, or listen on 127.0.0.1, or say with --access-plaintext that something else encrypts the connections")
	}
	return guard, nil
}

// onLoopback reports whether only this machine can reach an address. An address that is none of TCP belongs to a test's network.
func onLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}
