package world

import (
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/authority"
	"github.com/kisgrid/kisgrid/internal/transport"
)

// serverName is the name that every certificate of a simulated cluster has.
const serverName = "world.kisgrid"

// certificate makes the files of the certificate that all processes of all simulated clusters share, once in a test process. The first
// bubble makes it; every bubble begins at the same time, so it is valid in all of them.
var certificate = sync.OnceValues(func() (authority.Files, error) {
	dir, err := os.MkdirTemp("", "kisgrid-world-")
	if err != nil {
		return authority.Files{}, err
	}
	a, err := authority.New("world", 10*365*24*time.Hour)
	if err != nil {
		return authority.Files{}, err
	}
	return a.Write(filepath.Join(dir, "tls"), authority.Leaf{Hosts: []string{serverName}})
})

// secured returns the transport settings of a process, without a network: with the certificate where the scenario asks for TLS.
func (w *world) secured() transport.Config {
	if !w.s.TLS {
		return transport.Config{}
	}
	return transport.Config{
		TLSCert: w.files.Cert, TLSKey: w.files.Key, TLSCA: w.files.CA, TLSServerName: serverName, RequireClientCert: true,
	}
}
