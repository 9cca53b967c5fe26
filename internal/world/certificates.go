package world

import (
	"path/filepath"
	"time"

	"github.com/kisgrid/kisgrid/internal/authority"
	"github.com/kisgrid/kisgrid/internal/transport"
)

// serverName is the name that every certificate of a simulated cluster has.
const serverName = "world.kisgrid"

// certificate makes the files of the certificate that all processes of a simulated cluster share, in the cluster's own folder. It is made
// in the bubble, whose time decides when it is valid.
func (w *world) certificate() (authority.Files, error) {
	a, err := authority.New("world", 10*365*24*time.Hour)
	if err != nil {
		return authority.Files{}, err
	}
	return a.Write(filepath.Join(w.folder, "tls"), authority.Leaf{Hosts: []string{serverName}})
}

// secured returns the transport settings of a process, without a network: with the certificate where the scenario asks for TLS.
func (w *world) secured() transport.Config {
	if !w.s.TLS {
		return transport.Config{}
	}
	return transport.Config{
		TLSCert: w.files.Cert, TLSKey: w.files.Key, TLSCA: w.files.CA, TLSServerName: serverName, RequireClientCert: true,
	}
}
