package serve_test

import (
	"net"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/serve"
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
		got, err := serve.Advertised(nil, c.given, c.listen, c.bound, c.etcd)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: got %q (%v), want %q", name, got, err, c.want)
		}
	}
}

// TestAdvertisedElsewhere expects an address of this machine that is not its own loopback, if it has one.
func TestAdvertisedElsewhere(t *testing.T) {
	got, err := serve.Advertised(nil, "", ":7700", &net.TCPAddr{Port: 7700}, []string{"127.0.0.1:2379", "etcd-1:2379"})
	if err != nil {
		t.Skipf("this machine has no address but its loopback: %v", err)
	}
	host, port, err := net.SplitHostPort(got)
	if ip := net.ParseIP(host); err != nil || port != "7700" || ip == nil || ip.IsLoopback() || ip.IsUnspecified() {
		t.Errorf("got %q (%v), want an address that others can dial", got, err)
	}
}

func TestOnlyHere(t *testing.T) {
	t.Parallel()
	for address, here := range map[string]bool{
		"127.0.0.1:7701": true, "127.8.0.1:7701": true, "[::1]:7701": true, "[::ffff:127.0.0.1]:7701": true, "localhost:7701": true, "LOCALHOST.:7701": true,
		"a.localhost:7701": true, "0.0.0.0:7701": true, "[::]:7701": true, ":7701": true, "10.0.0.1:7701": false, "[fe80::1%eth0]:7701": false,
		"grid:7701": false, "localhost.example:7701": false, "127.example:7701": false,
	} {
		if got := serve.OnlyHere(address); got != here {
			t.Errorf("%s means any machine: %t, want %t", address, got, here)
		}
	}
}

func TestElsewhere(t *testing.T) {
	t.Parallel()
	for address, elsewhere := range map[string]bool{
		"192.0.2.1:7700": true, "[2001:db8::1]:7700": true, "127.0.0.1:7700": false, "localhost:7700": false, "0.0.0.0:7700": false, ":7700": false,
		"no-such-name.invalid:7700": false, "port after the colon is missing": false,
	} {
		if got := serve.Elsewhere(t.Context(), nil, address); got != elsewhere {
			t.Errorf("%s is elsewhere: %t, want %t", address, got, elsewhere)
		}
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		if n, ok := a.(*net.IPNet); ok && serve.Elsewhere(t.Context(), nil, net.JoinHostPort(n.IP.String(), "7700")) {
			t.Errorf("%s is this machine's, and said to be elsewhere", n.IP)
		}
	}
}

func TestAddressThatCannotBeIsNotAdvertised(t *testing.T) {
	if _, err := serve.Advertised(nil, "host:99999", ":7700", &net.TCPAddr{}, nil); err == nil || !strings.Contains(err.Error(), "port 99999") {
		t.Errorf("an address to advertise that can't be: %v", err)
	}
}
