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
)

const (
	// lookupPause is how often a name's addresses are looked up, give or take a fifth: who is new is found by that. gRPC's own
	// resolver looks again only when a connection broke, and then not within 30 s.
	lookupPause = 5 * time.Second
	// lookupRetry is how soon a lookup follows one that failed, or a broken connection.
	lookupRetry = time.Second
	// lookupTimeout bounds one lookup.
	lookupTimeout = 5 * time.Second
)

// names resolves dns:///name:port, and dns://server:port/name:port, which asks that server.
type dnsBuilder struct {
	// lookup returns a host's addresses; server is empty for the system's.
	lookup func(ctx context.Context, server, host string) ([]string, error)
}

// Scheme implements resolver.Builder: it takes the place of gRPC's own.
func (dnsBuilder) Scheme() string { return "dns" }

// Build implements resolver.Builder. A port without a host is this machine's, as everywhere in Go.
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

// hostPort splits an address that need not have a port. IPv6 may stand in brackets, and without a port also without them.
func hostPort(address, standard string) (host, port string) {
	if host, port, err := net.SplitHostPort(address); err == nil {
		return host, port
	}
	return strings.Trim(address, "[]"), standard
}

// lookups keeps the addresses of one name up to date. Its goroutine alone tells gRPC of them.
type dnsResolver struct {
	dnsBuilder
	cc                 resolver.ClientConn
	server, host, port string
	lookNow            chan struct{} // holds a token when a connection broke
	cancel             context.CancelFunc
	running            sync.WaitGroup
}

// ResolveNow implements resolver.Resolver.
func (l *dnsResolver) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case l.lookNow <- struct{}{}:
	default:
	}
}

// Close implements resolver.Resolver. It waits for the goroutine.
func (l *dnsResolver) Close() {
	l.cancel()
	l.running.Wait()
}

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
			l.cc.ReportError(err) // calls fail with it, unless there are addresses from before
			pause = lookupRetry
		}
		if !l.wait(ctx, pause) {
			return
		}
	}
}

// wait waits for the next lookup; false when there is none.
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

// look returns the hosts that the name stands for, in order.
func (l *dnsResolver) lookUpHosts(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	hosts, err := l.lookup(ctx, l.server, l.host)
	if err == nil && len(hosts) == 0 {
		err = errors.New("it has no address")
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", l.host, err)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

func (l *dnsResolver) updateAddresses(hosts []string) error {
	var s resolver.State
	for _, host := range hosts {
		s.Addresses = append(s.Addresses, resolver.Address{Addr: net.JoinHostPort(host, l.port)})
	}
	return l.cc.UpdateState(s)
}

// lookUp asks the system's name servers, or the one given.
func lookUp(ctx context.Context, server, host string) ([]string, error) {
	if server == "" {
		return net.DefaultResolver.LookupHost(ctx, host)
	}
	server = net.JoinHostPort(hostPort(server, "53"))
	asking := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, server)
	}}
	return asking.LookupHost(ctx, host)
}
