package coordinator

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/transport"
)

// portAt is a listener that has only an address.
type portAt struct {
	net.Listener
	address string
}

// Addr implements net.Listener.
func (p portAt) Addr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(p.address)) }

// TestOpenPorts looks at which configurations start with a warning, and at which do not start, by the addresses of their ports, TLS and the access
// file. A warning names the ports that other machines reach, and no other.
func TestOpenPorts(t *testing.T) {
	const here, there, anywhere = "127.0.0.1:7700", "10.1.2.3:7702", "[::]:7700"
	var f accessFile
	f.add("root", "'*'", access.Rights())
	file := f.write(t)
	certificate := transport.Config{TLSCert: "c.pem", TLSKey: "k.pem"}
	both := transport.Config{TLSCert: "c.pem", TLSKey: "k.pem", TLSCA: "ca.pem"}
	for name, c := range map[string]struct {
		grpc, http string
		file       string
		transport  transport.Config
		plaintext  bool
		warns      string // the ports that the warning names; empty means no warning
		fails      string // what the error says; empty means none
	}{
		"this machine only":               {grpc: here, http: "[::1]:7702"},
		"this machine only, without HTTP": {grpc: here},
		"gRPC from everywhere":            {grpc: anywhere, http: "127.0.0.1:7702", warns: "[" + anywhere + "]"},
		"HTTP from everywhere":            {grpc: here, http: there, warns: "[" + there + "]"},
		"both from everywhere":            {grpc: anywhere, http: there, warns: "[" + anywhere + ", " + there + "]"},
		"with TLS":                        {grpc: anywhere, http: there, transport: certificate},

		"a file on this machine":             {grpc: here, http: "[::1]:7702", file: file},
		"a file without TLS":                 {grpc: anywhere, file: file, fails: "needs TLS"},
		"a file without TLS, by HTTP only":   {grpc: here, http: there, file: file, fails: "needs TLS"},
		"a file where others encrypt":        {grpc: anywhere, http: there, file: file, plaintext: true},
		"a file without an authority":        {grpc: here, file: file, transport: certificate, fails: "--tls-ca"},
		"a file without processes":           {grpc: here, file: file, transport: both, fails: "coordinators is missing"},
		"a file that is missing":             {grpc: here, file: file + ".none", fails: "no such file"},
		"a file without processes elsewhere": {grpc: anywhere, file: file, transport: both, fails: "coordinators is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			var log lockedBuffer
			config := Config{Listener: portAt{address: c.grpc}, AccessFile: c.file, AccessPlaintext: c.plaintext, Transport: c.transport, Logger: hclog.New(&hclog.LoggerOptions{Output: &log})}
			if c.http != "" {
				config.HTTP = portAt{address: c.http}
			}
			guard, err := openAccess(&config)
			if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Fatalf("it fails with %v, want %q", err, c.fails)
			}
			if err == nil && (guard != nil) != (c.file != "") {
				t.Errorf("the guard is %v", guard)
			}
			said := strings.ReplaceAll(log.String(), "\"", "")
			if (said != "") != (c.warns != "") || !strings.Contains(said, "ports="+c.warns) && c.warns != "" {
				t.Errorf("it warns %q, want the ports %s", said, c.warns)
			}
		})
	}
}
