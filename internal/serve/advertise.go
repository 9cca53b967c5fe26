package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/kisgrid/kisgrid/internal/network"
	"github.com/kisgrid/kisgrid/internal/transport"
)

// Advertised returns the address at which other processes should dial this process, whose machine is in a network; nil means the real
// one. listen is the address that was given to
// the listener, and bound the address that it really has. The host is the first of these that is known:
//
//  1. given, which is then returned as it is;
//  2. the host of listen;
//  3. 127.0.0.1, when all endpoints of etcd are on this machine;
//  4. the first address of this machine that is neither a loopback nor a link-local address.
//
// The port is the port of bound.
func Advertised(in network.Network, given, listen string, bound net.Addr, etcd []string) (string, error) {
	if given != "" {
		host, port, err := net.SplitHostPort(given)
		if err != nil || host == "" || port == "" {
			return "", fmt.Errorf("--advertise %q: give host:port, at which other machines can dial this process", given)
		}
		if err := transport.CheckAddress(given); err != nil {
			return "", fmt.Errorf("--advertise %q: other machines can't dial it: %w", given, err)
		}
		return given, nil
	}
	_, port, err := net.SplitHostPort(bound.String())
	if err != nil {
		return "", fmt.Errorf("advertise %s: %w", bound, err)
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("--listen %q: give host:port, or :port: %w", listen, err)
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return net.JoinHostPort(host, port), nil
	}
	if allHere(etcd) {
		return net.JoinHostPort("127.0.0.1", port), nil
	}
	addresses, err := network.Or(in).InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("find an address of this machine that other machines can dial: %w: give one with --advertise", err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return net.JoinHostPort(n.IP.String(), port), nil
		}
	}
	return "", errors.New("this machine has no address that other machines can dial: give one with --advertise host:port")
}

// OnlyHere reports whether an address, host:port, means a different machine on each machine that dials it: its host is
// missing, localhost, or a loopback or unspecified IP address.
func OnlyHere(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	host, _, _ = strings.Cut(host, "%") // without the zone of an IPv6 address
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	if name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && (ip.IsLoopback() || ip.IsUnspecified())
}

// Elsewhere reports whether an address belongs to another machine, judged by the addresses of this machine, which is in a network; nil
// means the real one. It looks a name
// up, until ctx is done; an address that can't be found is not elsewhere.
func Elsewhere(ctx context.Context, in network.Network, address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || OnlyHere(address) {
		return false
	}
	in = network.Or(in)
	own, err := in.InterfaceAddrs()
	if err != nil {
		return false
	}
	ips, err := in.LookupHost(ctx, "", host) // for an IP address, the address itself
	if err != nil || len(ips) == 0 {
		return false
	}
	for _, text := range ips {
		text, _, _ = strings.Cut(text, "%")
		ip := net.ParseIP(text)
		if ip == nil || ip.IsLoopback() || ip.IsUnspecified() || slices.ContainsFunc(own, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.Equal(ip)
		}) {
			return false
		}
	}
	return true
}

// allHere reports whether all endpoints are on this machine, judged by their hosts.
func allHere(endpoints []string) bool {
	for _, endpoint := range endpoints {
		if u, err := url.Parse(endpoint); err == nil && u.Host != "" && strings.Contains(endpoint, "://") {
			endpoint = u.Host
		}
		host, _, err := net.SplitHostPort(endpoint)
		if err != nil {
			host = endpoint
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// HTTPAddress returns the address of a listener, as host:port, for others to dial. If the listener takes connections to all addresses of
// the machine, the host is that of known, an address by which others know this machine.
func HTTPAddress(listening net.Addr, known string) string {
	tcp, ok := listening.(*net.TCPAddr)
	host, _, err := net.SplitHostPort(known)
	if !ok || err != nil || !tcp.IP.IsUnspecified() {
		return listening.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}
