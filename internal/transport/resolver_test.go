package transport

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/kisgrid/kisgrid/internal/bubble"
)

// told is what a resolver told gRPC last.
type told struct {
	resolver.ClientConn
	mu        sync.Mutex
	addresses []string // guarded by mu, as all
	updates   int
	errs      []error
}

func (c *told) UpdateState(s resolver.State) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.updates++
	c.addresses = nil
	for _, a := range s.Addresses {
		c.addresses = append(c.addresses, a.Addr)
	}
	return nil
}

func (c *told) ReportError(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errs = append(c.errs, err)
}

func TestNamesAreLookedUpAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		answer, lookups := []string{"10.0.0.2", "10.0.0.1", "10.0.0.2"}, 0
		failure := errors.New("no such host")
		say := func(hosts ...string) {
			mu.Lock()
			defer mu.Unlock()
			answer = hosts
		}
		target, cc := resolver.Target{}, &told{}
		target.URL.Host, target.URL.Path = "10.9.9.9", "/coordinators:7701"
		r, err := dnsBuilder{func(_ context.Context, server, host string) ([]string, error) {
			mu.Lock()
			defer mu.Unlock()
			lookups++
			if server != "10.9.9.9" || host != "coordinators" {
				t.Errorf("asked %q for %q", server, host)
			}
			if answer == nil {
				return nil, failure
			}
			return slices.Clone(answer), nil
		}}.Build(target, cc, resolver.BuildOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		want := func(addresses ...string) {
			t.Helper()
			synctest.Wait()
			cc.mu.Lock()
			defer cc.mu.Unlock()
			if !slices.Equal(cc.addresses, addresses) {
				t.Errorf("gRPC was told %v, want %v", cc.addresses, addresses)
			}
		}
		want("10.0.0.1:7701", "10.0.0.2:7701")

		// Whoever is new is found without a connection that breaks, and the same again is no news.
		time.Sleep(time.Minute)
		say("10.0.0.1", "10.0.0.2", "10.0.0.3")
		time.Sleep(lookupPause * 6 / 5)
		want("10.0.0.1:7701", "10.0.0.2:7701", "10.0.0.3:7701")
		if cc.updates != 2 {
			t.Errorf("gRPC was told %d times of two answers", cc.updates)
		}

		// A broken connection hurries it, and many do no more.
		say("10.0.0.3")
		before := lookups
		for range 20 {
			r.ResolveNow(resolver.ResolveNowOptions{})
			time.Sleep(lookupRetry / 10)
		}
		want("10.0.0.3:7701")
		if n := lookups - before; n > 3 {
			t.Errorf("%d lookups within two seconds", n)
		}

		// A failure leaves what was known, and is tried again soon.
		say()
		time.Sleep(10 * lookupPause)
		want("10.0.0.3:7701")
		if len(cc.errs) == 0 || !errors.Is(cc.errs[0], failure) {
			t.Errorf("errors: %v", cc.errs)
		}
		say("10.0.0.4")
		time.Sleep(lookupRetry)
		want("10.0.0.4:7701")
	})
}

func TestNamesOfAllKinds(t *testing.T) {
	for _, test := range []struct{ endpoint, host, address string }{
		{"a", "a", "a:7700"},
		{"a:1", "a", "a:1"},
		{":1", "localhost", "localhost:1"},
		{"10.0.0.1", "10.0.0.1", "10.0.0.1:7700"},
		{"::1", "::1", "[::1]:7700"},
		{"[::1]", "::1", "[::1]:7700"},
		{"[fe80::1%eth0]:1", "fe80::1%eth0", "[fe80::1%eth0]:1"},
		{"a:", "", ""},
		{"", "", ""},
	} {
		bubble.Test(t, func(t *testing.T) {
			target, cc := resolver.Target{}, &told{}
			target.URL.Path = "/" + test.endpoint
			r, err := dnsBuilder{func(_ context.Context, _, host string) ([]string, error) {
				if host != test.host {
					t.Errorf("%q: %q is looked up, want %q", test.endpoint, host, test.host)
				}
				return []string{host}, nil
			}}.Build(target, cc, resolver.BuildOptions{})
			if test.host == "" {
				if err == nil {
					t.Errorf("%q is looked up", test.endpoint)
				}
				return
			}
			if err != nil {
				t.Fatalf("%q: %v", test.endpoint, err)
			}
			defer r.Close()
			synctest.Wait()
			cc.mu.Lock()
			defer cc.mu.Unlock()
			if !slices.Equal(cc.addresses, []string{test.address}) {
				t.Errorf("%q: gRPC was told %v, want %s", test.endpoint, cc.addresses, test.address)
			}
		})
	}
}
