package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/kisgrid/kisgrid/internal/network"
)

// Times of looking up a name's addresses.
const (
	// lookupPause is how often a name is looked up, give or take a fifth. So new servers under the name are found. gRPC's own
	// resolver looks a name up again only when a connection broke, and at most every 30 s.
	lookupPause = 5 * time.Second
	// lookupRetry is how soon a lookup follows a failed one, or a broken connection.
	lookupRetry = time.Second
	// lookupTimeout limits one lookup.
	lookupTimeout = 5 * time.Second
)

// dnsBuilder makes resolvers for targets of the form dns:///name:port, and dns://server:port/name:port, which asks that name
// server. It takes the place of gRPC's own resolver for the scheme dns.
type dnsBuilder struct {
	// lookup returns the IP addresses of a host. An empty server means the system's name servers.
	lookup func(ctx context.Context, server, host string) ([]string, error)
}

// Scheme implements resolver.Builder: it returns "dns", so that gRPC uses this resolver for dns:///name:port.
func (dnsBuilder) Scheme() string { return "dns" }

// Build implements resolver.Builder: it starts looking up the target's name. A target without a host means this machine.
func (n dnsBuilder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	host, port := hostPort(target.Endpoint(), defaultPort)
	switch {
	case port == "" || target.Endpoint() == "":
		return nil, fmt.Errorf("look up %q: write dns:///name:port", target.URL.String())
	case host == "":
		host = "localhost"
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &dnsResolver{dnsBuilder: n, cc: cc, server: target.URL.Host, host: host, port: port, lookNow: make(chan struct{}, 1), cancel: cancel}
	l.running.Go(func() { l.run(ctx) })
	return l, nil
}

// hostPort splits an address into host and port. For an address without a port it returns standard as the port. An IPv6 address
// may stand in brackets, and must when it has a port.
func hostPort(address, standard string) (host, port string) {
	if host, port, err := net.SplitHostPort(address); err == nil {
		return host, port
	}
	return strings.Trim(address, "[]"), standard
}

// dnsResolver looks one name up again and again, and reports its addresses to gRPC. Only its goroutine, run, does that.
type dnsResolver struct {
	dnsBuilder
	cc                 resolver.ClientConn // gRPC's side, which gets the addresses
	server, host, port string              // the target's parts: the name server to ask, or ""; the host to look up; the port to dial
	lookNow            chan struct{}       // holds a token when a connection broke
	cancel             context.CancelFunc  // ends run
	running            sync.WaitGroup      // the goroutine of run
}

// ResolveNow implements resolver.Resolver: gRPC calls it when a connection broke.
func (l *dnsResolver) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case l.lookNow <- struct{}{}:
	default:
	}
}

// Close implements resolver.Resolver: it ends the goroutine that looks the name up, and waits for it.
func (l *dnsResolver) Close() {
	l.cancel()
	l.running.Wait()
}

// run looks the name up every lookupPause until ctx is done, and reports changed addresses and errors to gRPC.
func (l *dnsResolver) run(ctx context.Context) {
	var known []string
	for {
		found, err := l.lookUpHosts(ctx)
		if err == nil && !slices.Equal(found, known) {
			if err = l.updateAddresses(found); err == nil {
				known = found
			}
		}
		pause := lookupPause*4/5 + rand.N(lookupPause*2/5)
		if err != nil && ctx.Err() == nil {
			l.cc.ReportError(err) // calls fail with err, unless an earlier lookup has found addresses
			pause = lookupRetry
		}
		if !l.wait(ctx, pause) {
			return
		}
	}
}

// wait blocks until the time of the next lookup: after pause, or after lookupRetry if a connection broke. It returns false when
// ctx is done.
func (l *dnsResolver) wait(ctx context.Context, pause time.Duration) bool {
	began := time.Now()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return true
		case <-l.lookNow:
			timer.Reset(min(pause, lookupRetry) - time.Since(began))
		case <-ctx.Done():
			return false
		}
	}
}

// lookUpHosts returns the IP addresses of the resolver's host, sorted and without duplicates. A host without an address is an
// error.
func (l *dnsResolver) lookUpHosts(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	hosts, err := l.lookup(ctx, l.server, l.host)
	if err == nil && len(hosts) == 0 {
		err = errors.New("the name has no address")
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", l.host, err)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

// updateAddresses reports the addresses to gRPC.
func (l *dnsResolver) updateAddresses(hosts []string) error {
	var s resolver.State
	for _, host := range hosts {
		s.Addresses = append(s.Addresses, resolver.Address{Addr: net.JoinHostPort(host, l.port)})
	}
	return l.cc.UpdateState(s)
}

// lookUp returns the IP addresses of a host. It asks the name servers of the network where server is "", and else the name server at that
// address.
func (c *Config) lookUp(ctx context.Context, server, host string) ([]string, error) {
	if server != "" {
		server = net.JoinHostPort(hostPort(server, "53"))
	}
	return network.Or(c.Network).LookupHost(ctx, server, host)
}
