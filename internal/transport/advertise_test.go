package transport_test

import (
	"net"
	"testing"

	"github.com/kisgrid/kisgrid/internal/transport"
)

func TestAdvertised(t *testing.T) {
	everywhere := &net.TCPAddr{IP: net.IPv6unspecified, Port: 7700}
	here := []string{"127.0.0.1:2379", "http://localhost:2380", "[::1]:2381"}
	for name, c := range map[string]struct {
		given, listen string
		bound         net.Addr
		etcd          []string
		want          string
	}{
		"given":                      {"grid.example:80", ":7700", everywhere, nil, "grid.example:80"},
		"the host listened on":       {"", "10.1.2.3:0", everywhere, nil, "10.1.2.3:7700"},
		"the name listened on":       {"", "coordinator-0.grid:7700", everywhere, nil, "coordinator-0.grid:7700"},
		"everything is here":         {"", ":7700", everywhere, here, "127.0.0.1:7700"},
		"all interfaces, v4":         {"", "0.0.0.0:7700", everywhere, here, "127.0.0.1:7700"},
		"all interfaces, v6":         {"", "[::]:7700", everywhere, here, "127.0.0.1:7700"},
		"a given address of no host": {":7700", ":7700", everywhere, here, ""},
		"a given address of no port": {"grid.example", ":7700", everywhere, here, ""},
		"a listener without a port":  {"", "localhost", everywhere, here, ""},
	} {
		got, err := transport.Advertised(c.given, c.listen, c.bound, c.etcd)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: got %q (%v), want %q", name, got, err, c.want)
		}
	}
}

// TestAdvertisedElsewhere expects an address of this machine that is not its own loopback, if it has one.
func TestAdvertisedElsewhere(t *testing.T) {
	got, err := transport.Advertised("", ":7700", &net.TCPAddr{Port: 7700}, []string{"127.0.0.1:2379", "etcd-1:2379"})
	if err != nil {
		t.Skipf("this machine has no address but its loopback: %v", err)
	}
	host, port, err := net.SplitHostPort(got)
	if ip := net.ParseIP(host); err != nil || port != "7700" || ip == nil || ip.IsLoopback() || ip.IsUnspecified() {
		t.Errorf("got %q (%v), want an address that others can dial", got, err)
	}
}
