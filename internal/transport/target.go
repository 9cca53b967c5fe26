package transport

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// defaultPort is the port of coordinators for clients, used for addresses without a port.
const defaultPort = "7700"

// httpPort is the port where coordinators take HTTP requests by default.
const httpPort = "7702"

// balanced is the gRPC service config that distributes calls and streams over all addresses of a target in turn.
const balanced = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// Resolve turns the address of a cluster into a target for Dial, with the options that belong to it. The address of a cluster is
// one address, a list separated by commas, or dns:///name:port. A target with another scheme than dns is returned unchanged. An
// address that can't be dialled is an error.
func Resolve(target string) (string, []grpc.DialOption, error) {
	dial := []grpc.DialOption{grpc.WithDefaultServiceConfig(balanced)}
	if scheme, rest, ok := strings.Cut(target, "://"); ok { // the target names its resolver, as dns:///name:7700 does
		if scheme == "http" || scheme == "https" {
			host, _, _ := strings.Cut(rest, "/")
			if h, port, err := net.SplitHostPort(host); err == nil && port == httpPort {
				host = net.JoinHostPort(h, defaultPort)
			}
			return "", nil, batch.Errorf(batch.CodeBadMessage, "the address %q begins with %s://: a coordinator's address for programs is host:port without it, such as %s; "+
				"its HTTP port (%s) is another one", target, scheme, host, httpPort)
		}
		if scheme != "dns" {
			return target, dial, nil
		}
		server, name, _ := strings.Cut(rest, "/")
		if _, _, err := parseAddress(name, defaultPort); err != nil {
			return "", nil, err
		}
		if server != "" {
			if _, _, err := parseAddress(server, "53"); err != nil {
				return "", nil, err
			}
		}
		return target, dial, nil
	}
	var addresses []resolver.Address
	for a := range strings.SplitSeq(target, ",") {
		if a = strings.TrimSpace(a); a == "" {
			continue
		}
		host, port, err := parseAddress(a, defaultPort)
		if err != nil {
			return "", nil, err
		}
		addresses = append(addresses, resolver.Address{Addr: net.JoinHostPort(host, port), ServerName: host})
	}
	switch len(addresses) {
	case 0:
		return "", nil, batch.Errorf(batch.CodeUnavailable, "dial %q: no address: name a coordinator as host:port, several as a comma list, or dns:///name:port", target)
	case 1:
		return "dns:///" + addresses[0].Addr, dial, nil // one name may have the addresses of several coordinators
	}
	// A list has one address for each coordinator. Under TLS the certificate of each is checked for its own name.
	list := manual.NewBuilderWithScheme("kisgrid")
	list.InitialState(resolver.State{Addresses: addresses})
	return list.Scheme() + ":///" + addresses[0].Addr, append(dial, grpc.WithResolvers(list)), nil
}

// CheckAddress returns nil for an address of the form host:port that can be dialled, and else an error that says what is wrong
// with it.
func CheckAddress(a string) error {
	_, _, err := parseAddress(a, "")
	return err
}

// parseAddress splits an address into host and port. For an address without a port it returns standard as the port. An error
// names the mistake in the address.
func parseAddress(a, standard string) (host, port string, err error) {
	wrong := func(why string) (string, string, error) {
		return "", "", batch.Errorf(batch.CodeBadMessage, "dial %q: %s: write host:port, or [address]:port where the address is IPv6", a, why)
	}
	host, port = hostPort(a, standard)
	bracketed := strings.HasPrefix(a, "[")
	switch {
	case a == "":
		return wrong("the address is empty")
	case strings.ContainsAny(host, "[]") || bracketed != strings.Contains(a, "]"):
		return wrong("a bracket is not closed, or is not around the host")
	case strings.ContainsFunc(host, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`/\?#@"`, r)
	}) || !utf8.ValidString(host):
		return wrong("the host has a character that no host name can have")
	case bracketed || strings.Contains(host, ":"):
		if ip, err := netip.ParseAddr(host); err != nil || ip.Is4() {
			return wrong("the host has colons or brackets and is not an IPv6 address")
		}
	}
	if port == "" {
		return wrong("the port after the colon is missing")
	}
	if number, err := strconv.Atoi(port); err == nil {
		if number < 1 || number > math.MaxUint16 {
			return wrong(fmt.Sprintf("port %d is not between 1 and %d", number, math.MaxUint16))
		}
	} else if _, err := net.LookupPort("tcp", port); err != nil { //nolint:noctx // it reads a file of this machine
		return wrong(fmt.Sprintf("port %q is not a number, and not the name of a service", port))
	}
	return host, port, nil
}
