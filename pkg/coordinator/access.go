package coordinator

import (
	"errors"
	"net"

	"github.com/kisgrid/kisgrid/internal/access"
)

// openAccess opens the access file of a configuration. It returns nil if there is none, and then logs a warning if everybody who reaches the
// ports from another machine may do everything.
func openAccess(c *Config) (*access.Guard, error) {
	encrypted := c.Transport.TLSCert != ""
	var ports []string // those that other machines may reach
	for _, l := range []net.Listener{c.Listener, c.HTTP} {
		if l != nil && !onLoopback(l.Addr()) {
			ports = append(ports, l.Addr().String())
		}
	}
	here := len(ports) == 0
	if c.AccessFile == "" {
		if !encrypted && !here {
			c.Logger.Warn("everybody who reaches these ports may submit rows, read dead letters and change flows: give certificates (--tls-cert, --tls-require-client-cert) "+
				"or an access file (--access-file), or let the ports be reached from this machine only (--listen, --http)", "ports", ports)
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
	case !c.AccessPlaintext && !here:
		return nil, errors.New("an access file needs TLS where a port can be reached from other machines, because tokens would travel in the open: " +
			"give --tls-cert, --tls-key and --tls-ca, or listen on 127.0.0.1 (--listen, --http), or say with --access-plaintext that something else encrypts the connections")
	}
	return guard, nil
}

// onLoopback reports whether only this machine can reach an address. An address that is none of TCP belongs to a test's network.
func onLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}
