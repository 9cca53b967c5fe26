package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/internal/transport"
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
		if err := transport.CheckAddress(given); err != nil {
			return "", fmt.Errorf("--advertise %q, which others are to dial: %w", given, err)
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

// OnlyHere reports whether an address, host:port, means whatever machine dials it: its host is missing, localhost, or a
// loopback or unspecified IP.
func OnlyHere(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	host, _, _ = strings.Cut(host, "%") // an IPv6 zone
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	if name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && (ip.IsLoopback() || ip.IsUnspecified())
}

// Elsewhere reports whether an address is on another machine, as far as this one's own addresses tell. A name is looked up,
// for as long as ctx lasts; one that can't be found is not elsewhere.
func Elsewhere(ctx context.Context, address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || OnlyHere(address) {
		return false
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	ips, err := net.DefaultResolver.LookupHost(ctx, host) // an IP stands for itself
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
