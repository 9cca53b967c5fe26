package definition

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// CheckAddresses returns an error if a connector's document names an address to which it may not connect. The document must be resolved: it
// must have no ${NAME} any more. An entry of a.Addresses that is not valid allows nothing.
func (a Access) CheckAddresses(c *Connector) error {
	if a.Addresses == nil {
		return nil
	}
	var mistakes Mistakes
	for _, addr := range c.Addrs {
		if !slices.ContainsFunc(a.Addresses, func(entry string) bool {
			rule, err := parseAddressRule(entry)
			return err == nil && rule.allows(addr)
		}) {
			mistakes = append(mistakes, &Mistake{Document: c.Document.String(), Line: c.Document.LineOf("addrs"), Key: "addrs", Code: batch.CodeBadDocument, Problem: fmt.Sprintf(
				"names the address %s, to which documents may not connect: it is not among those that this process's --document-addresses allows", addr)})
		}
	}
	return mistakes.err()
}

// addressRule is an entry of Access.Addresses. It allows a unix socket, a range of IP addresses, or hosts by their name.
type addressRule struct {
	socket string
	within netip.Prefix
	host   string // in lower case; "*" means all hosts, and "*.domain" all hosts below the domain
	port   string // empty means all ports
}

// parseAddressRule reads an entry of Access.Addresses.
func parseAddressRule(entry string) (r addressRule, err error) {
	wrong := fmt.Errorf("%q is no address: give HOST, HOST:PORT, *.DOMAIN, a range such as 10.0.0.0/8, or the path of a unix socket", entry)
	if strings.HasPrefix(entry, "/") {
		return addressRule{socket: entry}, nil
	}
	if strings.Contains(entry, "/") {
		within, err := netip.ParsePrefix(entry)
		if err != nil {
			return r, wrong
		}
		return addressRule{within: within.Masked()}, nil
	}
	r.host, r.port = splitAddress(entry)
	if name := strings.TrimPrefix(r.host, "*."); r.host == "" || r.host != "*" && strings.Contains(name, "*") || strings.ContainsAny(name, " \t") {
		return r, wrong
	}
	return r, nil
}

// allows reports whether a connector may connect to an address, which stands in its document.
func (r addressRule) allows(addr string) bool {
	if strings.HasPrefix(addr, "/") || r.socket != "" {
		return r.socket == addr
	}
	host, port := splitAddress(addr)
	ip, err := netip.ParseAddr(host)
	if r.within.IsValid() {
		return err == nil && r.within.Contains(ip.Unmap().WithZone(""))
	}
	if r.port != "" && r.port != port {
		return false
	}
	if domain, below := strings.CutPrefix(r.host, "*"); below {
		return domain == "" || err != nil && len(host) > len(domain) && strings.HasSuffix(host, domain)
	}
	if own, wrong := netip.ParseAddr(r.host); wrong == nil && err == nil {
		return own.Unmap() == ip.Unmap()
	}
	return r.host == host
}

// splitAddress splits host:port and [IPv6]:port. The host is in lower case, without the brackets and without a point at its end. The port is
// empty if there is none.
func splitAddress(addr string) (host, port string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = strings.Trim(addr, "[]"), ""
	}
	return strings.TrimSuffix(strings.ToLower(host), "."), port
}
