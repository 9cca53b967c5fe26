package transport

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Advertised is where others are to dial a process whose listener, opened at the address listen, is bound to an address. It
// is given, where that is not empty; else the host of listen; else, where listen names none, 127.0.0.1 if all etcd endpoints
// are on this machine, and this machine's first address otherwise. The port is the bound one.
func Advertised(given, listen string, bound net.Addr, etcd []string) (string, error) {
	if given != "" {
		host, port, err := net.SplitHostPort(given)
		if err != nil || host == "" || port == "" {
			return "", fmt.Errorf("--advertise %q: give host:port, as others dial it", given)
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
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("find an address of this machine that others can dial: give one with --advertise: %w", err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return net.JoinHostPort(n.IP.String(), port), nil
		}
	}
	return "", errors.New("this machine has no address that others can dial: give one with --advertise host:port")
}

// allHere reports whether all endpoints are on this machine, as far as their addresses tell.
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
