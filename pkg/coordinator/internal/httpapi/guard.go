package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// changeHeader is the header that a browser must send with each request that may change something. A page of another site can't add it
// without being asked by the browser for leave, which this server gives to nobody.
const changeHeader = "KisGrid-Request"

// privateDomains are endings of names that nobody can buy, so that a page of the Internet can't have such a name.
var privateDomains = []string{"localhost", "local", "internal", "intranet", "lan", "home.arpa", "test", "svc", "cluster.local"}

// guard keeps the pages of other sites away from the API, whoever the browser's user is:
//
//   - The Host header must name this server. Otherwise a page could have a name of its own resolve to this server's address, and be of the
//     same origin as the API (DNS rebinding). Addresses, names without a dot, and names that nobody can buy are this server's in any case;
//     other names must be in hosts.
//   - A request that says from which origin it comes must come from this server's own.
//   - A request that a browser makes, and that may change something, must have the header KisGrid-Request.
type guard struct {
	hosts []string // further names of this server, in lower case; "*" allows all names
}

// check returns an error if a request may have been made by a page of another site.
func (g *guard) check(r *http.Request) error {
	host, ok := hostOf(r.Host)
	if !ok || !g.knows(host) {
		return statusError{batch.Errorf(batch.CodeBadMessage, "this server does not know the name of the Host header as its own: "+
			"call it by its address, or name the host in --http-hosts of the coordinators"), http.StatusMisdirectedRequest}
	}
	if site := r.Header.Values("Sec-Fetch-Site"); slices.ContainsFunc(site, func(s string) bool { return s != "same-origin" && s != "none" }) {
		return foreign()
	}
	origins := r.Header.Values("Origin")
	if len(origins) > 1 || len(origins) == 1 && !sameOrigin(origins[0], r) {
		return foreign()
	}
	if fromBrowser(r) && !safe(r.Method) && r.Header.Get(changeHeader) == "" {
		return batch.Errorf(batch.CodePermissionDenied, "a browser must send the header %s: 1 with a request that may change something", changeHeader)
	}
	return nil
}

// foreign is the error of a request from a page of another site.
func foreign() error {
	return batch.Errorf(batch.CodePermissionDenied, "the request comes from a page of another site: call this API from its own origin, or from a program")
}

// knows reports whether a host, in lower case and without a port, is a name of this server.
func (g *guard) knows(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	if !strings.Contains(host, ".") || slices.Contains(g.hosts, "*") || slices.Contains(g.hosts, host) {
		return true
	}
	return slices.ContainsFunc(privateDomains, func(domain string) bool { return strings.HasSuffix(host, "."+domain) })
}

// hostOf returns the host of a Host header, in lower case and without port, brackets and final dot. ok is false where it is no name of a
// host.
func hostOf(header string) (host string, ok bool) {
	host = header
	if name, port, err := net.SplitHostPort(header); err == nil {
		if strings.Trim(port, "0123456789") != "" {
			return "", false
		}
		host = name
	} else if strings.HasPrefix(header, "[") && strings.HasSuffix(header, "]") {
		host = header[1 : len(header)-1]
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host, host != "" && !strings.ContainsAny(host, "/@\\#? \t,;\"'<>")
}

// sameOrigin reports whether an Origin header names the origin that the request was sent to.
func sameOrigin(origin string, r *http.Request) bool {
	u, err := url.Parse(origin)
	// "null", the origin of sandboxed pages and of files, has no host. The scheme is not compared, since a proxy may have ended TLS.
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// fromBrowser reports whether a browser may have made the request, because it has a header that browsers send by themselves.
func fromBrowser(r *http.Request) bool {
	return slices.ContainsFunc([]string{"Origin", "Referer", "Cookie", "Sec-Fetch-Site"}, func(name string) bool {
		return len(r.Header.Values(name)) > 0
	})
}

// safe reports whether a request with this method changes nothing.
func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// secure sets headers that keep browsers from guessing the type of an answer, from showing it within other pages, and from keeping it.
func secure(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}
